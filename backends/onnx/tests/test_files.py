"""Files that ONNX Runtime runs although they break a rule of ONNX, on both backends."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import xaimaps
from xaimaps.errors import ArrayInputError, UnsupportedModelError

BACKENDS = pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 8, 8, 3)).astype(np.float32)


def network(sizes=("N", 3, 8, 8), *, front=(), kind=TensorProto.FLOAT, opset=17, images="x"):
    """A convolution `conv`, `relu`, a pooling and a dense layer; `front` nodes come first."""
    nodes = [
        *front,
        helper.make_node("Conv", ["x", "kernel"], ["conv"], pads=[1] * 4),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["y"]),
    ]
    rng = np.random.default_rng(1)
    shapes = {"kernel": (4, 3, 3, 3), "dense": (4, 5)}
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    given = helper.make_tensor_value_info(images, kind, sizes)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [sizes[0], 5])
    graph = helper.make_graph(nodes, "network", [given], [made], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def expected(model, images, name="y"):
    """Return what ONNX Runtime itself computes from the file."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (given,) = session.get_inputs()
    return session.run([name], {given.name: images})[0]


def unsorted(model):
    """Move the first node to the end, as ONNX Runtime's float16 converter does with casts."""
    first = onnx.NodeProto()
    first.CopyFrom(model.graph.node[0])
    del model.graph.node[0]
    model.graph.node.append(first)
    return model


FORMS = {
    "sizes of -1": lambda: network((-1, 3, -1, -1)),
    "unsorted": lambda: unsorted(network()),
    "one operator before its opset": lambda: normalised(),
}


def normalised():
    """LayerNormalization at opset 14, as ONNX Runtime's optimiser writes it."""
    front = [helper.make_node("LayerNormalization", ["u", "scale"], ["x"])]
    model = network(front=front, opset=14, images="u")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "scale"))
    return model


@BACKENDS
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_onnx_runtime_runs(backend, form):
    file = FORMS[form]()
    model = xaimaps.load(file, backend=backend)
    outputs = model.to_numpy(model.forward(model.asarray(IMAGES)))
    np.testing.assert_allclose(outputs, expected(file, IMAGES.transpose(0, 3, 1, 2)), atol=1e-5)
    assert [layer.name for layer in model.layers()][-1] == "y"
    assert xaimaps.attribute(model, IMAGES, "eigen_cam", layer="relu").maps.shape == (2, 8, 8)


@BACKENDS
def test_a_cycle_is_refused(backend):
    file = network()
    file.graph.node[0].input[0] = "relu"
    with pytest.raises(xaimaps.errors.ModelLoadError, match=r"'conv', 'relu' .*cycle"):
        xaimaps.load(file, backend=backend)


def detector():
    """The network's scores as a grid, and a NonMaxSuppression over them as the first output."""
    file = network((1, 3, 8, 8))
    numbers = {"grid": np.array([1, 4, -1]), "most": np.array([5])}
    limits = {"iou": np.float32([0.5]), "least": np.float32([0.1])}
    file.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in (numbers | limits).items()
    )
    file.graph.node.extend(
        [
            helper.make_node("Reshape", ["relu", "grid"], ["scores"]),
            helper.make_node("Transpose", ["scores"], ["boxes"], perm=[0, 2, 1]),
            helper.make_node(
                "NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["picked"], "nms"
            ),
        ]
    )
    file.graph.output.insert(
        0, helper.make_tensor_value_info("picked", TensorProto.INT64, [None, 3])
    )
    return file


@BACKENDS
@pytest.mark.parametrize("output", ["y", "scores", "flat"])
def test_an_output_beside_an_operator_without_a_rule(backend, output):
    file, given = detector(), IMAGES[:1]
    model = xaimaps.load(file, backend=backend, output=output)
    declared = onnx.ModelProto()
    declared.CopyFrom(file)
    declared.graph.output.append(onnx.ValueInfoProto(name=output))
    outputs = model.to_numpy(model.forward(model.asarray(given)))
    np.testing.assert_allclose(
        outputs, expected(declared, given.transpose(0, 3, 1, 2), output), atol=1e-5
    )


def test_an_operator_without_a_rule_behind_the_output():
    with pytest.raises(
        UnsupportedModelError,
        match=r"NonMaxSuppression.*'nms'; .*`output=`, such as 'boxes' or 'scores', run the model",
    ):
        xaimaps.load(detector(), backend="jax")
    assert xaimaps.load(detector(), backend="onnxruntime").layers()


@BACKENDS
def test_an_output_that_does_not_exist(backend):
    file = detector()
    del file.graph.output[0]
    with pytest.raises(ArrayInputError, match=r"one of y, .*got 'score'; nearest: 'scores'"):
        xaimaps.load(file, backend=backend, output="score")


@BACKENDS
def test_inputs_that_the_output_does_not_need(backend):
    file = network()
    file.graph.input.append(helper.make_tensor_value_info("size", TensorProto.INT64, [2]))
    file.graph.node.append(helper.make_node("Cast", ["size"], ["floats"], to=TensorProto.FLOAT))
    file.graph.output.append(helper.make_tensor_value_info("floats", TensorProto.FLOAT, [2]))
    assert xaimaps.load(file, backend=backend, output="y").input_shape == (8, 8, 3)
