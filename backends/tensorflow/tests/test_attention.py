"""The attention methods on Keras transformers, beside the same networks as ONNX files."""

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import UnsupportedModelError
from xaimaps.methods import METHODS
from xaimaps.parity import routes

keras = pytest.importorskip("keras")
pytest.importorskip("tf2onnx")

IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
NAMES = [name for name, row in METHODS.items() if "attention" in row.needs]


def transformer():
    """Two blocks on 4 x 4 patches, whose mean is classified."""
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 4, 4)(images)
    x = keras.layers.Reshape((16, 8))(x)
    for _ in range(2):
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(2, 4)(y, y)
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.Dense(8)(keras.layers.Dense(16, activation="gelu")(y))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(x))
    return keras.Model(images, keras.layers.Dense(5, activation="softmax")(x))


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(1)
    return routes(transformer())


@pytest.mark.parametrize("target", [[1, 2], "top-2"])
@pytest.mark.parametrize("name", NAMES)
def test_frameworks_agree(models, name, target):
    found = [
        xaimaps.attribute(models[b], IMAGES, name, target=target) for b in ("tensorflow", "jax")
    ]
    ours, other = (one.maps for one in found)
    np.testing.assert_allclose(ours, other, rtol=0, atol=2e-6 * np.abs(other).max())
    assert ours.shape[-2:] == (4, 4)


@pytest.mark.parametrize("name", NAMES)
def test_methods_run_outside_of_a_graph(models, name):
    model = models["tensorflow"]
    found = METHODS[name].fn(model, model.asarray(IMAGES), [1, 2]).maps
    expected = xaimaps.attribute(model, IMAGES, name, target=[1, 2]).maps
    np.testing.assert_allclose(model.to_numpy(found), expected, rtol=0, atol=1e-6 * expected.max())


def test_a_network_without_attention_is_refused():
    images = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(images))
    model = xaimaps.load(keras.Model(images, pooled))
    with pytest.raises(UnsupportedModelError, match="no attention matrix"):
        xaimaps.attribute(model, np.zeros((1, 8, 8, 3), np.float32), "chefer", target=0)
