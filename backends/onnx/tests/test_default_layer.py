"""The layer that is explained if none is named: segmenters, detectors, ensembles, transformers."""

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import xaimaps
from xaimaps._cli import cli
from xaimaps.errors import LayerError
from xaimaps.targets import as_target, output, region

SIZE = 32


def ints(*values):
    return np.array(values, np.int64)


class Graph:
    """A model of images of 32 x 32; arrays among a node's inputs are weights."""

    def __init__(self):
        self.nodes, self.weights, self.rng = [], [], np.random.default_rng(0)

    def drawn(self, *shape):
        return (0.3 * self.rng.normal(size=shape)).astype(np.float32)

    def __call__(self, operator, name, *inputs, **attributes):
        names = [value if isinstance(value, str) else self._named(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def _named(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def conv(self, name, source, before, after, size=3, stride=1):
        pads = 4 * [size // 2]
        kernel = self.drawn(after, before, size, size)
        made = self("Conv", f"{name}/conv", source, kernel, pads=pads, strides=[stride, stride])
        return self("Relu", name, made)

    def load(self, last, rank=2, **options):
        return xaimaps.load(self.model(last, rank), **options)

    def model(self, last, rank=2):
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
        made = helper.make_tensor_value_info(last, TensorProto.FLOAT, rank * [None])
        graph = helper.make_graph(self.nodes, "g", [given], [made], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model


def images(count=1):
    return np.random.default_rng(1).random((count, SIZE, SIZE, 3)).astype(np.float32)


def unet():
    """A U-Net of two levels, and one that ends in the upsampling of its scores."""
    graph = Graph()
    fine = graph.conv("fine", "x", 3, 4)
    deep = graph.conv("bottleneck", graph.conv("down", fine, 4, 6, stride=2), 6, 6)
    scales = np.array([1, 1, 2, 2], np.float32)
    up = graph("Resize", "up", deep, "", scales, mode="nearest")
    both = graph("Concat", "both", fine, up, axis=1)
    return graph, graph.conv("decoder", both, 10, 4)


def test_a_segmenter_is_explained_at_its_coarsest_layer():
    graph, decoder = unet()
    graph("Conv", "y", decoder, graph.drawn(3, 4, 1, 1))
    backend = graph.load("y", rank=4)
    assert backend.default_layer().name == "bottleneck"
    batch = images()
    corners = [np.zeros((SIZE, SIZE), bool) for _ in range(2)]
    corners[0][:8, :8] = corners[1][-8:, -8:] = True
    maps = [
        xaimaps.attribute(backend, batch, "grad_cam", target=region(corner, 1, axis=1)).maps
        for corner in corners
    ]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3 * np.abs(maps).max()


def test_scores_that_are_enlarged_at_the_end_are_no_layer():
    graph = Graph()
    features = graph.conv("features", "x", 3, 4, stride=2)
    scores = graph("Conv", "scores", features, graph.drawn(3, 4, 1, 1))
    scales = np.array([1, 1, 2, 2], np.float32)
    graph("Resize", "y", scores, "", scales, mode="nearest")
    assert graph.load("y", rank=4).default_layer().name == "features"


def detector(*, sigmoid=False, other_reader=False):
    """Boxes and classes at two scales, joined as in YOLO: outputs (N, 4 + 2, 1024 + 256)."""
    graph = Graph()
    backbone = graph.conv("backbone", "x", 3, 4)
    scales = []
    for name, stride in (("fine", 1), ("coarse", 2)):
        neck = graph.conv(f"{name}/neck", backbone, 4, 4, stride=stride)
        box = graph(
            "Conv", f"{name}/box", graph.conv(f"{name}/b", neck, 4, 4), graph.drawn(4, 4, 1, 1)
        )
        cls = graph(
            "Conv", f"{name}/cls", graph.conv(f"{name}/c", neck, 4, 4), graph.drawn(2, 4, 1, 1)
        )
        joined = graph("Concat", f"{name}/joined", box, cls, axis=1)
        scales.append(graph("Reshape", f"{name}/flat", joined, ints(0, 6, -1)))
    graph("Concat", "raw", *scales, axis=2)
    graph("Slice", "boxes", "raw", ints(0), ints(4), ints(1))
    graph("Slice", "logits", "raw", ints(4), ints(6), ints(1))
    classes = graph("Sigmoid", "classes", "logits") if sigmoid else "logits"
    if other_reader:
        graph("Mul", "scaled", "boxes", graph("ReduceMax", "most", classes, ints(1)))
    graph("Concat", "y", "scaled" if other_reader else "boxes", classes, axis=1)
    return graph


def test_a_detector_is_explained_where_all_its_scores_come_from():
    backend = detector().load("y", rank=3)
    assert backend.default_layer().name == "backbone"
    for scale in (slice(0, 1024), slice(1024, None)):
        scores = as_target(lambda y, scale=scale: y[:, 5, scale].sum(-1), 1, None)
        assert np.any(backend.grad(images(), scores, wrt="backbone").gradients)


def test_two_heads_share_a_layer():
    graph = Graph()
    shared = graph.conv("shared", "x", 3, 4)
    heads = [
        graph("Reshape", f"{name}/flat", graph.conv(name, shared, 4, 4), ints(0, 4, -1))
        for name in ("boxes", "classes")
    ]
    graph("Concat", "y", *heads, axis=1)
    assert graph.load("y", rank=3).default_layer().name == "shared"


def test_an_ensemble_has_no_layer_of_its_own():
    graph = Graph()
    for name in ("one", "two"):
        pooled = graph("GlobalAveragePool", f"{name}/pool", graph.conv(name, "x", 3, 4))
        flat = graph("Flatten", f"{name}/flat", pooled)
        graph("Softmax", f"{name}/softmax", graph("Gemm", f"{name}/dense", flat, graph.drawn(4, 3)))
    summed = graph("Add", "sum", "one/softmax", "two/softmax")
    graph("Mul", "y", summed, np.float32(0.5))
    backend = graph.load("y")
    with pytest.raises(LayerError, match="no layer with known positions explains all of the"):
        backend.default_layer()
    fused = xaimaps.attribute(backend, images(), "grad_cam", target=1, layer=["one", "two"])
    assert fused.maps.shape == (1, SIZE, SIZE)


def test_the_layer_behind_the_last_class_attention_is_not_read():
    """As in XCiT: the class token alone changes, and is joined with the other tokens again."""
    graph = Graph()
    patches = graph("Conv", "patches", "x", graph.drawn(8, 3, 8, 8), strides=[8, 8])
    flat = graph("Reshape", "flat", patches, ints(0, 8, 16))
    tokens = graph("Transpose", "tokens", flat, perm=[0, 2, 1])
    first = graph("ReduceMean", "first", tokens, ints(1))
    both = graph("Concat", "both", first, tokens, axis=1)
    norm = graph("LayerNormalization", "norm", both, np.ones(8, "f4"), np.zeros(8, "f4"))
    query = graph("Slice", "query", norm, ints(0), ints(1), ints(1))
    keys = graph("Transpose", "keys", norm, perm=[0, 2, 1])
    weights = graph("Softmax", "weights", graph("MatMul", "product", query, keys), axis=-1)
    token = graph("MatMul", "token", weights, norm)
    rest = graph("Slice", "rest", norm, ints(1), ints(17), ints(1))
    joined = graph("Concat", "joined", token, rest, axis=1)
    last = graph("LayerNormalization", "last", joined, np.ones(8, "f4"), np.zeros(8, "f4"))
    graph("MatMul", "y", graph("Gather", "picked", last, np.int64(0), axis=1), graph.drawn(8, 3))
    backend = graph.load("y")
    assert backend.default_layer().name == "norm"
    behind = xaimaps.attribute(backend, images(), "hires_cam", target=1, layer="last")
    assert not behind.maps.any()
    assert xaimaps.attribute(backend, images(), "hires_cam", target=1).maps.any()


def test_a_network_that_reorders_its_tokens_has_no_default():
    """As in TNT: after the first layer no position is known."""
    graph = Graph()
    value = graph.conv("embedding", "x", 3, 4, size=1)
    value = graph("Reshape", "tokens", value, ints(0, 4, -1))
    value = graph("Gather", "shuffled", value, graph.rng.permutation(SIZE * SIZE), axis=2)
    value = graph("Transpose", "rows", value, perm=[0, 2, 1])
    for i in range(3):
        value = graph("Relu", f"a{i}", graph("MatMul", f"d{i}", value, graph.drawn(4, 4)))
    graph("MatMul", "y", graph("ReduceMean", "mean", value, ints(1), keepdims=0), graph.drawn(4, 3))
    with pytest.raises(LayerError, match="no layer with known positions explains all of the"):
        graph.load("y").default_layer()


@pytest.mark.parametrize("layer", ["unfolded", "inside", "inside/conv"])
def test_unfolded_patches_are_no_map(layer):
    """As in MobileViT: convolutions over (positions in a patch, patches)."""
    graph = Graph()
    value = graph.conv("features", "x", 3, 4)
    rows = np.arange(SIZE).reshape(-1, 2).T
    value = graph("Gather", "rows", value, rows, axis=2)
    value = graph("Gather", "columns", value, rows, axis=4)
    value = graph("Transpose", "moved", value, perm=[0, 1, 2, 4, 3, 5])
    value = graph("Reshape", "unfolded", value, ints(0, 4, 4, -1))
    value = graph.conv("inside", value, 4, 4, size=1)
    graph(
        "MatMul", "y", graph("ReduceMean", "mean", value, ints(2, 3), keepdims=0), graph.drawn(4, 3)
    )
    backend = graph.load("y")
    assert backend.default_layer().name == "features"
    with pytest.raises(LayerError):
        backend.find_map_layer(layer)


@pytest.mark.parametrize("operator", ["TopK", "GatherElements", "GatherND", "Gather"])
def test_positions_in_the_order_of_their_scores_are_no_map(operator):
    """As the rows of a detector, or the tokens that a transformer keeps."""
    graph = Graph()
    value = graph.conv("features", "x", 3, 4)
    tokens = graph("Reshape", "tokens", value, ints(0, 4, -1))  # N, channels, positions
    graph.nodes.append(helper.make_node("TopK", [tokens, graph._named(ints(1024))], ["best", "at"]))
    if operator == "Gather":
        first = graph("Gather", "first", graph("Gather", "image", "at", ints(0), axis=0), 0, axis=1)
        indices = graph("Squeeze", "indices", first, ints(0))
        graph("Gather", "best_tokens", tokens, indices, axis=2)
    elif operator == "GatherElements":
        graph("GatherElements", "best_tokens", tokens, "at", axis=2)
    elif operator == "GatherND":
        indices = graph("Unsqueeze", "indices", "at", ints(3))
        graph("GatherND", "best_tokens", tokens, indices, batch_dims=2)
    else:
        graph("Identity", "best_tokens", "best")
    weighted = graph("Mul", "weighted", "best_tokens", graph.drawn(1024))
    graph("ReduceSum", "y", weighted, ints(2), keepdims=0)
    backend = graph.load("y")
    assert [layer.name for layer in backend.layers()] == ["features/conv", "features"]
    with pytest.raises(LayerError):
        backend.find_map_layer("weighted")


def test_channels_in_another_order_are_still_channels():
    graph = Graph()
    value = graph.conv("features", "x", 3, 4)
    value = graph("Gather", "reversed", value, ints(3, 2, 1, 0), axis=1)
    graph.conv("last", value, 4, 4)
    graph("GlobalAveragePool", "pool", "last")
    graph("Flatten", "y", "pool")
    assert graph.load("y").default_layer().name == "last"


def test_a_sigmoid_before_a_concatenation_is_not_explained():
    plain, ending = detector().load("y", rank=3), detector(sigmoid=True).load("y", rank=3)
    expected, found = (
        xaimaps.attribute(backend, images(2), "saliency", target=output(5, 1200))
        for backend in (plain, ending)
    )
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5, atol=1e-8)
    assert ending.info.ending is None
    assert ending.info.notes == [
        "scores are taken before the final Sigmoid 'classes', which makes a part of the output"
    ]


def test_a_sigmoid_that_another_value_depends_on_is_left():
    backend = detector(sigmoid=True, other_reader=True).load("y", rank=3)
    assert backend.info.notes == []
    probabilities = backend.forward(images())[:, 4:]
    assert probabilities.min() > 0
    assert probabilities.max() < 1


@pytest.mark.parametrize(("preset", "is_noted"), [("unit", True), ("raw", False)])
def test_a_model_that_rescales_images_itself_has_a_note(preset, is_noted):
    graph = Graph()
    scaled = graph("Mul", "scaled", "x", np.float32(1 / 255))
    graph("GlobalAveragePool", "pool", graph.conv("features", scaled, 3, 4))
    graph("Flatten", "y", "pool")
    backend = graph.load("y", preprocess=preset)
    noted = "the model rescales images itself, by Mul 'scaled', after the preset 'unit'"
    assert any(note.startswith(noted) for note in backend.info.notes) == is_noted


def test_an_index_as_the_output_has_a_note():
    graph = Graph()
    graph("GlobalAveragePool", "pool", graph.conv("features", "x", 3, 4))
    graph("Flatten", "logits", "pool")
    graph("ArgMax", "y", "logits", axis=1, keepdims=0)
    assert graph.load("logits").info.notes == []
    (note,) = graph.load("y", rank=1, output="y").info.notes
    assert note.startswith("the output is made by ArgMax 'y', so that it is an index or a step")


def test_a_scale_of_features_is_no_rescaling_of_images():
    graph = Graph()
    scaled = graph("Mul", "scaled", graph.conv("features", "x", 3, 4), np.float32(0.5))
    graph("GlobalAveragePool", "pool", scaled)
    graph("Flatten", "y", "pool")
    assert graph.load("y", preprocess="unit").info.notes == []


def test_without_a_default_layer_the_command_line_explains_the_input(tmp_path):
    graph = Graph()
    for name in ("one", "two"):
        graph("GlobalAveragePool", f"{name}/pool", graph.conv(name, "x", 3, 4))
        graph("Flatten", f"{name}/flat", f"{name}/pool")
    graph("Add", "y", "one/flat", "two/flat")
    path, picture = tmp_path / "two.onnx", xaimaps.zoo.PICTURES["chelsea"]
    onnx.save(graph.model("y"), path)
    given = ["-m", str(path), "-p", "unit"]
    listed = CliRunner().invoke(cli, ["layers", *given])
    assert listed.exit_code == 0, listed.output
    assert "*" not in listed.output
    ended = CliRunner().invoke(cli, ["explain", str(picture), *given, "-o", str(tmp_path / "out")])
    assert ended.exit_code == 0, ended.output
    (overlay,) = (tmp_path / "out").glob("*overlay.png")
    assert overlay.name.startswith("chelsea-saliency-class ")
