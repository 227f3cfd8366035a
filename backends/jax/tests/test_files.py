"""Model files that nobody vouches for, in the backend: its errors, and what is no classifier."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx import TensorProto, helper
from xaimaps_jax import JaxBackend

import xaimaps
from xaimaps.errors import TargetError, UnsupportedModelError, XaimapsError

ENGINE = runpy.run_path(str(Path(__file__).parents[2] / "onnxjax" / "tests" / "test_loading.py"))
at, classifier, model_of, node, shaped, value = map(
    ENGINE.__getitem__, "at classifier model_of node shaped value".split()
)
"""The same files, and how they are made, as in the tests of `onnxjax`."""

ROWS = dict(ENGINE["ROWS"])
ROWS["M27 sequence"] = (ROWS["M27 sequence"][0], None)  # nothing reads this second input
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(5)
IMAGES = np.zeros((2, 8, 8, 3), np.float32)


def case(name, expected, make):
    """A file that only a user of images refuses."""
    ROWS[name] = (lambda folder: at(folder, make()), expected)


case("M26 rank 2", "'x'.*four axes", lambda: shaped("N", 192))
case("M27 string", "'x'", lambda: shaped("N", 3, 8, 8, kind=TensorProto.STRING))
case("M27 int64", None, lambda: shaped("N", 3, 8, 8, kind=INT64))
case("M27 uint8", None, lambda: shaped("N", 3, 8, 8, kind=TensorProto.UINT8))
case(
    "M27 two inputs",
    "one input without a value.*got 'x' .* and 'u' ",
    lambda: classifier(
        [node("Add", ["x", "u"], ["z"])], source="z", inputs=[value("x"), value("u")]
    ),
)
case(
    "M27 no input",
    "one input without a value.*got none",
    lambda: model_of([node("Relu", ["w"], ["y"])], {"w": ENGINE["DENSE"]}, []),
)


@pytest.mark.parametrize("name", ROWS, ids=lambda name: name.replace(" ", "-"))
def test_every_row_ends_as_the_table_says(name, tmp_path):
    build, expected = ROWS[name]
    folder = tmp_path / "model"
    folder.mkdir()
    path = build(folder)
    if expected is None:
        assert used(path) == (2, 5)
        return
    with pytest.raises(XaimapsError, match=f"(?s){expected}") as caught:
        used(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000


def used(path):
    """Load a model and let it see images."""
    backend = JaxBackend.load(path)
    layers = tuple(layer.name for layer in backend.layers()[-1:])
    outputs, _ = backend.forward_with_activations(jnp.asarray(IMAGES), layers)
    return outputs.shape


def test_a_loop_without_end_is_not_run_while_it_is_loaded(tmp_path):
    backend = JaxBackend.load(at(tmp_path, ENGINE["without_end"]()))
    assert jax.eval_shape(backend.forward, IMAGES).shape == (2, 5)


def ending(*nodes, shape=("N", 5), kind=FLOAT, weights=None):
    """The classifier with something behind its logits."""
    model = classifier(weights=weights)
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.extend(nodes)
    model.graph.output[0].CopyFrom(value("y", kind, shape))
    return model


def endless():
    """A loop that ends when its data say so."""
    body = helper.make_graph(
        [node("Less", ["s", "three"], ["still"]), node("Add", ["s", "one"], ["t"])],
        "body",
        [value("i", INT64, ()), value("on", BOOL, ()), value("s", shape=())],
        [value("still", BOOL, ()), value("t", shape=())],
    )
    weights = {"three": np.float32(3), "one": np.float32(1), "yes": np.array(True)}
    return ending(
        node("ReduceMean", ["logits"], ["mean"], keepdims=0),
        helper.make_node("Loop", ["", "yes", "mean"], ["end"], body=body),
        node("Mul", ["logits", "end"], ["y"]),
        weights={name: np.asarray(number) for name, number in weights.items()},
    )


ROUND = node("Round", ["logits"], ["round"])
CAST = [node("Cast", ["logits"], ["i"], to=INT64), node("Cast", ["i"], ["y"], to=FLOAT)]
WITHOUT_GRADIENT = {
    "M29 Round": (lambda: ending(ROUND, node("Neg", ["round"], ["y"])), "Round node 'the_round'"),
    "M29 Cast": (lambda: ending(*CAST), "Cast node 'the_i'"),
    "M30 Loop": (endless, "Loop"),
}


@pytest.mark.parametrize(("make", "named"), WITHOUT_GRADIENT.values(), ids=WITHOUT_GRADIENT)
def test_without_a_gradient_other_methods_remain(tmp_path, make, named):
    model = xaimaps.load(at(tmp_path, make()))
    images = IMAGES + 0.5
    for method in ("saliency", "grad_cam", "fullgrad"):
        with pytest.raises(UnsupportedModelError, match=named):
            xaimaps.attribute(model, images, method)
    assert xaimaps.attribute(model, images, "eigen_cam").maps.shape == (2, 6, 6)


def test_a_way_around_the_step_is_enough(tmp_path):
    model = xaimaps.load(at(tmp_path, ending(ROUND, node("Add", ["logits", "round"], ["y"]))))
    assert np.any(xaimaps.attribute(model, IMAGES + RNG.random(IMAGES.shape), "saliency").maps)


OTHER_OUTPUTS = {
    "M28 scalar": (
        lambda: ending(node("ReduceMean", ["logits"], ["y"], keepdims=0), shape=()),
        TargetError,
        r"outputs must be \(N, classes\) for a class as the target, got shape \(\)",
    ),
    "M28 boxes": (
        lambda: ending(
            node("Unsqueeze", ["logits", "axis"], ["column"]),
            node("MatMul", ["column", "four"], ["y"]),
            shape=("N", 5, 4),
            weights={"axis": np.array([2]), "four": np.ones((1, 4), np.float32)},
        ),
        TargetError,
        r"outputs must be \(N, classes\)",
    ),
}


@pytest.mark.parametrize(("make", "error", "said"), OTHER_OUTPUTS.values(), ids=OTHER_OUTPUTS)
def test_outputs_that_are_no_classes(tmp_path, make, error, said):
    model = xaimaps.load(at(tmp_path, make()))
    with pytest.raises(error, match=said):
        xaimaps.attribute(model, IMAGES, "saliency")


def test_a_single_number_is_explained(tmp_path):
    last = node("ReduceMax", ["logits"], ["y"], axes=[1], keepdims=0)
    one = xaimaps.load(at(tmp_path, ending(last, shape=("N",))))
    found = xaimaps.attribute(one, IMAGES, "saliency")
    expected = xaimaps.attribute(xaimaps.load(at(tmp_path, classifier())), IMAGES, "saliency")
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)
