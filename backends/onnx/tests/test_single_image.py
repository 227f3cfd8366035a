"""Files of one image, without a batch axis on the input or on the output."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import xaimaps
from xaimaps.errors import ArrayInputError, UnsupportedModelError

BACKENDS = pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 9, (2, 8, 10, 3)).astype(np.float32)
WEIGHTS = {
    "zero": np.array([0]),
    "k": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "d": RNG.normal(size=(4, 5)).astype(np.float32),
}


def node(operator, reads, makes, **attributes):
    return helper.make_node(operator, reads.split(), makes.split(), **attributes)


def network(shape, *, output=(5,), kind=TensorProto.FLOAT):
    """A classifier of one image: `x`, with a batch of one inside."""
    last = shape[-1] == 3 != shape[0]
    single = [
        node("Cast", "x", "float", to=TensorProto.FLOAT),
        node("Transpose", "float", "planes", perm=(2, 0, 1) if last else (0, 1, 2)),
        node("Unsqueeze", "planes zero", "image"),
    ]
    nodes = [
        *(single if len(shape) == 3 else [node("Identity", "x", "image")]),
        node("Conv", "image k", "conv", pads=[1] * 4),
        node("Relu", "conv", "relu"),
        node("GlobalAveragePool", "relu", "pool"),
        node("Flatten", "pool", "flat"),
        node("MatMul", "flat d", "row"),
        node("Squeeze", "row zero", "y") if len(output) == 1 else node("Identity", "row", "y"),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]
    given = helper.make_tensor_value_info("x", kind, shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
    graph = helper.make_graph(nodes, "network", [given], [made], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def expected(file, images):
    """Return what ONNX Runtime itself computes, one image at a time."""
    session = onnxruntime.InferenceSession(file.SerializeToString())
    return np.stack([session.run(["y"], {"x": image})[0].ravel() for image in images])


FIRST, LAST = IMAGES.transpose(0, 3, 1, 2), IMAGES
FILES = {
    "(3, H, W)": (network((3, 8, 10)), FIRST),
    "(H, W, 3)": (network((8, 10, 3)), LAST),
    "(3, H, W), with a row": (network((3, 8, 10), output=(1, 5)), FIRST),
    "(H, W, 3) of integers": (
        network((8, 10, 3), kind=TensorProto.UINT8),
        LAST.astype(np.uint8),
    ),
    "any size": (network((3, None, None)), FIRST),
    "only the output": (network((1, 3, 8, 10)), FIRST[:, None]),
}


@BACKENDS
@pytest.mark.parametrize("name", FILES)
def test_one_image_is_explained_as_a_batch_of_one(backend, name):
    file, own = FILES[name]
    model = xaimaps.load(file, backend=backend, input_size=(8, 10))
    outputs = model.to_numpy(model.forward(model.asarray(IMAGES)))
    np.testing.assert_allclose(outputs, expected(file, own), rtol=1e-5)
    batched = xaimaps.load(network(("N", 3, 8, 10), output=("N", 5)), backend=backend)
    methods = ["eigen_cam", "recipro_cam", *(["grad_cam", "cam"] if backend == "jax" else [])]
    found, wanted = (xaimaps.attribute(one, IMAGES, methods) for one in (model, batched))
    for one, other in zip(found, wanted, strict=True):
        assert one.layers == ("relu",)
        np.testing.assert_allclose(one.maps, other.maps, rtol=1e-4, atol=1e-6)


@BACKENDS
def test_a_layout_says_what_three_axes_are(backend):
    signals = helper.make_model(
        helper.make_graph(
            [node("ReduceMean", "x", "y", axes=[2], keepdims=0)],
            "mean",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (3, 4, 16))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3, 4))],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    assert xaimaps.load(signals, backend=backend, layout="NCL").input_shape == (16, 4)
    assert xaimaps.load(signals, backend=backend).input_shape == (4, 16, 3)
    with pytest.raises(ArrayInputError, match="`layout` must be one of NCHW, NHWC"):
        xaimaps.load(FILES["only the output"][0], backend=backend, layout="CHW")


@BACKENDS
def test_a_flat_input_has_a_remedy(backend):
    flat = helper.make_model(
        helper.make_graph(
            [node("ReduceMean", "x", "y", axes=[1])],
            "flat",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 784))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 1))],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    with pytest.raises(UnsupportedModelError, match=r"\(None, 784\).*; put the flattening into"):
        xaimaps.load(flat, backend=backend)
