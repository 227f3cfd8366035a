"""What Keras 2 wrote and Keras 3 refuses: dropped options, slashes in names, policies, keywords."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import h5py
import keras
from xaimaps_keras.call_indices import renumbered
from xaimaps_keras.legacy import reworded
from xaimaps_keras.read import read_model

import xaimaps
from xaimaps.errors import LayerError

REFERENCES = Path(__file__).parents[1] / "references"
APPLICATIONS = {
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "NASNetMobile": 32,
    "ResNet50": 64,  # at 32 its last normalisations have no spread, and blow up rounding
    "Xception": 71,
}


def stored(path):
    """The weights in a file, by layer."""
    with h5py.File(path) as file:
        group = file["model_weights"]
        for layer in group.attrs["layer_names"]:
            names = group[layer].attrs["weight_names"]
            if len(names):
                yield layer, [group[layer][name][()] for name in names]


@pytest.mark.parametrize("name", ["mixed.h5", "separable.h5"])
def test_weights_are_the_same_to_the_bit(name):
    model = read_model(REFERENCES / name)
    expected = dict(stored(REFERENCES / name))
    assert len(expected) == sum(bool(layer.weights) for layer in model.layers)
    for layer, values in expected.items():
        found = model.get_layer(layer.replace("/", "_")).weights
        for variable, value in zip(found, values, strict=True):
            assert np.asarray(variable).dtype == value.dtype
            assert np.asarray(variable).tobytes() == value.tobytes()


def test_mixed_precision():
    with np.load(REFERENCES / "legacy.npz") as answers:
        image, expected = answers["image"], answers["mixed.h5"]
    model = read_model(REFERENCES / "mixed.h5")
    assert model.get_layer("separable").dtype_policy.name == "mixed_float16"
    assert model.get_layer("top").dtype_policy.name == "float32"
    np.testing.assert_allclose(model(image, training=False), expected, atol=2e-3)


def test_a_name_with_a_slash_leads_to_the_new_one():
    model = xaimaps.load(REFERENCES / "separable.h5", backend="tensorflow")
    assert model.find_layer("Conv_BatchNorm").shape == (None, 5, 5, 6)
    with pytest.raises(LayerError, match="got 'Conv/BatchNorm'; nearest: 'Conv_BatchNorm'"):
        model.find_layer("Conv/BatchNorm")


def test_the_calls_of_an_inner_model_are_counted_from_zero():
    """Where Keras 2 counted them from one, and where Keras 3 does not know it."""

    def graph(first, outputs):
        layers = [
            {"class_name": kind, "config": {"name": name}, "name": name, "inbound_nodes": nodes}
            for name, kind, nodes in [
                ("x", "InputLayer", []),
                ("base", "Functional", [[["x", 0, 0, {}]], [["x", 0, 0, {}]]]),
                ("flips", "Sequential", [[["base", first, 0, {}]]]),
                ("sum", "Add", [[["base", first + 1, 0, {}], ["flips", first, 0, {}]]]),
            ]
        ]
        config = {"name": "net", "layers": layers, "output_layers": outputs}
        return {"class_name": "Functional", "config": config}

    ends = [["sum", 0, 0], ["base", 2, 0]]
    found = renumbered(graph(1, [*ends, ["flips", 1, 0]]))
    assert found == graph(0, [*ends, ["flips", 0, 0]])  # it knows it of functional outputs
    assert renumbered(found) == found


def part(name, *nodes, kind="ReLU", **options):
    """A layer in a configuration."""
    config = {"name": name, **options}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": list(nodes)}


def test_new_names_are_free_and_used_everywhere():
    layers = [part("a/b"), part("a_b", [["a/b", 0, 0, {}]]), part("in/a", [["a_b", 0, 0, {}]])]
    config = {"name": "m", "layers": layers, "output_layers": [["a/b", 0, 0], ["in/a", 0, 0]]}
    found = reworded({"class_name": "Functional", "config": config})["config"]
    assert [layer["name"] for layer in found["layers"]] == ["a_b_", "a_b", "in_a"]
    assert [layer["config"]["name"] for layer in found["layers"]] == ["a_b_", "a_b", "in_a"]
    assert found["layers"][1]["inbound_nodes"] == [[["a_b_", 0, 0, {}]]]
    assert found["output_layers"] == [["a_b_", 0, 0], ["in_a", 0, 0]]


@pytest.mark.parametrize("kind", ["Policy", "PolicyV1"])
def test_policies_become_their_names(kind):
    policy = {"class_name": kind, "config": {"name": "mixed_float16", "loss_scale": None}}
    assert reworded(part("a", dtype=policy))["config"]["dtype"] == "mixed_float16"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SeparableConv1D", {"kernel_initializer": None, "kernel_constraint": None, "groups": 1}),
        ("SeparableConv2D", {"kernel_regularizer": None, "groups": 1}),
        ("DepthwiseConv2D", {"groups": 1}),
        ("Conv2DTranspose", {"groups": 1}),
        ("SpatialDropout2D", {"noise_shape": None, "trainable": True}),
        ("RandomFlip", {"rng_type": "stateful"}),
        ("LSTM", {"time_major": False}),
        ("MultiHeadAttention", {"query_shape": [None, 4, 3], "softmax_robust_masking": False}),
    ],
)
def test_options_that_keras_3_has_no_more(kind, options):
    assert reworded(part("a", kind=kind, **options))["config"] == {"name": "a"}


def test_an_option_that_changes_the_answer_is_kept():
    assert reworded(part("a", kind="LSTM", time_major=True))["config"]["time_major"] is True


def test_tensors_given_by_keyword():
    node = [["x", 0, 0, {"value": ["y", 0, 0], "training": False}]]
    (found,) = reworded(part("a", node, kind="MultiHeadAttention"))["inbound_nodes"]
    histories = [
        tensor["config"]["keras_history"] for tensor in (*found["args"], found["kwargs"]["value"])
    ]
    assert histories == [["x", 0, 0], ["y", 0, 0]]
    assert found["kwargs"]["training"] is False


@pytest.fixture
def tf_keras():
    """Keras 2 as it is still published."""
    return pytest.importorskip("tf_keras")


def settled(model, images):
    """Give the normalisations the statistics of a batch, so that the answers differ by image."""
    norms = [layer for layer in model.layers if hasattr(layer, "moving_variance")]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    return model


def require_same(model, images, path):
    with pytest.warns(UserWarning, match="considered legacy"):
        model.save(path, include_optimizer=False, save_format="h5")
    loaded = read_model(path)
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        assert old.tobytes() == new.tobytes()
    expected = np.asarray(model(images, training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3
    np.testing.assert_allclose(loaded(images, training=False), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The .keras.initializers.serialize:UserWarning")  # by itself
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_of_keras_2(tf_keras, tmp_path, name):
    keras.utils.set_random_seed(0)
    tf_keras.utils.set_random_seed(0)
    shape = (APPLICATIONS[name], APPLICATIONS[name], 3)
    build = getattr(tf_keras.applications, name)
    scale = 255 if name.startswith(("EfficientNet", "MobileNetV3")) else 1
    images = np.random.default_rng(0).uniform(0, scale, (4, *shape)).astype(np.float32)
    model = settled(build(weights=None, classes=10, input_shape=shape), images)
    require_same(model, images, tmp_path / "model.h5")


def test_attention_of_keras_2(tf_keras, tmp_path):
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    x = tf_keras.Input((8, 8, 3))
    y = layers.Reshape((16, 4))(layers.SpatialDropout2D(0.5)(layers.Conv2D(4, 2, 2)(x)))
    y = layers.MultiHeadAttention(2, 3)(y, key=y, value=layers.Dense(4)(y))
    y = layers.Flatten()(layers.Attention()([y, y]))
    images = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    require_same(tf_keras.Model(x, layers.Dense(3)(y)), images, tmp_path / "model.h5")
