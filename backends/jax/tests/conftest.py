"""What the tests of the backend share: the embedded model, photographs, and small networks."""

from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
import skimage
from onnx import TensorProto, helper, numpy_helper

import xaimaps
from xaimaps.images import open_picture
from xaimaps.preprocess import PRESETS
from xaimaps.testing import Conv, Dense, Flatten, GlobalAveragePool, ReLU

REFERENCES = Path(__file__).parents[3] / "tests" / "references" / "efficientnet_lite0.npz"
MOTORCYCLE = Path(skimage.__file__).parent / "data" / "motorcycle_left.png"


@pytest.fixture(scope="session")
def embedded():
    """The embedded EfficientNet-Lite0."""
    return xaimaps.load("default")


@pytest.fixture(scope="session")
def references():
    """What PyTorch's autograd gives for the three photographs."""
    with np.load(REFERENCES) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def photographs(references):
    """The three photographs as the model takes them."""
    paths = {**xaimaps.zoo.PICTURES, "motorcycle_left": MOTORCYCLE}
    pictures = [open_picture(paths[name]).pixels for name in references["names"]]
    return np.stack([PRESETS["tf"](pixels, (224, 224)) for pixels in pictures])


@pytest.fixture(scope="session")
def build():
    """Build a network of `xaimaps.testing` in one of the ways that a user may have it."""
    ways = {"onnx": onnx_planar, "onnx channels last": onnx_channels_last, "function": function}

    def load(network, way, **options):
        return ways[way](network, **options)

    return load


class Graph:
    """Collects nodes and weights; `value` is the last value's name."""

    def __init__(self):
        self.nodes, self.weights, self.value = [], [], "images"

    def add(self, operator, output, *weights, **attributes):
        names = [f"{output}/{i}" for i in range(len(weights))]
        pairs = zip(weights, names, strict=True)
        self.weights += [numpy_helper.from_array(np.ascontiguousarray(w), n) for w, n in pairs]
        node = helper.make_node(operator, [self.value, *names], [output], output, **attributes)
        self.nodes.append(node)
        self.value = output

    def load(self, shape, end=None, batch="N"):
        """Load it, perhaps with a last activation, perhaps for one batch size only."""
        if end is not None:
            self.add(end, "answer")
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *shape])
        output = helper.make_tensor_value_info(self.value, TensorProto.FLOAT, [batch, None])
        graph = helper.make_graph(self.nodes, "network", [images], [output], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 10
        onnx.checker.check_model(model, full_check=True)
        return xaimaps.load(model)


def onnx_planar(network, **options):
    """As PyTorch exports it: channels first throughout."""
    graph = Graph()
    for name, layer in network.layers.items():
        match layer:
            case Conv():
                graph.add("Conv", name, layer.kernel.transpose(3, 2, 0, 1), layer.bias)
            case ReLU():
                graph.add("Relu", name)
            case GlobalAveragePool():
                graph.add("GlobalAveragePool", name)
                graph.add("Flatten", f"{name}/flat")
            case Flatten():
                graph.add("Flatten", name)
            case Dense():
                graph.add("Gemm", name, layer.weights.T, layer.bias, transB=1)
    height, width, channels = network.input_shape
    return graph.load((channels, height, width), **options)


def onnx_channels_last(network, **options):
    """As tf2onnx writes it: channels last, with a transposition before and after what is not."""
    graph = Graph()
    for name, layer in network.layers.items():
        match layer:
            case Conv():
                graph.add("Transpose", f"{name}/planar", perm=[0, 3, 1, 2])
                graph.add("Conv", name, layer.kernel.transpose(3, 2, 0, 1), layer.bias)
                graph.add("Transpose", f"{name}/last", perm=[0, 2, 3, 1])
            case ReLU():
                graph.add("Relu", name)
            case GlobalAveragePool():
                graph.add("ReduceMean", name, np.array([1, 2]), keepdims=0)
            case Flatten():
                graph.add("Transpose", f"{name}/planar", perm=[0, 3, 1, 2])
                graph.add("Reshape", name, np.array([0, -1]))
            case Dense():
                graph.add("MatMul", f"{name}/product", layer.weights)
                graph.add("Add", name, layer.bias)
    return graph.load(network.input_shape, **options)


def function(network):
    """As a JAX user has it, with a scope for each layer."""
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
