"""Compiled programs on disk: a later process finds them, unless anything in them differs."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xaimaps_jax import _cache_key, _compilation_cache
from xaimaps_jax._compilation import compiled

import xaimaps
from xaimaps import _memory
from xaimaps.testing import pooled_network
from xaimaps.testing.conformance import FEW, REFERENCE_METHODS

GLIBC = pytest.mark.skipif(_memory._glibc() is None, reason="it concerns glibc")
ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="it concerns programs for CPU")
IMAGES = np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)


@contextmanager
def configured(**flags):
    """Change JAX's flags for a while."""
    before = {name: jax.config.values[name] for name in flags}
    try:
        for name, value in flags.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of programs, which takes even those that compile at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_compilation_cache, "LEAST_SECONDS", 0)
    with configured(jax_compilation_cache_dir=None, jax_enable_compilation_cache=True):
        yield tmp_path / "xaimaps" / "programs"


@pytest.fixture
def compilations(monkeypatch):
    """Return a list that grows with each program that XLA compiles."""
    found, original = [], _compilation_cache._compiled

    def noted(*arguments):
        found.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(_compilation_cache, "_compiled", noted)
    return found


@pytest.fixture
def explained(build, compilations):
    """Return a function for a model's maps, and how many programs were compiled for them.

    The model is new each time, as in a new process.
    """

    def explain(method="saliency", *, precision="float32", steps=None, **options):
        compilations.clear()
        model = build(pooled_network(), "onnx").with_precision(precision)
        model.info.preprocess = xaimaps.PRESETS["tf"]
        with model.watch.by(steps) if steps else nullcontext():
            found = xaimaps.attribute(model, IMAGES, method, target=1, **options)
        return found.maps, len(compilations)

    return explain


def of(fn, *arguments):
    """Run a function as a program of its own."""
    return compiled(fn, *arguments)(*arguments)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("method", REFERENCE_METHODS)
def test_maps_from_disk_are_the_same(method, folder, explained):
    expected, count = explained(method, **FEW.get(method, {}))
    assert count == len(names(folder)) > 0
    found, count = explained(method, **FEW.get(method, {}))
    assert count == 0
    np.testing.assert_array_equal(found, expected)


ONE_DEVICE = """
images = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype("float32")
found = [xaimaps.attribute("default", images, "saliency", target=285)]
"""
EIGHT_DEVICES = """
images = np.random.default_rng(0).normal(size=(8, 9, 9, 3)).astype("float32")
weights = np.random.default_rng(1).normal(size=(9, 9, 3, 5)).astype("float32")
model = xaimaps.load(
    lambda weights, x: jax.numpy.tanh(jax.numpy.einsum("nhwc,hwck->nk", x, weights)),
    params=weights, input_shape=(9, 9, 3),
)
found = [
    xaimaps.attribute(each, images, "saliency", target=1)
    for each in (model, model.on_devices(2), model.on_devices(8))
]
with jax.default_device(jax.devices()[3]):
    other = xaimaps.load(lambda _, x: x.sum((1, 2)) ** 2, params={}, input_shape=(9, 9, 3))
    found.append(xaimaps.attribute(other, images, "saliency", target=1))
"""
PROCESS = """
import hashlib, sys
import jax
import numpy as np
import xaimaps
from xaimaps_jax import _compilation_cache

_compilation_cache.LEAST_SECONDS = 0
if "keep" in sys.argv:
    xaimaps.keep_memory()
if "found" in sys.argv:
    del _compilation_cache._compiled
"""


@pytest.mark.parametrize(
    ("script", "programs", "setup"),
    [(ONE_DEVICE, 1, []), (ONE_DEVICE, 1, ["keep"]), (EIGHT_DEVICES, 4, [])],
    ids=["by default", "memory kept", "several devices"],
)
def test_another_process_finds_the_programs(script, programs, setup, tmp_path):
    settings = ("JAX_COMPILATION", "JAX_ENABLE_COMPILATION", "JAX_PERSISTENT")
    environment = {n: v for n, v in os.environ.items() if not n.startswith(settings)}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    if script == EIGHT_DEVICES:
        environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    code = PROCESS + script + "print(*(hashlib.sha256(one.maps).hexdigest() for one in found))"

    def run(*arguments):
        command = [sys.executable, "-c", code, *setup, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    expected = run()
    folder = tmp_path / "xaimaps" / "programs"
    assert len(names(folder)) == programs
    assert os.name != "posix" or folder.stat().st_mode & 0o077 == 0
    assert run("found") == expected


def flax_model():
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.features = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.head = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, images):
            return self.head(nnx.relu(self.features(images)).mean((1, 2)))

    return Network(nnx.Rngs(0))


def equinox_model():
    eqx = pytest.importorskip("equinox")
    convolution = eqx.nn.Conv2d(3, 8, 3, key=jax.random.key(0))
    pooled = eqx.nn.Lambda(lambda x: jax.nn.relu(x).mean((1, 2)))
    return eqx.nn.Sequential([convolution, pooled])


@pytest.mark.parametrize("make", [flax_model, equinox_model])
def test_programs_of_models_with_their_own_trees(make, folder, compilations):
    for _ in range(2):
        xaimaps.attribute(xaimaps.load(make()), IMAGES, "saliency", target=1)
    assert len(names(folder)) == len(compilations) == 1


def scaled(factor):
    return lambda x: x * np.float32(factor)


def test_a_program_is_that_of_its_constants_shapes_and_types(folder):
    wide = np.arange(200_000, dtype=np.float32)
    changed = wide.copy()
    changed[150_001] = 0  # text of the program would leave it out
    x = np.ones(200_000, np.float32)
    for weights in (wide, changed):
        np.testing.assert_array_equal(of(lambda x, weights=weights: x * weights, x), weights)
    for factor in (2, 3):
        assert of(scaled(factor), np.ones(2, np.float32)).tolist() == [factor, factor]
    assert of(scaled(3), np.ones(3, np.float32)).tolist() == [3, 3, 3]
    assert of(lambda x: x * 3, np.ones(3, np.int32)).dtype == np.int32
    assert len(names(folder)) == 6


def test_a_program_is_that_of_its_precision(folder, explained):
    for count, precision in enumerate(("float32", "bfloat16"), start=1):
        assert explained(precision=precision)[1] == 1
        assert len(names(folder)) == count


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"xla_cpu_enable_fast_math": "true"}},
        {"variable": ("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")},
        {"flags": {"jax_disable_most_optimizations": True}},
        {"processor": "flags: of another"},
        {"devices": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_program_is_that_of_its_compiler_and_device(change, monkeypatch):
    lowered = jax.jit(jnp.sin).lower(np.ones(3, np.float32))
    (device,) = _cache_key.devices_of(())

    class Other:
        client, id, device_kind = device.client, device.id + 1, device.device_kind

    usual = {"jax_disable_most_optimizations": False}
    with configured(**usual):
        before = _cache_key.cache_key(lowered, None, (device,))
        assert _cache_key.cache_key(lowered, None, (device,)) == before
    if "variable" in change:
        monkeypatch.setenv(*change["variable"])
    if "processor" in change:
        monkeypatch.setattr(_cache_key, "_processor", lambda: change["processor"])
    with configured(**usual | change.get("flags", {})):
        devices = (Other,) if "devices" in change else (device,)
        assert _cache_key.cache_key(lowered, change.get("options"), devices) != before


def test_the_line_that_calls_does_not_matter(folder, compilations):
    x = np.ones(3, np.float32)
    of(scaled(2), x)
    of(lambda y: y * np.float32(2), x)
    assert len(names(folder)) == len(compilations) == 1


@pytest.mark.parametrize("harm", [lambda stored: stored[:-1], lambda _: b"", lambda _: b"0" * 99])
def test_a_file_that_is_not_whole_is_written_again(harm, folder, compilations):
    x = np.ones(3, np.float32)
    for _ in range(2):
        of(scaled(2), x)
    (file,) = folder.iterdir()
    stored = file.read_bytes()
    file.write_bytes(harm(stored))
    assert of(scaled(2), x).tolist() == [2, 2, 2]
    assert len(compilations) == 2
    assert file.read_bytes() != harm(stored)
    of(scaled(2), x)
    assert len(compilations) == 2


def test_without_a_folder_programs_are_compiled(folder, compilations, monkeypatch):
    x = np.ones(3, np.float32)
    (folder.parent.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent.parent / "file"))
    assert of(scaled(2), x).tolist() == [2, 2, 2]
    monkeypatch.delenv("XDG_CACHE_HOME")

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(_compilation_cache.Path, "home", home)
    assert of(scaled(2), x).tolist() == [2, 2, 2]
    assert len(compilations) == 2


def test_a_version_of_xla_without_an_option_compiles_without_it():
    lowered = jax.jit(lambda x: x + 1).lower(1.0)
    assert _compilation_cache._compiled(lowered, {"xla_no_such_option": True})(1.0) == 2
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_scheduler_type"):
        _compilation_cache._compiled(lowered, {"xla_cpu_scheduler_type": "NO_SUCH_SCHEDULER"})


def test_the_programs_used_last_stay(folder, monkeypatch):
    x = np.ones(3, np.float32)
    for age, factor in enumerate((2, 3, 4)):
        of(scaled(factor), x)
        for path in set(folder.iterdir()):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100 + age))
    sizes = [path.stat().st_size for path in folder.iterdir()]
    of(scaled(2), x)  # used again
    before = set(names(folder))
    monkeypatch.setattr(_compilation_cache, "MOST_BYTES", max(sizes) * 3.5)
    of(scaled(5), x)
    assert len(before & set(names(folder))) == 2
    compilations = []
    monkeypatch.setattr(_compilation_cache, "_compiled", compilations.append)
    for factor in (2, 4, 5):
        assert of(scaled(factor), x).tolist() == [factor] * 3
    assert compilations == []


@pytest.mark.parametrize(
    "flags",
    [{"jax_enable_compilation_cache": False}, {"jax_compilation_cache_dir": "jax"}],
    ids=["switched off", "in a folder of JAX"],
)
def test_jax_settings_have_priority(flags, folder, explained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with configured(**flags):
        assert explained()[1] == 1
    assert not folder.exists()


def test_programs_that_report_progress_are_not_written(folder, explained):
    options = {"n_masks": 64, "memory": 0.001}
    steps = []
    for _ in range(2):
        _, count = explained("rise", steps=lambda *step: steps.append(step), **options)
        assert count == 1
        assert len(steps) >= 8
        steps.clear()
    assert names(folder) == []


@pytest.mark.parametrize("inner", [lambda fn: fn, jax.checkpoint, jax.jit])
def test_programs_that_call_python_are_not_written(inner, folder):
    def run(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda x: np.asarray(x) + len(seen), shape, x)

    seen = []
    x = np.ones(3, np.float32)
    assert of(inner(run), x).tolist() == [1, 1, 1]
    seen.append(1)
    assert of(inner(run), x).tolist() == [2, 2, 2]
    assert names(folder) == []


@pytest.fixture(params=[False, True], ids=["memory not kept", "memory kept"])
def is_kept(request, monkeypatch):
    event = threading.Event()
    monkeypatch.setattr(_memory, "_KEPT", event)
    if request.param:
        event.set()
    return request.param


@ON_CPU
@GLIBC
def test_values_of_any_size_use_memory_again_where_it_is_kept(is_kept):
    def model(_, x):
        return x.sum((1, 2))

    backend = xaimaps.load(model, params={}, input_shape=(9, 9, 3))
    assert backend.device.reused == (None if is_kept else 31 * 2**20)


@ON_CPU
@GLIBC
def test_large_programs_are_written_where_memory_is_kept(is_kept, folder):
    def large(x):
        values = [jax.lax.cumsum(x * factor) for factor in range(1, 5)]
        return sum(jax.lax.cumsum(value, reverse=True) for value in values)

    of(large, np.ones(5_000_000, np.float32))  # 20 MB
    assert len(names(folder)) == is_kept
