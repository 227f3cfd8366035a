"""What the command line sets in its process, and `prepare_process` on request."""

import os
import subprocess
import sys

import pytest

from xaimaps import _process

GLIBC = pytest.mark.skipif(_process._glibc() is None, reason="it concerns glibc")
NOTHING = ""
PREPARED = "import xaimaps; xaimaps.prepare_process()"
STARTED = """
import sys
from xaimaps._cli import start
sys.argv = ["xaimaps", "methods", "--quiet", "--json"]
try:
    start()
except SystemExit:
    pass
"""
FAULTS = """
import resource
import numpy as np

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, "f4")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print("faults", faults())
"""
"""Page faults of 200 MB, after as much has been freed."""
PROGRAMS = """
import jax
{configured}
import xaimaps
xaimaps.prepare_process()
jax.jit(lambda x: jax.numpy.linalg.svd(x @ x))(jax.numpy.ones((9, 9)))
print("folder", jax.config.jax_compilation_cache_dir)
"""


def told(code, word, **environment):
    """Run code in a process without settings of its own, and return what it prints after a word."""
    inherited = ("GLIBC_TUNABLES", "MALLOC_", "JAX_COMPILATION", "JAX_PERSISTENT", "JAX_ENABLE")
    plain = {n: v for n, v in os.environ.items() if not n.startswith(inherited)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=plain | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition(word)[2].strip()


@GLIBC
@pytest.mark.parametrize("setup", [PREPARED, STARTED])
def test_freed_memory_is_used_again(setup, tmp_path):
    found = told(setup + "\n" + FAULTS, "faults", XDG_CACHE_HOME=str(tmp_path))
    assert int(found) < 20


@GLIBC
@pytest.mark.parametrize(
    ("setup", "environment"),
    [
        (NOTHING, {}),
        (PREPARED, {"MALLOC_MMAP_THRESHOLD_": "131072"}),
        (PREPARED, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}),
    ],
    ids=["by default", "by a variable", "by a tunable"],
)
def test_freed_memory_goes_back_to_the_system(setup, environment, tmp_path):
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    # a page of 4 kB, or as a kernel may have it, of 2 MB
    assert int(told(setup + "\n" + FAULTS, "faults", **environment)) >= 90


@GLIBC
def test_kept_memory_can_be_returned():
    script = "from xaimaps._process import *\nkeep_memory()" + FAULTS
    script += "return_memory()\nprint('and', faults())"
    kept, returned = told(script, "faults").split("and")
    assert int(kept) < 20
    assert int(returned) >= 90


@GLIBC
def test_glibc_takes_each_parameter(monkeypatch):
    taken = []

    class Library:
        def mallopt(self, *parameter):
            taken.append(parameter)

    monkeypatch.setattr(_process, "_glibc", Library)
    for name in ("GLIBC_TUNABLES", *_process._CONFIGURED):
        monkeypatch.delenv(name, raising=False)
    _process.keep_memory()
    script = "import ctypes\n" + "".join(
        f"assert ctypes.CDLL(None).mallopt{parameter} == 1\n" for parameter in taken
    )
    assert told(script + f"print('taken', {len(taken)})", "taken") == "3"


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_other_systems_have_nothing_to_set(error, monkeypatch):
    def confstr(name):
        raise error(name)

    monkeypatch.setattr(os, "confstr", confstr)
    _process.keep_memory()
    _process.return_memory()
    assert _process._glibc() is None


def test_programs_are_kept_where_jax_was_imported_before(tmp_path):
    pytest.importorskip("jax")
    named = {"XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    folder = told(PROGRAMS.format(configured=""), "folder", **named)
    assert folder == str(tmp_path / "xaimaps" / "jax")
    assert list((tmp_path / "xaimaps" / "jax").iterdir())


def test_programs_are_kept_where_the_user_wants_them(tmp_path):
    pytest.importorskip("jax")
    chosen = f"jax.config.update('jax_compilation_cache_dir', {str(tmp_path / 'mine')!r})"
    code = PROGRAMS.format(configured=chosen)
    assert told(code, "folder", XDG_CACHE_HOME=str(tmp_path)) == str(tmp_path / "mine")
    named = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "named")}
    assert told(PROGRAMS.format(configured=""), "folder", **named) == str(tmp_path / "named")
    assert not (tmp_path / "xaimaps").exists()
