"""What a graph says about itself: axes, layouts, names, heads and tokens, on graphs made here."""

import json

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax.graph import Node
from xaimaps_onnx._aliases import SCOPES, aliases

import xaimaps
from xaimaps.errors import ArrayInputError, LayerError, TargetError, UnsupportedModelError
from xaimaps.graph._axes import Grid, Part, axis_of, grid_of, kind_of, regroup
from xaimaps.graph._layout import Layout, layout_of
from xaimaps.targets import as_target

RNG = np.random.default_rng(0)


class Graph:
    """Collects nodes; a weight is given as an array."""

    def __init__(self, shape=("N", 3, 8, 8)):
        self.shape, self.nodes, self.weights = shape, [], []

    def __call__(self, operator, output, *inputs, **attributes):
        names = [self.named(x) for x in inputs]
        self.nodes.append(helper.make_node(operator, names, [output], f"n_{output}", **attributes))
        return output

    def named(self, value):
        if isinstance(value, str):
            return value
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def load(self, output, rank=2):
        return xaimaps.load(self.model(output, rank))

    def model(self, output, rank=2):
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        made = helper.make_tensor_value_info(output, TensorProto.FLOAT, rank * [None])
        graph = helper.make_graph(self.nodes, "g", [given], [made], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model


def drawn(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def images(backend, batch=2, size=8):
    return RNG.normal(size=(batch, size, size, 3)).astype(np.float32)


def test_windows_are_put_together_again():
    whole = (axis_of("N", 2), axis_of("H", 8), axis_of("W", 12), axis_of("C", 5))
    split = regroup(whole, (2, 2, 4, 3, 4, 5))
    windows = tuple(split[axis] for axis in (0, 1, 3, 2, 4, 5))
    merged = regroup(windows, (12, 16, 5))
    assert [kind_of(axis) for axis in merged] == ["?", "?", "C"]
    restored = regroup(merged, (2, 2, 3, 4, 4, 5))
    restored = tuple(restored[axis] for axis in (0, 1, 3, 2, 4, 5))
    assert regroup(restored, (2, 8, 12, 5)) == whole


def test_tokens_are_rows_and_columns_on_one_axis():
    whole = (axis_of("N", 2), axis_of("C", 5), axis_of("H", 4), axis_of("W", 6))
    tokens = regroup(whole, (2, 5, 24))
    assert layout_of(tokens) == Layout((0, 2, 1), Grid(0, 4, 6))


def test_tokens_may_go_column_by_column():
    whole = (axis_of("N", 2), axis_of("W", 6), axis_of("H", 4), axis_of("C", 5))
    layout = layout_of(regroup(whole, (2, 24, 5)))
    assert layout == Layout((0, 1, 2), Grid(0, 4, 6, is_by_column=True))
    value = drawn(2, 24, 5)
    shown = layout.show(np, value)
    np.testing.assert_array_equal(shown, value.reshape(2, 6, 4, 5).swapaxes(1, 2))
    np.testing.assert_array_equal(layout.hide(np, shown), value)


def test_a_batch_of_one_is_still_the_batch():
    whole = (axis_of("N", 1), axis_of("C", 5), axis_of("H", 4), axis_of("W", 6))
    assert kind_of(regroup(whole, (1, 5, 24))[0]) == "N"


def test_what_does_not_fit_is_unknown():
    whole = (axis_of("N", 2), axis_of("C", 5), axis_of("H", 4), axis_of("W", 6))
    assert [kind_of(axis) for axis in regroup(whole, (2, 3, 40))] == ["N", "?", "?"]


def test_tokens_are_shown_as_a_map_and_put_back_beside_the_others():
    axes = (axis_of("N", 2), (Part.whole("T", 8, Grid(1, 2, 3)),), axis_of("C", 4))
    layout = layout_of(axes)
    value = drawn(2, 8, 4)
    shown = layout.show(np, value)
    assert grid_of(axes[1]).stop == 7
    np.testing.assert_array_equal(shown, value[:, 1:7].reshape(2, 2, 3, 4))
    changed = np.array(layout.hide(np, 2 * shown, value))
    np.testing.assert_array_equal(changed[:, 1:7], 2 * value[:, 1:7])
    np.testing.assert_array_equal(changed[:, [0, 7]], value[:, [0, 7]])


def convolved(graph, channels=6):
    graph("Conv", "conv", "x", drawn(channels, 3, 3, 3), pads=[1, 1, 1, 1])
    return graph("Relu", "relu", "conv")


def check_cam(backend, layer):
    """The mean of each map is the class's logit, but for the bias."""
    head = backend.classifier()
    assert head.layer == layer
    batch = images(backend)
    logits, kept = backend.forward_with_activations(batch, (layer,))
    difference = logits.reshape(2, -1) - kept[layer].mean((1, 2)) @ head.weights
    np.testing.assert_allclose(difference, difference[:1] + 0 * difference, atol=1e-4)


def test_a_head_may_be_scaled_and_small():
    graph = Graph()
    graph("GlobalAveragePool", "pool", convolved(graph))
    graph("Flatten", "flat", "pool")
    graph("Gemm", "y", "flat", drawn(2, 6), drawn(2), transB=1, alpha=0.5)
    check_cam(graph.load("y"), "relu")


def test_a_head_may_be_a_convolution():
    graph = Graph()
    graph("ReduceMean", "pool", convolved(graph, 40), ints(2, 3), keepdims=1)
    graph("Conv", "dense", "pool", drawn(7, 40, 1, 1), drawn(7))
    graph("Reshape", "y", "dense", ints(0, 7))
    check_cam(graph.load("y"), "relu")


def test_pooled_channels_may_be_the_classes():
    graph = Graph()
    graph("GlobalAveragePool", "pool", convolved(graph))
    graph("Flatten", "y", "pool")
    check_cam(graph.load("y"), "relu")


@pytest.mark.parametrize(("attributes", "is_exact"), [
    ({"kernel_shape": [8, 8]}, True),
    ({"kernel_shape": [9, 9], "pads": [0, 0, 1, 1]}, True),
    ({"kernel_shape": [9, 9], "pads": [0, 0, 1, 1], "count_include_pad": 1}, False),
    ({"kernel_shape": [7, 7]}, False),
])  # fmt: skip
def test_an_average_pool_counts_if_it_is_the_mean_of_all(attributes, is_exact):
    graph = Graph()
    graph("AveragePool", "pool", convolved(graph), strides=[8, 8], **attributes)
    graph("Flatten", "flat", "pool")
    graph("Gemm", "y", "flat", drawn(6, 9))
    backend = graph.load("y")
    if is_exact:
        check_cam(backend, "relu")
    else:
        with pytest.raises(LayerError, match="'n_y' does not follow the pooling"):
            backend.classifier()


def test_a_nonlinear_layer_behind_the_pooling_is_no_head():
    graph = Graph()
    graph("GlobalAveragePool", "pool", convolved(graph))
    graph("Conv", "hidden", "pool", drawn(8, 6, 1, 1))
    graph("Relu", "active", "hidden")
    graph("Conv", "dense", "active", drawn(5, 8, 1, 1))
    graph("Flatten", "y", "dense")
    with pytest.raises(LayerError, match="does not follow the pooling"):
        graph.load("y").classifier()


def test_quantisers_around_a_softmax_do_not_touch_the_logits():
    graph = Graph()
    graph("GlobalAveragePool", "pool", convolved(graph))
    graph("Flatten", "flat", "pool")
    graph("Softmax", "soft", "flat")
    graph("QuantizeLinear", "q", "soft", np.float32(1 / 256), np.uint8(0))
    graph("DequantizeLinear", "y", "q", np.float32(1 / 256), np.uint8(0))
    backend = graph.load("y")
    batch = images(backend)
    logits, kept = backend.forward_with_activations(batch, ("relu",))
    np.testing.assert_allclose(logits, kept["relu"].mean((1, 2)), rtol=1e-5)


def transformer(shape=("N", 3, 8, 8), prefix=1, read="gather", activation=(), behind=None):
    """A patch embedding, one attention block and a class token, as DeiT has two of."""
    graph = Graph(shape)
    graph("Conv", "patches", "x", drawn(4, 3, 2, 2), strides=[2, 2])
    graph("Reshape", "flat", "patches", ints(0, 4, -1))
    graph("Transpose", "places", "flat", perm=[0, 2, 1])
    graph("Shape", "batch", "x", start=0, end=1)
    graph("Concat", "size", "batch", ints(prefix, 4), axis=0)
    graph("Expand", "extra", drawn(1, prefix, 4), "size")
    graph("Concat", "tokens", "extra", "places", axis=1)
    graph("LayerNormalization", "norm", "tokens", drawn(4), drawn(4))
    for name in "qkv":
        graph("MatMul", name, "norm", drawn(4, 4))
    graph("Transpose", "kt", "k", perm=[0, 2, 1])
    graph("MatMul", "scores", "q", "kt")
    graph("Softmax", "weights", "scores", axis=-1)
    graph("MatMul", "attended", "weights", "v")
    graph("Add", "out", "attended", "tokens")
    last = "out"
    if activation:
        operator, *others = activation
        graph("LayerNormalization", "norm2", "out", drawn(4), drawn(4))
        graph("MatMul", "wide", "norm2", drawn(4, 16))
        graph(operator, "activated", "wide", *others)
        graph("MatMul", "narrow", "activated", drawn(16, 4))
        graph("Add", "block", "narrow", "out")
        graph("LayerNormalization", "norm3", "block", drawn(4), drawn(4))
        last = "norm3"
    if behind:
        last = behind(graph, last)
    if read == "gather":
        graph("Gather", "token", last, np.array(0, np.int64), axis=1)
    else:
        graph("Slice", "kept", last, ints(prefix), ints(2**62), ints(1))
        graph("ReduceMean", "token", "kept", ints(1), keepdims=0)
    graph("MatMul", "y", "token", drawn(4, 10))
    return graph.load("y")


@pytest.mark.parametrize("prefix", [1, 2])
def test_the_default_layer_of_a_transformer_is_before_the_last_attention(prefix):
    backend = transformer(prefix=prefix)
    assert backend.default_layer().name == "norm"
    assert backend.default_layer().shape == (None, 4, 4, 4)
    found = backend.grad(images(backend), as_target(0, 2, None), wrt="norm")
    assert np.any(found.gradients)
    behind = backend.grad(images(backend), as_target(0, 2, None), wrt="out")
    assert not np.any(behind.gradients)


ACTIVATIONS = {
    "Relu": (),
    "HardSwish": (),
    "Mish": (),
    "LeakyRelu": (),
    "Elu": (),
    "Selu": (),
    "Softplus": (),
    "Softsign": (),
    "HardSigmoid": (),
    "Min": (np.float32(1),),
    "Max": (np.float32(0),),
}


@pytest.mark.parametrize("operator", ACTIVATIONS)
def test_the_activation_of_the_last_block_does_not_hide_its_attention(operator):
    backend = transformer(activation=(operator, *ACTIVATIONS[operator]))
    assert backend.default_layer().name == "norm"
    found = xaimaps.attribute(backend, images(backend), "hires_cam", target=1)
    assert np.any(found.maps)


def centred(operator, **attributes):
    """As tf2onnx writes a layer normalisation: its means are a pooling of maps of one row."""

    def add(graph, tokens):
        graph(operator, "mean", tokens, **attributes)
        return graph("Sub", "centred", tokens, "mean")

    return add


def channels_first(operator, *weights, **attributes):
    def add(graph, tokens):
        graph("Transpose", "first", tokens, perm=[0, 2, 1])
        graph(operator, "behind", "first", *weights, **attributes)
        return graph("Transpose", "last", "behind", perm=[0, 2, 1])

    return add


SEPARATE = {
    "global average": centred("GlobalAveragePool"),
    "global maximum": centred("GlobalMaxPool"),
    "average": centred("AveragePool", kernel_shape=[4]),
    "1x1 convolution": channels_first("Conv", drawn(4, 4, 1)),
    "batch norm": channels_first("BatchNormalization", *map(abs, drawn(4, 4))),
}


@pytest.mark.parametrize("operator", SEPARATE)
def test_an_operator_that_keeps_tokens_separate_does_not_hide_the_attention(operator):
    backend = transformer(behind=SEPARATE[operator])
    assert backend.default_layer().name == "norm"
    behind = backend.grad(images(backend), as_target(0, 2, None), wrt="out")
    assert not np.any(behind.gradients)


MIXED = {
    "convolution": channels_first("Conv", drawn(4, 4, 3), pads=[1, 1]),
    "average": channels_first("AveragePool", kernel_shape=[3], pads=[1, 1]),
    "instance norm": channels_first("InstanceNormalization", drawn(4), drawn(4)),
    "layer norm": channels_first("LayerNormalization", drawn(17), drawn(17)),
    "l2 norm": channels_first("LpNormalization"),
    "softmax": channels_first("Softmax", axis=-1),
    "reverse": channels_first("Slice", ints(-1), ints(-(2**62)), ints(2), ints(-1)),
}


@pytest.mark.parametrize("operator", MIXED)
def test_behind_the_last_attention_tokens_may_be_mixed_again(operator):
    backend = transformer(behind=MIXED[operator])
    assert backend.default_layer().name == "out"
    behind = backend.grad(images(backend), as_target(0, 2, None), wrt="out")
    assert np.any(behind.gradients)


def test_tokens_that_are_averaged_are_pooled():
    backend = transformer(read="mean")
    assert backend.default_layer().name == "out"
    check_cam(backend, "kept")


def test_the_grid_follows_the_size_of_the_image():
    backend = transformer(("N", 3, "H", "W"))
    assert backend.default_layer().shape == (None, None, None, 4)
    for size in (8, 12):
        batch = images(backend, size=size)
        _, kept = backend.forward_with_activations(batch, ("norm",))
        assert kept["norm"].shape == (2, size // 2, size // 2, 4)


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_cut_keeps_the_class_token(batch):
    backend = transformer((batch, 3, 8, 8))
    given = images(backend)
    activations, rest = backend.split(given, "tokens")
    np.testing.assert_allclose(rest(activations), backend.forward(given), rtol=1e-4, atol=1e-5)
    assert not np.allclose(rest(0 * activations), backend.forward(given))


def nodes(*names, metadata=None):
    """A chain of Relu nodes of these names."""
    return [
        Node(name, "Relu", None, (f"v{i}",), (f"v{i + 1}",), {}, metadata=metadata or {})
        for i, name in enumerate(names)
    ]


def known(chain):
    values = [node.outputs[0] for node in chain]
    found = aliases(chain, values, values)
    return {node.name: found[node.outputs[0]][1:] for node in chain}


def test_a_traced_module_stands_for_its_last_value():
    chain = nodes("/layer4/layer4.1/relu/Relu", "/layer4/layer4.1/relu_1/Relu")
    assert known(chain) == {
        "/layer4/layer4.1/relu/Relu": (),
        "/layer4/layer4.1/relu_1/Relu": (
            "layer4", "layer4.1", "layer4.1.relu", "layer4.1.relu_1",
        ),
    }  # fmt: skip


def test_a_noted_module_stands_for_its_last_value():
    chain = nodes("a", "b", metadata={SCOPES: "['', 'layer4', 'layer4.1', 'relu_3']"})
    assert known(chain) == {"a": (), "b": ("layer4", "layer4.1")}


def test_a_module_whose_last_value_cannot_be_shown_has_no_alias():
    chain = nodes("/block/attn/Relu", "/block/attn/Add")
    assert aliases(chain, ["v1", "v2"], ["v1"]) == {"v1": ("/block/attn/Relu",)}


def test_a_convolution_that_holds_its_batch_normalisation_does_not_go_by_its_own_name():
    name = "/layer1/layer1.0/conv1/Conv"
    chain = [Node(name, "Conv", None, ("v0", "onnx::Conv_7"), ("v1",), {})]
    assert known(chain) == {name: ("layer1", "layer1.0")}


def test_a_note_in_another_form_is_no_error():
    assert known(nodes("a", metadata={SCOPES: "layer4."})) == {"a": ()}


def test_keras_layers_go_by_their_name_and_by_their_path():
    chain = nodes("m_1/inner_1/conv_1/Relu", "m_1/inner_3/conv_1/Relu", "m_1/bn_2_1/batchnorm/add")
    assert known(chain) == {
        "m_1/inner_1/conv_1/Relu": ("inner", "inner/conv", "conv"),
        "m_1/inner_3/conv_1/Relu": ("inner", "inner/conv", "conv"),
        "m_1/bn_2_1/batchnorm/add": ("bn_2",),
    }


def noted(text):
    chain = nodes("m_1/a_1/Relu", "b", "c", "d")
    values = [node.outputs[0] for node in chain]
    found = aliases(chain, values, values, {"xaimaps.layers": text})
    return [found[value][1:] for value in values]


def test_layers_that_the_file_notes_are_taken_at_their_word():
    layers = {"base": "v2", "base/conv": "v2", "one/x": "v3", "two/x": "v4", "gone": "v9"}
    assert noted(json.dumps(layers)) == [(), ("base", "base/conv", "conv"), ("one/x",), ("two/x",)]


@pytest.mark.fault("L04")
def test_a_layer_that_is_called_twice_goes_by_the_number_of_the_call():
    assert noted('{"x:0": "v2", "x:1": "v3"}') == [(), ("x:0", "x"), ("x:1", "x"), ()]


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "[]", "3", '{"a": 1, "b": ["v2"], "c": {"d": "v2"}}', "\0"]
)
def test_a_note_of_layers_that_makes_no_sense_is_none(text):
    assert noted(text) == [("a",), (), (), ()]


def test_layers_of_earlier_keras_are_not_counted():
    chain = nodes("model_1/conv2d_1/Relu", "model_1/out/Relu")
    assert known(chain) == {
        "model_1/conv2d_1/Relu": ("conv2d_1",),
        "model_1/out/Relu": ("out",),
    }


def test_a_fully_convolutional_network_gives_one_score_for_each_class():
    graph = Graph()
    graph("GlobalAveragePool", "y", convolved(graph))
    backend = graph.load("y", rank=4)
    assert backend.forward(images(backend)).shape == (2, 6)
    found = backend.grad(images(backend), as_target(0, 2, None), wrt="relu")
    assert found.outputs.shape == (2, 6)


# The layout of the images


def layout_of_input(shape, *prepared, output="y"):
    """Build a graph whose first convolution comes after operators; return its input's layout."""
    graph = Graph(shape)
    value = "x"
    for operator, inputs, attributes in prepared:
        value = graph(operator, f"v{len(graph.nodes)}", value, *inputs, **attributes)
    channels = max(shape[1:], key=lambda size: size if size in (2, 5, 11) else 0)
    graph("Conv", "c", value, drawn(4, channels, 1, 1))
    graph("GlobalAveragePool", "p", "c")
    graph("Flatten", output, "p")
    return graph.load(output).input_shape


TO_NCHW = ("Transpose", (), {"perm": [0, 3, 1, 2]})
HALF = ("Mul", (np.float32(0.5),), {})


@pytest.mark.parametrize(
    ("shape", "prepared", "expected"),
    [
        (("N", 11, 60, 1), (), (60, 1, 11)),
        (("N", 5, 40, 24), (), (40, 24, 5)),
        (("N", 5, 40, 3), (HALF,), (40, 3, 5)),
        (("N", 40, 24, 5), (TO_NCHW,), (40, 24, 5)),
        (("N", 40, 3, 2), (HALF, TO_NCHW, HALF), (40, 3, 2)),
    ],
)
def test_the_first_convolution_tells_the_layout(shape, prepared, expected):
    assert layout_of_input(shape, *prepared) == expected


def test_the_first_of_several_outputs_is_noted():
    graph = Graph()
    graph("Relu", "a", "x")
    graph("GlobalAveragePool", "p", "a")
    graph("Flatten", "scores", "p")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, graph.shape)
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, rank * [None])
        for name, rank in (("scores", 2), ("a", 4))
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "g", [given], made),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    model.ir_version = 9
    note = (
        "the model has 2 outputs (scores, a), of which 'scores' is explained; choose with "
        "output=NAME, or --load output=NAME"
    )
    for backend in ("jax", "onnxruntime"):
        assert note in xaimaps.load(model, backend=backend).info.notes
        assert not xaimaps.load(model, backend=backend, output="scores").info.notes


BACKENDS = pytest.mark.parametrize("backend", ["jax", "onnxruntime"])


def loaded(graph, backend, rank=2):
    """Load a graph whose output `y` is declared without sizes."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, graph.shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, rank * [None])
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "g", [given], [made], graph.weights),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    proto.ir_version = 9
    return xaimaps.load(proto, backend=backend)


@BACKENDS
def test_outputs_without_a_batch_axis_are_those_of_the_image(backend):
    """As of detectors whose batch axis is squeezed away: they are no classes of four images."""
    graph = Graph((1, 3, 8, 8))
    graph("Conv", "c", "x", drawn(5, 3, 4, 4), strides=[4, 4])
    graph("Reshape", "r", "c", ints(5, 4))
    graph("Transpose", "y", "r", perm=[1, 0])
    model, given = loaded(graph, backend), images(None, batch=1)
    window = {"window": 4, "stride": 4}
    for target in (None, 1):
        with pytest.raises(TargetError, match=r"outputs must be \(N, classes\).* \(1, 4, 5\)"):
            xaimaps.attribute(model, given, "occlusion", target=target, **window)
    found = xaimaps.attribute(model, given, "occlusion", target="output:0,3", **window)
    run = onnxruntime.InferenceSession(graph.model("y", rank=2).SerializeToString()).run
    (own,) = run(None, {"x": given.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(found.target_scores, [own[0, 3]], rtol=1e-5)
    assert (found.maps[0, :4, :4] != 0).all()
    np.testing.assert_allclose(found.maps[0, 4:], 0, atol=1e-6)


def recogniser(batch, *, recurrent, merges):
    """Scores of 5 characters in 6 steps, with the batch on the second axis."""
    draw = np.random.default_rng(3).normal
    graph = Graph((batch, 3, 4, 6))
    graph("Conv", "c", "x", draw(size=(4, 3, 4, 3)).astype("f4"), pads=[0, 1, 0, 1])
    graph("Squeeze", "line", "c", ints(2))
    last = graph("Transpose", "steps", "line", perm=[2, 0, 1])
    if recurrent:
        weights = [draw(size=(2, 9, 4)).astype("f4"), draw(size=(2, 9, 3)).astype("f4")]
        graph("GRU", "both", "steps", *weights, hidden_size=3, direction="bidirectional")
        graph("Transpose", "side", "both", perm=[0, 2, 1, 3])
        last = graph("Reshape", "wide", "side", ints(0, 0, 6))
    if merges:  # as PyTorch's exporter writes a dense layer of its own time
        graph("Reshape", "rows", last, ints(-1, 6 if recurrent else 4))
        last = graph("Gemm", "dense", "rows", draw(size=(6 if recurrent else 4, 5)).astype("f4"))
        graph("Reshape", "y", last, ints(6, batch if batch == 1 else -1, 5))
    else:
        graph("MatMul", "y", last, draw(size=(6 if recurrent else 4, 5)).astype("f4"))
    return graph


@BACKENDS
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(("batch", "merges"), [("N", False), ("N", True), (1, False), (1, True)])
def test_the_batch_may_be_the_second_axis_of_the_output(backend, batch, merges, recurrent):
    graph = recogniser(batch, recurrent=recurrent, merges=merges)
    model = loaded(graph, backend, rank=3)
    given = drawn(3, 4, 6, 3)
    run = onnxruntime.InferenceSession(graph.model("y", rank=3).SerializeToString()).run
    alone = [run(None, {"x": one.transpose(2, 0, 1)[None]})[0][:, 0] for one in given]
    found = xaimaps.attribute(model, given, "occlusion", target="output:4,2", window=2, stride=2)
    np.testing.assert_allclose(found.scores, alone, rtol=1e-5, atol=1e-5)
    assert found.target_scores.tolist() == pytest.approx([one[4, 2] for one in alone], rel=1e-4)
    hidden = given.copy()
    hidden[:, :2, :2] = 0
    dropped = [
        one[4, 2] - run(None, {"x": image.transpose(2, 0, 1)[None]})[0][4, 0, 2]
        for one, image in zip(alone, hidden, strict=True)
    ]
    np.testing.assert_allclose(found.maps[:, 0, 0], dropped, rtol=1e-3, atol=1e-5)


def one_image_inside(kind, shape):
    """A convolution, and a reshape with a batch of 1 as `view(1, -1)` writes it."""
    graph = Graph(shape)
    graph("Conv", "c", "x", np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype("f4"))
    graph("Relu", "a", "c")
    if kind == "fails":  # with two images
        graph("Reshape", "f", "a", ints(1, 4 * 62 * 62))
        graph("MatMul", "y", "f", np.random.default_rng(2).normal(size=(4 * 62**2, 3)).astype("f4"))
    else:  # takes them as one
        graph("Reshape", "f", "a", ints(1, 4, -1))
        graph("ReduceMean", "y", "f", ints(2), keepdims=0)
    return graph


@BACKENDS
@pytest.mark.parametrize("kind", ["fails", "joins"])
def test_a_batch_that_is_one_inside_runs_one_by_one(backend, kind):
    free, fixed = (
        loaded(one_image_inside(kind, (batch, 3, 64, 64)), backend) for batch in ("N", 1)
    )
    assert any("one image at a time" in note for note in free.info.notes)
    given = images(None, batch=3, size=64)
    for method in ("eigen_cam", "occlusion") if backend == "onnxruntime" else ("grad_cam",):
        options = {"window": 32, "stride": 32} if method == "occlusion" else {}
        found, expected = (
            xaimaps.attribute(model, given, method, target=1, **options) for model in (free, fixed)
        )
        np.testing.assert_array_equal(found.maps, expected.maps)
        alone = xaimaps.attribute(free, given[2:], method, target=1, **options)
        np.testing.assert_allclose(found.maps[2:], alone.maps, rtol=1e-5, atol=1e-6)
        assert np.abs(found.maps).max() > 1e-3


@BACKENDS
def test_a_free_size_that_is_fixed_inside(backend):
    """A dense layer after a flattening allows one size, here 64."""

    def made(*sizes):
        graph = Graph(("N", *sizes))
        graph("Conv", "c", "x", np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype("f4"))
        graph("Relu", "a", "c")
        graph("Flatten", "f", "a")
        graph("MatMul", "y", "f", np.random.default_rng(2).normal(size=(4 * 62**2, 3)).astype("f4"))
        return loaded(graph, backend)

    free, fixed = made("c", "h", "w"), made(3, 64, 64)
    assert (free.input_shape[:2], fixed.input_shape) == ((None, None), (64, 64, 3))
    assert [layer.name for layer in free.layers()] == [layer.name for layer in fixed.layers()]
    assert free.default_layer().shape == (None, 62, 62, 4)
    given = images(None, batch=2, size=64)
    method = "eigen_cam" if backend == "onnxruntime" else "grad_cam"
    found, expected = (xaimaps.attribute(m, given, method, target=1) for m in (free, fixed))
    np.testing.assert_array_equal(found.maps, expected.maps)


def flattening(*sizes, inside=(20, 31)):
    """A dense layer after a flattening allows one size, which no list has."""
    graph = Graph(("N", 3, *sizes))
    graph("Conv", "c", "x", np.ones((2, 3, 1, 1), np.float32))
    graph("Flatten", "f", "c")
    weights = np.random.default_rng(2).normal(size=(2 * inside[0] * inside[1], 3))
    graph("MatMul", "y", "f", weights.astype(np.float32))
    return graph.model("y")


@pytest.mark.fault("I35")
@BACKENDS
def test_a_size_that_only_the_user_knows(backend):
    proto = flattening("h", "w")
    with pytest.raises(UnsupportedModelError, match="runs at one size only, give that one by"):
        xaimaps.load(proto, backend=backend)
    told = xaimaps.load(proto, backend=backend, input_size=(20, 31))
    fixed = xaimaps.load(flattening(20, 31), backend=backend)
    assert told.input_shape == fixed.input_shape == (20, 31, 3)
    assert told.layers() == fixed.layers()
    given = drawn(2, 20, 31, 3)
    found, expected = (xaimaps.attribute(m, given, "eigen_cam") for m in (told, fixed))
    np.testing.assert_array_equal(found.maps, expected.maps)


@pytest.mark.fault("R15")
@BACKENDS
@pytest.mark.parametrize("size", [(20, 32), (20,), (20, -31), 20, "ab"], ids=str)
def test_a_size_must_fit_the_declared_one(backend, size):
    wanted = r"`input_size` must be \(20, any\) for this model, got"
    with pytest.raises(ArrayInputError, match=wanted):
        xaimaps.load(flattening(20, "w"), backend=backend, input_size=(21, 31))
    with pytest.raises(ArrayInputError, match=r"`input_size` must be \(20, 31\) for this model"):
        xaimaps.load(flattening(20, 31), backend=backend, input_size=size)


def test_explain_loads_a_file_at_the_size_that_is_asked_for(tmp_path):
    path = tmp_path / "model.onnx"
    proto = flattening("h", "w")
    helper.set_model_props(proto, {"xaimaps.preprocess": "unit"})
    onnx.save(proto, path)
    picture = RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    found = xaimaps.explain(path, picture, "saliency", input_size=(20, 31))
    assert found.maps.shape == (1, 20, 31)
    outputs = onnx.reference.ReferenceEvaluator(proto).run(
        None, {"x": found.model.preprocess(picture, (20, 31)).transpose(2, 0, 1)[None]}
    )
    np.testing.assert_allclose(found.scores, outputs[0], rtol=1e-4, atol=1e-4)


@BACKENDS
def test_a_free_height_that_is_fixed_inside(backend):
    """A recogniser of text lines: the height is 48, the width is free."""
    graph = Graph(("N", 3, "h", "w"))
    graph("Conv", "c", "x", drawn(4, 3, 48, 3), pads=[0, 1, 0, 1])
    graph("Relu", "a", "c")
    graph("Squeeze", "line", "a", ints(2))
    graph("ReduceMean", "mean", "line", ints(2), keepdims=0)
    graph("MatMul", "y", "mean", drawn(4, 2))
    model = loaded(graph, backend)
    assert model.find_layer("a").shape == (None, 1, None, 4)
    found = xaimaps.attribute(model, drawn(1, 48, 64, 3), "eigen_cam")
    assert found.maps.shape == (1, 1, 64)


@BACKENDS
def test_the_layout_can_be_told(backend):
    """Without a convolution, three rows of a map of 8 x 3 channels may be either."""
    graph = Graph(("N", 3, 8, 3))
    graph("ReduceMean", "mean", "x", ints(1, 2), keepdims=0)
    graph("MatMul", "y", "mean", drawn(3, 2))
    proto = graph.model("y")
    assert xaimaps.load(proto, backend=backend).input_shape == (8, 3, 3)
    told = xaimaps.load(proto, backend=backend, layout="NHWC")
    assert told.input_shape == (3, 8, 3)
    with pytest.raises(ArrayInputError, match="`layout` must be one of NCHW, NHWC, got 'CHWN'"):
        xaimaps.load(proto, backend=backend, layout="CHWN")


@pytest.mark.parametrize(("text", "labels"), [("0\n90", ("0", "90")), ("a\nb\nc", None)])
def test_class_names_of_paddle_are_read_if_they_fit(text, labels):
    graph = Graph()
    graph("GlobalAveragePool", "pool", convolved(graph))
    graph("Flatten", "flat", "pool")
    graph("MatMul", "y", "flat", drawn(6, 2))
    proto = graph.model("y")
    helper.set_model_props(proto, {"character": text})
    assert xaimaps.load(proto).info.labels == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [("v\nw\nx\ny\nz", "vwxyz"), ("w\nx\ny\nz", ",w,x,y,z"), ("x\ny\nz", ",x,y,z, "), ("z", None)],
)
def test_a_recogniser_of_paddle_has_a_blank_and_a_space(text, labels):
    proto = recogniser(1, recurrent=False, merges=False).model("y", rank=3)
    helper.set_model_props(proto, {"character": text})
    expected = labels and tuple(labels.split(",") if "," in labels else labels)
    assert xaimaps.load(proto, backend="onnxruntime").info.labels == expected
