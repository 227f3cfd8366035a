"""Damaged Keras files: each is read, or ends in an error of ours.

`XAIMAPS_FUZZ=20000` runs as many cases, and `XAIMAPS_FUZZ_SEED` other ones.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from xaimaps_keras.read import read_model

from xaimaps.errors import ModelLoadError

SCRIPT = Path(__file__).with_name("fuzzing.py")
REFERENCES = SCRIPT.parents[1] / "references"
CORPUS = Path(__file__).with_name("corpus")
COUNT = int(os.environ.get("XAIMAPS_FUZZ", "300"))
SEED = os.environ.get("XAIMAPS_FUZZ_SEED", "1")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")


def test_damaged_files(sound, tmp_path):
    for path in sound.glob("sound.[kh]*"):
        shutil.copy(path, tmp_path)
    for name in ("nested.h5", "operations.h5"):
        shutil.copy(REFERENCES / name, tmp_path / f"sound-{name}")
    for path in CORPUS.iterdir():
        shutil.copy(path, tmp_path / f"sound-{path.name}")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(COUNT), SEED],
        capture_output=True,
        text=True,
        timeout=180 + COUNT,
        check=False,
    )
    assert done.returncode == 0, f"{tmp_path}/current.* ends the process: {done.stderr[-3000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["finds"], f"in {tmp_path}"
    assert found["counts"]["model"] > COUNT / 50
    assert found["counts"]["error"] > COUNT / 5
    # HDF5 allocates the stated length of a damaged string, of 32 bits, before it finds no end.
    assert found["peak"] < 2**31 + 2**32


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.stem)
def test_former_finds_are_refused(path):
    with pytest.raises(ModelLoadError, match=r"elements for one image|cannot load"):
        read_model(path)
