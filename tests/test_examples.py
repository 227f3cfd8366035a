"""Every script of `examples/` runs, as a user would run it, in a folder of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
PRINTS = {
    "compare_methods": "grad_cam",
    "differentiate_onnx": "the loss before the step",
    "explain_a_picture": "Egyptian cat",
}


def test_every_example_has_something_to_check():
    assert {path.stem for path in EXAMPLES} == PRINTS.keys()


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(script, tmp_path):
    pytest.importorskip("onnxjax")
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert PRINTS[script.stem] in done.stdout
