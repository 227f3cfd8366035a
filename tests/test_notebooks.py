"""Every notebook of `examples/` runs, cell by cell, and holds no outputs of an earlier run."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples" / "notebooks").glob("*.ipynb"))
NEEDS = {
    "detector": ("onnxruntime", "xaimaps_jax"),
    "flax_model": ("xaimaps_jax", "flax", "optax"),
    "keras_model": ("xaimaps_tensorflow",),
    "medical_grey": ("xaimaps_jax",),
    "onnx_in_production": ("onnxruntime", "xaimaps_network", "xaimaps_jax"),
}


def code(notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def run(source, names):
    """Run a cell, and show its last expression as a notebook does."""
    tree = ast.parse(source)
    shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if shown:
        value = eval(compile(ast.Expression(shown.value), "<cell>", "eval"), names)
        assert getattr(value, "_repr_html_", value.__repr__)()


def test_every_notebook_is_known():
    assert {notebook.stem for notebook in NOTEBOOKS} == NEEDS.keys()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(notebook, tmp_path, monkeypatch):
    for module in NEEDS[notebook.stem]:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in code(notebook):
        run("".join(cell["source"]), names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(notebook):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code(notebook))
