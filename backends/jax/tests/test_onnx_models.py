"""The embedded network and small ones as ONNX files: derivatives, 8 bits, heads."""

import jax
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

import xaimaps
from xaimaps._images.open import open_picture

RNG = np.random.default_rng(11)


def test_a_classifier_that_is_a_convolution():
    """Its weights are read as those of a dense layer, in whatever order they are kept."""
    weights = {
        "w1": RNG.normal(size=(6, 3, 3, 3)).astype(np.float32),
        "w2": RNG.normal(size=(4, 6, 1, 1)).astype(np.float32),
        "head": RNG.normal(size=(10, 4, 1, 1)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "w2"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["pooled"]),
            helper.make_node("Conv", ["pooled", "head"], ["y"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None, None, None])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    classifier = xaimaps.load(model, backend="jax").classifier()
    assert classifier.layer == "c"
    np.testing.assert_array_equal(classifier.weights, weights["head"][:, :, 0, 0].T)


def test_the_directional_derivative_of_a_network():
    model = load(xaimaps.zoo.MODELS["default"])
    images = RNG.normal(size=(1, 3, 224, 224)).astype(np.float32)
    direction = RNG.normal(size=images.shape).astype(np.float32)
    logits = jax.jit(lambda x: model.apply(model.params, x)[0])
    _, forward = jax.jit(lambda x, t: jax.jvp(logits, (x,), (t,)))(images, direction)
    gradient = jax.jit(jax.grad(lambda x: logits(x)[0, 281]))(images)
    np.testing.assert_allclose(forward[0, 281], np.vdot(gradient, direction), rtol=1e-3)


class Pictures(quantization.CalibrationDataReader):
    def __init__(self, images):
        self.batches = iter([{"images": image[None]} for image in images])

    def get_next(self):
        return next(self.batches, None)


@pytest.fixture(scope="module")
def pictures():
    preprocess = xaimaps.PRESETS["tf"]
    names = ("chelsea", "coffee", "rocket")
    found = [
        preprocess(open_picture(xaimaps.zoo.PICTURES[name]).pixels, (224, 224)) for name in names
    ]
    return np.stack(found)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_the_embedded_network_in_8_bits_answers_as_in_the_runtime(form, pictures, tmp_path):
    source, prepared, file = (
        xaimaps.zoo.MODELS["default"],
        tmp_path / "prepared.onnx",
        tmp_path / "int8.onnx",
    )
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    planar = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    quantization.quantize_static(
        prepared,
        file,
        Pictures(planar),
        quant_format=getattr(quantization.QuantFormat, form),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,  # of int8 the runtime leaves sums real
    )
    options = onnxruntime.SessionOptions()
    # Without VNNI, ONNX Runtime's fast sums of 8-bit products saturate unless it is told not to.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(file, options)
    (expected,) = session.run(None, {"images": planar})
    backend = xaimaps.load(file, backend="jax")
    got = backend.to_numpy(
        backend.compile(lambda b, x: b.forward(x), backend.asarray(pictures))(
            backend.asarray(pictures)
        )
    )
    assert np.abs(got - expected).max() <= 5e-6 * np.abs(expected).max()
    np.testing.assert_array_equal(got.argmax(-1), expected.argmax(-1))
