"""The embedded network in Keras is the one in the ONNX file: weights, numbers and names."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import onnx
import onnxruntime
import xaimaps_tensorflow
from onnx import numpy_helper
from xaimaps_tensorflow._zoo import efficientnet_lite0

from xaimaps import zoo
from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS


@pytest.fixture(scope="module")
def built():
    return efficientnet_lite0()


@pytest.fixture(scope="module")
def proto():
    return onnx.load(str(zoo.MODELS["default"]))


@pytest.fixture(scope="module")
def images():
    pictures = [open_picture(path).pixels for path in zoo.PICTURES.values()]
    return np.stack([PRESETS["tf"](pixels, (224, 224)) for pixels in pictures])


def paths(model, prefix=""):
    """The layers of a model, also those inside its models, by their whole names."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from paths(layer, f"{prefix}{layer.name}/")
        else:
            yield f"{prefix}{layer.name}", layer


def test_logits_are_those_of_onnx_runtime(built, images):
    session = onnxruntime.InferenceSession(str(zoo.MODELS["default"]))
    expected = session.run(None, {"images": images.transpose(0, 3, 1, 2)})[0]
    logits = np.asarray(built[0](images, training=False))
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    assert logits.argmax(1).tolist() == [285, 967, 657]


def test_weights_are_bit_for_bit_those_of_the_file(built, proto):
    def prints(arrays):
        return sorted(hashlib.sha256(np.sort(a.ravel()).tobytes()).hexdigest() for a in arrays)

    arrays = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    limits = {"relu6/min", "relu6/max"}
    assert prints(built[0].get_weights()) == prints(a for n, a in arrays.items() if n not in limits)


def test_layers_have_the_names_of_the_file(built, proto):
    ours = [name for name, layer in paths(built[0]) if type(layer).__name__ != "InputLayer"]
    theirs = [node.output[0] for node in proto.graph.node if node.op_type != "Flatten"]
    assert ours == theirs


def test_variables_have_names_of_their_own(built):
    names = [variable.path for variable in built[0].variables]
    assert len(set(names)) == len(names)
    assert "blocks.1.1/expand/kernel" in names


def test_pads_are_those_of_the_file(built, proto):
    """Keras's "same" by its definition, at the sizes that this network has, beside the file's."""
    layers = dict(paths(built[0]))
    for node in (node for node in proto.graph.node if node.op_type == "Conv"):
        said = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        layer = layers[node.output[0]]
        size, kernel, stride = layer.input.shape[1], layer.kernel_size[0], layer.strides[0]
        assert layer.padding == "same"
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        assert said["pads"] == [total // 2, total // 2, total - total // 2, total - total // 2]
        assert said["strides"] == list(layer.strides)


def test_epsilon_is_that_of_the_file(built, proto):
    file = {a.f for n in proto.graph.node for a in n.attribute if a.name == "epsilon"}
    ours = {layer.epsilon for _, layer in paths(built[0]) if hasattr(layer, "epsilon")}
    assert ours == file


def test_info_is_what_the_file_says(built):
    info = built[1]
    assert info.name == "efficientnet-lite0"
    assert info.preprocess == PRESETS["tf"]
    assert info.labels_name == "imagenet-1k"
    assert info.sha256 == hashlib.sha256(zoo.MODELS["default"].read_bytes()).hexdigest()


def test_the_zoo_builds_it():
    model = xaimaps_tensorflow.keras_model()
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1000)


def test_the_zoo_imports_no_framework():
    script = (
        "import sys, xaimaps.zoo; assert not {'keras', 'tensorflow', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
