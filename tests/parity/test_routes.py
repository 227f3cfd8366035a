"""All ways to run one model: which backends, which process, and what is left behind."""

import subprocess
import tempfile

import numpy as np
import pytest

from xaimaps import PRESETS
from xaimaps import _registry as plugins
from xaimaps.errors import BackendError, ModelLoadError
from xaimaps.parity import compare, routes
from xaimaps.testing import ReferenceBackend, pooled_network

QUIET = "ignore:__array__ implementation:DeprecationWarning"  # when Keras saves a model
pytestmark = pytest.mark.filterwarnings(QUIET)
IMAGES = np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)


@pytest.fixture
def keras():
    """Keras on TensorFlow, with the converter."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    return pytest.importorskip("keras")


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    """Where temporary files are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def children(monkeypatch):
    """The processes that were started."""
    started, real = [], subprocess.run

    def counted(command, **options):
        started.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    return started


def network(keras, *layers, outputs=(5,)):
    x = images = keras.Input((16, 16, 3), name="images")
    for layer in (*layers, keras.layers.Conv2D(4, 3, activation="relu", name="conv")):
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    heads = [keras.layers.Dense(n, name=f"head{n}")(x) for n in outputs]
    seeded = pytest.importorskip("xaimaps_tensorflow.testing.models").seeded
    return seeded(keras.Model(images, heads if len(heads) > 1 else heads[0], name="net"))


def agrees(models):
    for model in models.values():
        model.info.preprocess = PRESETS["unit"]
    return compare(models, IMAGES, ["saliency", "cam", "grad_cam"]).agrees


def test_a_file_is_converted_once_in_another_process(keras, tmp_path, scratch, children, capfd):
    """The options of loading go with it, and nothing remains of it."""
    path = tmp_path / "small.keras"
    network(keras, keras.layers.Lambda(lambda x: x * 2), outputs=(5, 2)).save(path)
    capfd.readouterr()
    models = routes(path, output="head2", allow_unsafe=True, preprocess="tf", labels=["no", "yes"])
    assert capfd.readouterr() == ("", "")
    assert list(models) == ["tensorflow", "onnxruntime", "jax"]
    assert len(children) == 1
    assert list(scratch.glob("xaimaps-*")) == []
    infos = [model.info for model in models.values()]
    assert {(i.name, i.source, i.sha256, i.labels, i.preprocess) for i in infos} == {
        ("small", str(path), infos[0].sha256, ("no", "yes"), PRESETS["tf"])
    }
    assert agrees(models)


def test_a_failure_leaves_nothing(keras, tmp_path, scratch, monkeypatch):
    path = tmp_path / "small.keras"
    network(keras).save(path)

    def spoiled(command, **options):
        path.write_bytes(b"another file meanwhile")
        return real(command, **options)

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", spoiled)
    with pytest.raises(ModelLoadError):
        routes(path)
    assert list(scratch.glob("xaimaps-*")) == []


def test_what_only_this_process_has_is_converted_here(keras, tmp_path, scratch, children):
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return x * 2

    model = network(keras, Doubled(name="doubled"))
    model.save(tmp_path / "own.keras")
    for given, options in (
        (model, {}),
        (tmp_path / "own.keras", {"custom_objects": {"Doubled": Doubled}}),
    ):
        models = routes(given, **options)
        assert list(models) == ["tensorflow", "onnxruntime", "jax"]
        assert list(scratch.glob("xaimaps-*")) == []
        assert agrees(models)
    assert children == []


def test_no_conversion_where_nobody_wants_it(keras, monkeypatch):
    monkeypatch.setattr("xaimaps_tensorflow.to_onnx._exporter.NEEDED", ("abacus",))
    model = network(keras)
    assert list(routes(model, ["tensorflow"])) == ["tensorflow"]
    assert list(routes(model, convert=False)) == ["tensorflow"]
    with pytest.raises(BackendError, match="abacus, which is not installed"):
        routes(model)


def test_the_embedded_model_is_never_converted(children):
    assert len(routes("default", plugins.installed())) == len(plugins.installed())
    assert children == []


class Plugin(ReferenceBackend):
    """Somebody else's backend for Keras files."""

    @classmethod
    def accepts(cls, model):
        return str(model).endswith(".keras")

    @classmethod
    def load(cls, model, **options):
        return cls(pooled_network())


def test_models_of_other_backends_are_not_converted(monkeypatch, tmp_path, children):
    backends = {"theirs": Plugin, "onnxruntime": plugins.get_backend("onnxruntime")}
    monkeypatch.setattr(plugins, "installed", lambda: backends)
    monkeypatch.setattr(plugins, "get_backend", backends.__getitem__)
    path = tmp_path / "small.keras"
    path.touch()
    assert list(routes(path, backends)) == ["theirs"]
    assert children == []


@pytest.mark.usefixtures("scratch")
def test_the_size_that_is_told_is_that_of_every_route(keras):
    """A model that declares any size, but runs at 9 x 13."""
    images = keras.Input((None, None, 3))
    rows = keras.ops.reshape(keras.layers.Conv2D(4, 1)(images), (-1, 9 * 13, 4))
    scores = keras.layers.Dense(1)(keras.ops.swapaxes(rows, 1, 2))[..., 0]
    found = routes(keras.Model(images, scores), input_size=(9, 13))
    assert len(found) > 1
    assert {backend.input_shape for backend in found.values()} == {(9, 13, 3)}
