"""Gradients against onnx-ad, which writes them as ONNX graphs, run by ONNX Runtime.

Its values are in `references/onnx_ad.npz`; `references/make_onnx_ad.py` made them, and those of
whole models, which are read from the folder XAIMAPS_ONNX_AD for the files in XAIMAPS_MODELS.
"""

import functools
import os
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from onnxjax import load

from xaimaps.targets import as_target

REFERENCES = Path(__file__).parent / "references"
SMALL = runpy.run_path(str(REFERENCES / "small_graphs.py"))
FOLDER = os.environ.get("XAIMAPS_ONNX_AD")
WHOLE = sorted(Path(FOLDER).glob("*.npz")) if FOLDER else []
STEP = 7
TOLERANCE = 3e-6
"""Of the largest value, in float32; the worst is at 1e-6."""


@pytest.fixture(scope="module")
def theirs():
    with np.load(REFERENCES / "onnx_ad.npz") as arrays:
        return dict(arrays)


@functools.partial(jax.jit, static_argnames=("model", "output"))
def pulled(model, params, x, weights, output=None):
    """The gradient of a weighted sum of an output to the input."""
    names = None if output is None else [output]
    _, pull = jax.vjp(lambda x: model.apply(params, x, outputs=names)[0], x)
    return pull(weights)[0]


def cosine(ours, theirs):
    a, b = np.float64(ours), np.float64(theirs)
    return np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("name", SMALL["GRAPHS"])
def test_gradient_of_an_operator(name, theirs):
    model, x = load(SMALL["small_model"](name)), SMALL["small_input"]()
    y = jax.eval_shape(model.apply, model.params, x)[0]
    ours, expected = pulled(model, model.params, x, SMALL["weights_of"](y)), theirs[name]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_input_gradient_of_the_embedded_model(name, theirs, exact, images64, references):
    """Ours in float64: a value on a rectifier's kink then falls to its true side on any processor.

    Theirs is in float32, and moves the pixels that see a value on its wrong side.
    """
    at = list(references["names"]).index(name)
    target, expected = as_target(references["targets"][at], 1), theirs[f"embedded {name}"]
    with jax.enable_x64(True):
        image = jax.numpy.asarray(images64[at : at + 1])
        program = exact.compile(lambda model, x: model.grad(x, target).gradients, image)
        ours = np.asarray(program(image))[0, ::STEP, ::STEP]
    is_close = np.abs(ours - expected) <= TOLERANCE * np.abs(expected).max()
    assert is_close.mean() > 0.97
    assert cosine(ours, expected) > 1 - 1e-4


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_input_gradient_in_float32_has_their_direction(
    name, theirs, embedded, photographs, references
):
    at = list(references["names"]).index(name)
    image, target = photographs[at : at + 1], as_target(references["targets"][at], 1)
    program = embedded.compile(lambda model, x: model.grad(x, target).gradients, image)
    ours = np.asarray(program(image))[0, ::STEP, ::STEP]
    assert cosine(ours, theirs[f"embedded {name}"]) > 1 - 1e-4


@pytest.mark.models
@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_input_gradient_of_a_whole_model(path):
    """By direction: a rectifier's kink on which the two do not agree moves single pixels."""
    model = load(Path(os.environ["XAIMAPS_MODELS"]) / f"{path.stem}.onnx")
    with np.load(path) as arrays:
        x, output, target, theirs = (arrays[n] for n in ("input", "output", "target", "gradient"))
    y = jax.eval_shape(lambda x: model.apply(model.params, x, outputs=[str(output)])[0], x)
    weights = np.zeros(y.shape, np.float32)
    weights.flat[target] = 1
    ours = np.asarray(pulled(model, model.params, x, weights, str(output)))
    assert cosine(ours, theirs) > 1 - 1e-4
