"""The ONNX Runtime backend against the JAX backend, on the same files."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data
from xaimaps_onnx.runtime._sessions import Sessions
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps.errors import BackendError, LayerError, ModelLoadError, UnsupportedModelError
from xaimaps.methods import METHODS
from xaimaps.testing import pooled_network

RNG = np.random.default_rng(7)
IMAGES = RNG.normal(size=(3, 8, 8, 3)).astype(np.float32)
TARGETS = [3, 0, 2]
ABLE = [
    name
    for name, row in METHODS.items()
    # The conformance tests have models for methods that do not suit all.
    if row.needs <= {"forward", "activations", "classifier", "split"} and row.suits is None
]
OPTIONS = {
    "kernel_shap": {"n_samples": 60, "segments": 4},
    "lime": {"n_samples": 60, "segments": 4},
    "shapley_sampling": {"n_permutations": 3, "segments": 4},
    "owen": {"depth": 3},
    "sobol": {"n_designs": 4, "segments": 4},
    "hsic": {"n_samples": 60, "segments": 4},
    "rise": {"n_masks": 40},
    "ss_cam": {"n_samples": 2},
    "is_cam": {"n_steps": 2},
    "occlusion": {"window": 3, "stride": 2},
}
BIG = {
    "occlusion": {"window": 64, "stride": 64},
    "kernel_shap": {"n_samples": 14, "segments": 2},
}


def close(actual, desired, tolerance=1e-5):
    size = max(float(np.abs(desired).max(initial=0)), 1e-9)
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * size)


class Maker:
    """Collects nodes and weights of random numbers."""

    def __init__(self, dtype=np.float32):
        self.nodes, self.weights, self.dtype = [], [], dtype
        self.rng = np.random.default_rng(3)

    def add(self, operator, inputs, output, *shapes, arrays=(), **attributes):
        made = [self.rng.normal(size=s).astype(self.dtype) * 0.4 for s in shapes]
        names = [f"{output}/{i}" for i in range(len(made) + len(arrays))]
        pairs = zip([*made, *arrays], names, strict=True)
        self.weights += [numpy_helper.from_array(w, n) for w, n in pairs]
        node = helper.make_node(operator, [*inputs, *names], [output], output, **attributes)
        self.nodes.append(node)

    def model(self, shape, output, ir=10):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        images = helper.make_tensor_value_info("images", kind, shape)
        answer = helper.make_tensor_value_info(output, kind, [None, None])
        graph = helper.make_graph(self.nodes, "network", [images], [answer], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = ir
        onnx.checker.check_model(model, full_check=True)
        return model


def planar(batch="N", end=None, dtype=np.float32):
    """Channels first, with a skip connection around the last convolution."""
    make = Maker(dtype)
    make.add("Conv", ["images"], "stem", (6, 3, 3, 3), (6,), pads=[1] * 4, strides=[2, 2])
    make.add("Relu", ["stem"], "stem_relu")
    make.add("Conv", ["stem_relu"], "inner", (6, 6, 3, 3), (6,), pads=[1] * 4)
    make.add("Relu", ["inner"], "inner_relu")
    make.add("Add", ["inner_relu", "stem_relu"], "joined")
    make.add("GlobalAveragePool", ["joined"], "pool")
    make.add("Flatten", ["pool"], "flat")
    make.add("Gemm", ["flat"], "scores", (5, 6), (5,), transB=1)
    if end:
        make.add(end, ["scores"], "answer")
    return make.model([batch, 3, 8, 8], "answer" if end else "scores")


def channels_last(batch="N"):
    """As tf2onnx writes it, with a shape computed from the images beside the layer."""
    make = Maker()
    make.add("Transpose", ["images"], "first", perm=[0, 3, 1, 2])
    make.add("Conv", ["first"], "stem", (6, 3, 3, 3), (6,), pads=[1] * 4)
    make.add("Relu", ["stem"], "relu")
    make.add("Transpose", ["relu"], "last", perm=[0, 2, 3, 1])
    make.add("Shape", ["stem"], "shape", start=0, end=1)
    make.add("ReduceMean", ["last"], "pool", arrays=[np.array([1, 2])], keepdims=0)
    make.add("Concat", ["shape"], "wanted", arrays=[np.array([6])], axis=0)
    make.add("Reshape", ["pool", "wanted"], "flat")
    make.add("MatMul", ["flat"], "product", (6, 5))
    make.add("Add", ["product"], "scores", (5,))
    return make.model([batch, 8, 8, 3], "scores")


GRAPHS = {
    "planar": planar(),
    "softmax": planar(end="Softmax"),
    "one image": planar(batch=1),
    "channels last": channels_last(),
}


@pytest.fixture(scope="module")
def pairs():
    """Each graph on both backends."""
    return {
        name: [xaimaps.load(model, backend=backend) for backend in ("onnxruntime", "jax")]
        for name, model in GRAPHS.items()
    }


@pytest.fixture(scope="module")
def embedded():
    return [xaimaps.load("default", backend=backend) for backend in ("onnxruntime", "jax")]


def test_the_methods_that_it_can_do():
    expected = {"cam", "eigen_cam", "score_cam", "ss_cam", "is_cam", "ablation_cam"}
    assert {*expected, "occlusion", "rise"} <= set(ABLE)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("method", ABLE)
def test_every_method_gives_the_maps_of_jax(pairs, graph, method):
    ours, theirs = pairs[graph]
    options = OPTIONS.get(method, {})
    found = xaimaps.attribute(ours, IMAGES, method, target=TARGETS, **options)
    expected = xaimaps.attribute(theirs, IMAGES, method, target=TARGETS, **options)
    close(found.maps, expected.maps)
    close(found.scores, expected.scores)
    assert found.layer == expected.layer
    assert found.maps.dtype == np.float32
    assert np.abs(found.maps).max() > 0


@pytest.mark.parametrize("method", ["cam", "ablation_cam", "occlusion", "kernel_shap"])
def test_methods_on_the_embedded_model(embedded, method):
    """The parity tests compare others on it, in three frameworks."""
    ours, theirs = embedded
    picture = next(iter(xaimaps.zoo.PICTURES.values()))
    options = {"method": method, "target": 285, **BIG.get(method, {})}
    found = xaimaps.explain(ours, picture, **options)
    expected = xaimaps.explain(theirs, picture, **options)
    # What an occlusion changes is 0.6 of a score of 9: the digits that are left are fewer.
    close(found.maps, expected.maps, 5e-5 if method == "occlusion" else 1e-5)
    close(found.scores, expected.scores)
    assert found.layer == expected.layer


def test_it_says_of_the_embedded_model_what_jax_says(embedded):
    ours, theirs = embedded
    assert ours.layers() == theirs.layers()
    assert ours.default_layer() == theirs.default_layer()
    assert ours.input_shape == theirs.input_shape == (224, 224, 3)
    assert ours.info == theirs.info
    for found, expected in zip(ours.classifier(), theirs.classifier(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_layer(pairs, graph):
    ours, theirs = pairs[graph]
    names = tuple(layer.name for layer in theirs.layers())
    outputs, found = ours.forward_with_activations(IMAGES, names)
    expected_outputs, expected = theirs.forward_with_activations(IMAGES, names)
    close(outputs, expected_outputs)
    for name in names:
        close(found[name], expected[name])


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("layer", ["stem", "stem_relu", "inner", "joined", "relu", "pool"])
def test_the_rest_of_a_network(pairs, graph, layer):
    ours, theirs = pairs[graph]
    try:
        theirs.find_layer(layer)
    except LayerError:
        pytest.skip("of another graph")
    activations, rest = ours.split(IMAGES, layer)
    expected, expected_rest = theirs.split(IMAGES, layer)
    close(activations, expected)
    close(rest(activations), ours.forward(IMAGES))
    variants = np.stack([activations * f for f in (0, 0.5, 2)])[None]
    assert rest(variants).shape == (1, 3, 3, 5)
    close(rest(variants), expected_rest(variants))


def test_what_is_behind_a_layer_is_all_that_runs_again(pairs):
    ours, _ = pairs["planar"]
    sessions = ours._sessions
    _, rest = ours.split(IMAGES, "inner_relu")
    rest(np.zeros((3, 4, 4, 6), np.float32))
    key = next(key for key in sessions._sessions if "inner_relu" in key[0])
    assert key == (("inner_relu", "stem_relu"), ("scores",))


def test_weights_are_held_once_outside_of_the_sessions():
    backend = xaimaps.load("default", backend="onnxruntime")
    sessions = backend._sessions
    assert sessions._model.ByteSize() < 1_000_000
    held = [w.numpy() for w in sessions._weights.values()]
    params = list(backend.onnx.model.params.values())
    assert any(np.shares_memory(a, b) for a in held for b in params)


def test_sessions_are_closed_that_were_not_used_for_long():
    ours = xaimaps.load(GRAPHS["planar"], backend="onnxruntime")
    names = [layer.name for layer in ours.layers() if layer.name != "scores"]
    for name in [*names, names[0], *names]:
        ours.forward(IMAGES)
        ours.forward_with_activations(IMAGES, (name,))
    keys = list(ours._sessions._sessions)
    assert len(keys) <= 6
    assert (("images",), ("scores",)) in keys


def test_gradients_are_refused(pairs):
    ours, _ = pairs["planar"]
    with pytest.raises(BackendError, match="needs a backend that can do grad, but 'onnxruntime'"):
        xaimaps.attribute(ours, IMAGES, "grad_cam")
    with pytest.raises(BackendError, match="`xaimaps backends` lists those that can"):
        ours.grad(IMAGES, None)


def test_half_precision():
    ours = xaimaps.load(planar(dtype=np.float16), backend="onnxruntime")
    theirs = xaimaps.load(planar(), backend="jax")
    found = xaimaps.attribute(ours, IMAGES, "cam", target=TARGETS)
    expected = xaimaps.attribute(theirs, IMAGES, "cam", target=TARGETS)
    close(found.maps, expected.maps, 2e-2)
    assert found.scores.dtype == np.float32


def test_what_onnx_runtime_cannot_run_is_one_sentence():
    with pytest.raises(UnsupportedModelError, match=r"cannot load the model .*Conv.* with name"):
        xaimaps.load(planar(dtype=np.float64), backend="onnxruntime")


def test_too_little_memory_is_one_sentence():
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
    ]
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "big", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    given = {"x": np.ones(1, np.float32), "shape": np.array([2**46, 1])}
    with pytest.raises(MemoryError, match=r"^ONNX Runtime has too little memory to run the model"):
        Sessions(model, {}).run(given, ["sum"])


@pytest.mark.fault("M32")
def test_external_data(tmp_path):
    model = GRAPHS["planar"]
    own = onnx.ModelProto()
    own.CopyFrom(model)
    convert_model_to_external_data(own, location="weights.bin", size_threshold=0)
    onnx.save(own, tmp_path / "net.onnx")
    ours = xaimaps.load(tmp_path / "net.onnx", backend="onnxruntime")
    expected = xaimaps.load(model, backend="onnxruntime").forward(IMAGES)
    np.testing.assert_array_equal(ours.forward(IMAGES), expected)
    assert ours.info.name == "net"


def test_one_of_several_outputs():
    model = onnx.ModelProto()
    model.CopyFrom(GRAPHS["planar"])
    extra = onnx.helper.make_tensor_value_info("flat", TensorProto.FLOAT, [None, 6])
    model.graph.output.append(extra)
    assert xaimaps.load(model, backend="onnxruntime", output="flat").forward(IMAGES).shape == (3, 6)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a\x12\x00"])
def test_broken_files(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError):
        xaimaps.load(path, backend="onnxruntime")


def test_wrong_options():
    with pytest.raises(BackendError, match=r"`providers` must be among .* got .*Abacus"):
        xaimaps.load(GRAPHS["planar"], backend="onnxruntime", providers=["Abacus"])
    taken = "ONNX Runtime takes `output`, `layout`, `input_size`, `inputs` and `providers`"
    with pytest.raises(ModelLoadError, match=taken):
        xaimaps.load(GRAPHS["planar"], backend="onnxruntime", device="abacus")


def test_a_file_still_goes_to_jax_by_default():
    assert xaimaps.load(GRAPHS["planar"]).name == "jax"


@pytest.mark.parametrize("method", ["cam", "eigen_cam", "ablation_cam", "occlusion"])
def test_a_graph_for_four_images_explains_three(method):
    """The batch is padded to what the file insists on, and the padding taken off again."""
    network = pooled_network()
    images = np.random.default_rng(0).normal(size=(3, *network.input_shape)).astype(np.float32)
    fixed, free = (
        xaimaps.load(as_onnx(network, batch=batch), backend="onnxruntime") for batch in (4, "N")
    )
    found, expected = (
        xaimaps.attribute(backend, images, method, target=[1, 0, 2]) for backend in (fixed, free)
    )
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-5)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
