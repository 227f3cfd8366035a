"""Files that ONNX Runtime runs although they break a rule of ONNX, on both backends."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

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


def looping(trips, *, as_node):
    """A network whose input goes through a Loop with a fixed number of iterations."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Mul", ["s", "one"], ["t"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, None),
        ],
    )
    many = numpy_helper.from_array(np.array(trips), "many")
    model = network(
        front=[
            *([helper.make_node("Constant", [], ["many"], value=many)] if as_node else []),
            helper.make_node("Loop", ["many", "yes", "raw"], ["x"], body=body),
        ],
        images="raw",
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    if not as_node:
        model.graph.initializer.append(many)
    return model


def outputs(model, backend):
    loaded = xaimaps.load(model, backend=backend)
    images = np.ones((1, 8, 8, 3), np.float32)
    return loaded.to_numpy(loaded.forward(loaded.asarray(images)))


@pytest.mark.fault("R02")
@pytest.mark.parametrize("as_node", [False, True])
@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_a_loop_of_a_billion_iterations_is_refused(backend, as_node):
    with pytest.raises(UnsupportedModelError, match="at most 1,048,576 iterations, got 1,000,000"):
        outputs(looping(10**9, as_node=as_node), backend)
    few = outputs(looping(3, as_node=as_node), backend)
    assert np.allclose(few, outputs(network(), backend), atol=1e-6), "a short loop runs"


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


@pytest.mark.fault("R01")
@BACKENDS
@pytest.mark.parametrize("keeps_types", [True, False])
def test_a_file_by_the_float16_converter(backend, keeps_types):
    own = onnx.ModelProto()
    own.CopyFrom(network())
    half = convert_float_to_float16(own, keep_io_types=keeps_types)
    models = [xaimaps.load(file, backend=backend) for file in (half, network())]
    methods = ["eigen_cam", "cam"]
    if backend == "jax":
        methods += ["grad_cam", "saliency", "fullgrad"]
    for method in methods:
        found, expected = (xaimaps.attribute(model, IMAGES, method, target=1) for model in models)
        assert (found.maps.dtype, found.scores.dtype) == (np.float32, np.float32)
        for one, other in ((found.maps, expected.maps), (found.scores, expected.scores)):
            np.testing.assert_allclose(one, other, rtol=0, atol=1.5e-3 * np.abs(other).max())


CASTS = {
    "planar": (
        ("N", 3, 8, 8),
        [helper.make_node("Cast", ["u"], ["x"], "cast", to=TensorProto.FLOAT)],
    ),
    "transposed behind": (
        ("N", 8, 8, 3),
        [
            helper.make_node("Cast", ["u"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["cast"], ["x"], perm=[0, 3, 1, 2]),
        ],
    ),
    "transposed before": (
        ("N", 8, 8, 3),
        [
            helper.make_node("Identity", ["u"], ["same"]),
            helper.make_node("Transpose", ["same"], ["planar"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planar"], ["x"], to=TensorProto.FLOAT),
        ],
    ),
}


@BACKENDS
@pytest.mark.parametrize(
    ("form", "kind"), [*((form, np.uint8) for form in CASTS), ("planar", np.int32)]
)
def test_images_of_integers(backend, form, kind):
    sizes, front = CASTS[form]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    file = network(sizes, front=front, kind=number, images="u")
    pixels = RNG.integers(0, 256, size=(2, 8, 8, 3)).astype(kind)
    planar = pixels.transpose(0, 3, 1, 2)
    model, floats = (xaimaps.load(one, backend=backend) for one in (file, network()))
    given = model.asarray(pixels.astype(np.float32))
    reference = expected(file, planar if sizes[1] == 3 else pixels)
    np.testing.assert_allclose(model.to_numpy(model.forward(given)), reference, rtol=1e-4)
    assert any("images of integers" in note for note in model.info.notes)
    methods = ["eigen_cam", "rise"]
    if backend == "jax":
        methods += ["grad_cam", "saliency"]
    for method in methods:
        options = {"n_masks": 8} if method == "rise" else {}
        found, same = (
            xaimaps.attribute(one, pixels, method, target=1, **options) for one in (model, floats)
        )
        np.testing.assert_allclose(found.maps, same.maps, rtol=1e-4, atol=1e-5)
        assert np.abs(found.maps).max() > 0


@BACKENDS
@pytest.mark.parametrize("zero", [(), ("zero",)], ids=["signed", "zero"])
def test_images_of_integers_that_are_dequantized(backend, zero):
    front = [
        helper.make_node("Transpose", ["u"], ["planar"], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["planar", "scale", *zero], ["x"], "real"),
    ]
    file = network(("N", 8, 8, 3), front=front, kind=TensorProto.UINT8, images="u")
    constants = {"scale": np.float32(0.25), "zero": np.uint8(100 if zero else 0)}
    file.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    pixels = RNG.integers(0, 256, size=(2, 8, 8, 3)).astype(np.uint8)
    real = (pixels - np.float32(constants["zero"])) * constants["scale"]
    model, floats = (xaimaps.load(one, backend=backend) for one in (file, network()))
    scores = model.to_numpy(model.forward(model.asarray(pixels.astype(np.float32))))
    np.testing.assert_allclose(scores, expected(file, pixels), rtol=1e-4)
    assert any("become floats at 'x'; they are given" in note for note in model.info.notes)
    for method in ["eigen_cam"] + ["grad_cam", "saliency"] * (backend == "jax"):
        found = xaimaps.attribute(model, pixels, method, target=1).maps
        same = xaimaps.attribute(floats, real, method, target=1).maps
        same = same * constants["scale"] if method == "saliency" else same
        np.testing.assert_allclose(found, same, rtol=1e-4, atol=1e-5)
        assert np.abs(found).max() > 0


@BACKENDS
def test_integers_that_are_computed_with_are_refused(backend):
    front = [
        helper.make_node("Add", ["u", "u"], ["sum"], "double"),
        helper.make_node("Cast", ["sum"], ["x"], to=TensorProto.FLOAT),
    ]
    file = network(front=front, kind=TensorProto.INT32, images="u")
    with pytest.raises(UnsupportedModelError, match=r"'u' .* Add node 'double' .*int32; export"):
        xaimaps.load(file, backend=backend)


def transformer():
    """A convolution, a layer normalisation and a GELU, written out as PyTorch does at opset 14."""
    steps = [
        ("Conv", ["x", "kernel"], "conv", {"pads": [1] * 4}),
        ("Relu", ["conv"], "relu", {}),
        ("Reshape", ["relu", "flat"], "tokens", {}),
        ("ReduceMean", ["tokens"], "mean", {"axes": [-1]}),
        ("Sub", ["tokens", "mean"], "centred", {}),
        ("Pow", ["centred", "two"], "squares", {}),
        ("ReduceMean", ["squares"], "variance", {"axes": [-1]}),
        ("Add", ["variance", "least"], "sum", {}),
        ("Sqrt", ["sum"], "deviation", {}),
        ("Div", ["centred", "deviation"], "unit", {}),
        ("Mul", ["unit", "scale"], "scaled", {}),
        ("Add", ["scaled", "bias"], "normal", {}),
        ("MatMul", ["normal", "square"], "mixed", {}),
        ("Add", ["mixed", "bias"], "shifted", {}),
        ("Div", ["shifted", "root"], "part", {}),
        ("Erf", ["part"], "erf", {}),
        ("Add", ["erf", "one"], "more", {}),
        ("Mul", ["shifted", "more"], "product", {}),
        ("Mul", ["product", "half"], "gelu", {}),
        ("ReduceMean", ["gelu"], "pool", {"axes": [1], "keepdims": 0}),
        ("Gemm", ["pool", "dense", "offset"], "scores", {}),
        ("Relu", ["scores"], "y", {}),
    ]
    rng = np.random.default_rng(2)
    shapes = {"kernel": (4, 3, 3, 3), "square": (64, 64), "scale": (64,), "bias": (64,)}
    shapes |= {"dense": (64, 5), "offset": (5,)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    weights |= {"two": 2, "least": 1e-5, "root": 2**0.5, "one": 1, "half": 0.5}
    arrays = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    arrays["flat"] = np.array([0, 4, -1])
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [made], made, **given) for op, inputs, made, given in steps],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


@BACKENDS
@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_a_file_that_onnx_runtime_optimised(backend, level, tmp_path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    onnxruntime.InferenceSession(transformer().SerializeToString(), options)
    written = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    fused = {"LayerNormalization", "FusedConv", "FusedGemm", "BiasGelu"}
    assert not written & fused if level == "BASIC" else written >= fused
    model = xaimaps.load(tmp_path / "model.onnx", backend=backend)
    outputs = model.to_numpy(model.forward(model.asarray(IMAGES)))
    reference = expected(transformer(), IMAGES.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(outputs, reference, atol=5e-6 * np.abs(reference).max())
