"""Keras models with several inputs, in TensorFlow and as converted files."""

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import ArrayInputError, UnsupportedModelError
from xaimaps.parity._routes import routes
from xaimaps.targets import as_target

keras = pytest.importorskip("keras")
pytest.importorskip("xaimaps_tensorflow")
L = keras.layers

IMAGES = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32)
ROW = {"table": [0.5, -2.0], "kind": 1}
WHOLE = {"table": np.array([ROW["table"]] * 3, np.float32), "kind": np.ones(3, np.int32)}


def network(pack):
    """Return a network of an image, a table and an index; `pack` makes a structure of its inputs.

    The table and the index meet the image before and after the pooling.
    """
    table, image = L.Input((2,), name="table"), L.Input((8, 8, 3), name="image")
    kind = L.Input((), dtype="int32", name="kind")
    maps = L.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image)
    gate = L.Embedding(3, 4, name="gate")(kind)
    maps = L.Multiply(name="gated")([maps, L.Reshape((1, 1, 4))(gate)])
    side = L.Dense(5, activation="tanh", name="side")(table)
    joined = L.Concatenate(name="joined")([L.GlobalAveragePooling2D(name="pool")(maps), side])
    return keras.Model(
        pack({"table": table, "image": image, "kind": kind}), L.Dense(4, name="logits")(joined)
    )


@pytest.fixture(scope="module")
def model(randomised):
    return randomised(network(lambda inputs: list(inputs.values())))


@pytest.fixture(scope="module")
def loaded(model):
    return xaimaps.load(model, inputs=ROW)


@pytest.mark.parametrize("pack", [dict, lambda inputs: list(inputs.values())])
def test_outputs_equal_those_of_the_model_with_all_inputs(pack, randomised):
    model = randomised(network(pack))
    expected = model(pack({"table": WHOLE["table"], "image": IMAGES, "kind": WHOLE["kind"]}))
    found = xaimaps.load(model, inputs=ROW)
    np.testing.assert_allclose(found.forward(IMAGES), expected, atol=1e-6)
    names = [layer.name for layer in found.layers()]
    assert names == ["conv", "gated", "pool", "joined", "logits"]  # none of the table alone


def test_maps_equal_those_by_hand_and_bias_terms_sum_to_the_score(model, loaded):
    weights = np.asarray(model.get_layer("logits").kernel)[:4, 2]
    maps = np.asarray(loaded.forward_with_activations(IMAGES, ("gated",))[1]["gated"])
    result = xaimaps.attribute(loaded, IMAGES, "grad_cam", target=2, layer="gated")
    np.testing.assert_allclose(result.maps, np.maximum(maps @ weights / 64, 0), atol=1e-6)
    gradients, terms = loaded.biases(loaded.asarray(IMAGES), as_target(2, 3))
    parts = [gradients.activations * gradients.gradients, *terms]
    whole = sum(np.asarray(part).reshape(3, -1).sum(1) for part in parts)
    np.testing.assert_allclose(whole, result.scores[:, 2], atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"kind": 1}, r"got 'table' \(any, 2\) float32 and 'image' .*--input NAME=VALUE"),
        ({**ROW, "image": IMAGES[0]}, "the images to explain, got none"),
        ({**ROW, "tabel": 3}, "got 'tabel'; nearest: 'table'"),
        ({**ROW, "table": 3}, r"'table' must have the shape \(2,\), got \(\)"),
        ({**ROW, "kind": 0.5}, "'kind' must be numbers that int32 can hold"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_sentence(model, inputs, message):
    with pytest.raises((ArrayInputError, UnsupportedModelError), match=message):
        xaimaps.load(model, inputs=inputs)


def test_the_converted_file_has_all_inputs_and_the_same_maps(model, loaded):
    """In every backend, for a method of each kind, with layers by the names of Keras."""
    pytest.importorskip("tf2onnx")
    found = routes(model, inputs=ROW)
    assert list(found) == ["tensorflow", "onnxruntime", "jax"]
    for method in ("grad_cam", "saliency", "ablation_cam"):
        where = {"layer": "gated"} if method != "saliency" else {}
        expected = xaimaps.attribute(loaded, IMAGES, method, target=2, **where).maps
        for name in ["jax"] if method != "ablation_cam" else ["jax", "onnxruntime"]:
            maps = xaimaps.attribute(found[name], IMAGES, method, target=2, **where).maps
            np.testing.assert_allclose(maps, expected, atol=1e-5 * np.abs(expected).max())
