"""Freed memory, which the command line keeps, and Python on request."""

import os
import subprocess
import sys
import threading

import pytest

from xaimaps import _memory

GLIBC = pytest.mark.skipif(_memory._glibc() is None, reason="it concerns glibc")
NOTHING = ""
PREPARED = "import xaimaps; xaimaps.keep_memory()"
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


def told(code, word, **environment):
    """Run code in a process without settings of its own, and return what it prints after a word."""
    inherited = ("GLIBC_TUNABLES", "MALLOC_")
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
def test_freed_memory_is_used_again(setup):
    found = told(setup + "\n" + FAULTS, "faults")
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
def test_freed_memory_goes_back_to_the_system(setup, environment):
    # a page of 4 kB, or as a kernel may have it, of 2 MB
    assert int(told(setup + "\n" + FAULTS, "faults", **environment)) >= 90


@GLIBC
def test_kept_memory_can_be_returned():
    script = "from xaimaps._memory import *\nkeep_memory()" + FAULTS
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

    monkeypatch.setattr(_memory, "_glibc", Library)
    monkeypatch.setattr(_memory, "_KEPT", threading.Event())
    for name in ("GLIBC_TUNABLES", *_memory._CONFIGURED):
        monkeypatch.delenv(name, raising=False)
    _memory.keep_memory()
    assert _memory.is_memory_kept()
    script = "import ctypes\n" + "".join(
        f"assert ctypes.CDLL(None).mallopt{parameter} == 1\n" for parameter in taken
    )
    assert told(script + f"print('taken', {len(taken)})", "taken") == "3"


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_other_systems_have_nothing_to_set(error, monkeypatch):
    def confstr(name):
        raise error(name)

    monkeypatch.setattr(os, "confstr", confstr)
    _memory.keep_memory()
    _memory.return_memory()
    assert _memory._glibc() is None
