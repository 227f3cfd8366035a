"""What the command line sets in its process, and `prepare_process` on request."""

import os
import platform
import subprocess
import sys

import pytest

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it concerns glibc")
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
    assert int(found) < 100


@GLIBC
@pytest.mark.parametrize(
    ("setup", "environment"),
    [(NOTHING, {}), (PREPARED, {"MALLOC_MMAP_THRESHOLD_": "131072"})],
    ids=["by default", "as the environment says"],
)
def test_freed_memory_goes_back_to_the_system(setup, environment):
    # a page of 4 kB, or as a kernel may have it, of 2 MB
    assert int(told(setup + "\n" + FAULTS, "faults", **environment)) >= 90


@GLIBC
def test_kept_memory_can_be_returned():
    script = "from xaimaps._process import *\nkeep_memory()" + FAULTS
    script += "return_memory()\nprint('faults', faults())"
    assert int(told(script, "faults")) >= 90


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
