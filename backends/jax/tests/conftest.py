"""Fixtures of the backend's tests: the embedded model, photographs, and small networks."""

from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
import skimage
from onnx import numpy_helper
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS
from xaimaps.testing import Conv, Dense, Flatten, GlobalAveragePool, ReLU

REFERENCES = Path(__file__).parents[3] / "tests" / "references" / "efficientnet_lite0.npz"
MOTORCYCLE = Path(skimage.__file__).parent / "data" / "motorcycle_left.png"


@pytest.fixture(scope="session")
def embedded():
    """Return the embedded EfficientNet-Lite0."""
    return xaimaps.load("default")


@pytest.fixture(scope="session")
def references():
    """Return PyTorch's logits, maps and gradients for the three photographs."""
    with np.load(REFERENCES) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def photographs(references):
    """Return the three photographs, preprocessed for the model."""
    paths = {**xaimaps.zoo.PICTURES, "motorcycle_left": MOTORCYCLE}
    pictures = [open_picture(paths[name]).pixels for name in references["names"]]
    return np.stack([PRESETS["tf"](pixels, (224, 224)) for pixels in pictures])


@pytest.fixture(scope="session")
def exact():
    """Return the same network in float64, for tests that enable JAX's float64."""
    model = onnx.load(xaimaps.zoo.MODELS["default"])
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del model.graph.value_info[:]
    with jax.enable_x64(True):
        return xaimaps.load(model)


@pytest.fixture(scope="session")
def images64(photographs):
    """Return the photographs in float64, without the rounding of their values to float32."""
    pixels = np.rint((photographs.astype(np.float64) + 1) * 127.5)
    return (pixels / 255 - 0.5) / 0.5


@pytest.fixture(scope="session")
def build():
    """Build a network of `xaimaps.testing` in one of the forms that a user may have."""

    def load(network, way, **options):
        if way == "function":
            return function(network)
        last = way == "onnx channels last"
        return xaimaps.load(as_onnx(network, channels_last=last, **options))

    return load


def function(network):
    """Return a network as a JAX function with a named scope for each layer."""
    params = {
        name: (layer.kernel if isinstance(layer, Conv) else layer.weights, layer.bias)
        for name, layer in network.layers.items()
        if isinstance(layer, Conv | Dense)
    }

    def forward(params, x):
        for name, layer in network.layers.items():
            with jax.named_scope(name):
                x = _apply(layer, params.get(name), x)
        return x

    return xaimaps.load(forward, params=params, input_shape=network.input_shape)


def _apply(layer, params, x):
    match layer:
        case Conv():
            layout = ("NHWC", "HWIO", "NHWC")
            y = jax.lax.conv_general_dilated(
                x, params[0], (1, 1), "VALID", dimension_numbers=layout
            )
            return y + params[1]
        case ReLU():
            return jax.nn.relu(x)
        case GlobalAveragePool():
            return x.mean(axis=(1, 2))
        case Flatten():
            return x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return x @ params[0] + params[1]
