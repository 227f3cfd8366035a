"""Damaged models, and every one that was once a find: each works, or ends in an error of ours.

`XAIMAPS_FUZZ=20000` runs as many cases, and `XAIMAPS_FUZZ_SEED` other ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzzing.py")
CORPUS = Path(__file__).parent / "corpus"
COUNT = int(os.environ.get("XAIMAPS_FUZZ", "500"))
SEED = os.environ.get("XAIMAPS_FUZZ_SEED", "1")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")


def fuzz(folder, *options):
    """Run the fuzzer in a process of its own; a file that kills it stays in the folder."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--finds", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=120 + COUNT / 4,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, f"{folder}/current.onnx ends the process: {done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def test_damaged_models(tmp_path):
    found = fuzz(tmp_path, "--count", str(COUNT), "--seed", SEED)
    assert not found["finds"], f"in {tmp_path}"
    assert found["counts"]["used"] > COUNT / 20
    assert found["peak"] < 2**31


def test_former_finds(tmp_path):
    files = list(CORPUS.glob("*.onnx"))
    found = fuzz(tmp_path, "--corpus", str(CORPUS))
    assert not found["finds"]
    assert sum(found["counts"].values()) == len(files) > 0


def test_former_finds_are_small():
    assert all(file.stat().st_size < 10_000 for file in CORPUS.iterdir())
