"""`xaimaps targets` lists what `-t` takes, and `explain` takes what it lists."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from xaimaps import zoo
from xaimaps._cli import cli

NAMES = "person\ndog\n"
BACKENDS = ["jax", "onnxruntime"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((64, 96, 3), 128, np.uint8)).save("grey.png")
    (tmp_path / "names.txt").write_text(NAMES)


def xaimaps(*arguments):
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def write(path, nodes, outputs, weights):
    tensors = [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "g", [value("x", [1, 3, 32, 48])], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def heads(path):
    """Boxes and scores in two outputs, each a constant plus the mean of the image."""
    boxes = np.float32([[4, 4, 20, 20], [24, 8, 44, 28], [0, 0, 9, 9]])[None]
    scores = np.float32([[0.05, 0.75, 0.2], [0.1, 0.3, 0.6], [0.9, 0.06, 0.04]])[None]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Add", ["none", "b"], ["boxes"]),
        helper.make_node("Add", ["none", "s"], ["scores"]),
    ]
    outputs = [value("scores", [1, 3, 3]), value("boxes", [1, 3, 4])]
    write(path, nodes, outputs, {"zero": np.float32(0), "b": boxes, "s": scores})


def segmenter(path):
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1] = 1  # the second class everywhere
    write(path, [helper.make_node("Conv", ["x", "k"], ["y"])], [value("y", [1, 3, 32, 48])],
          {"k": kernel})  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detector_of_two_outputs(backend):
    pytest.importorskip(f"xaimaps_{backend.removesuffix('runtime')}")
    heads("ssd.onnx")
    model = ("-p", "unit", "-b", backend, "--labels", "names.txt")
    told = json.loads(xaimaps("targets", "ssd.onnx", "grey.png", *model, "--json", "-o", "b.png"))
    assert told["outputs"] == [
        {"name": "scores", "shape": [1, 3, 3], "explained": True},
        {"name": "boxes", "shape": [1, 3, 4], "explained": False},
    ]
    assert [(one["target"], one["label"], one["corners"]) for one in told["boxes"]] == [
        ("box:1", "person", [4, 4, 20, 20]),
        ("box:2", "dog", [24, 8, 44, 28]),
    ]
    assert [one["score"] for one in told["boxes"]] == pytest.approx([0.75, 0.6])
    assert [(one["target"], one["score"]) for one in told["classes"]] == [
        ("person", pytest.approx(0.75)),
        ("dog", pytest.approx(0.6)),
    ]
    drawn = np.asarray(Image.open("b.png")).astype(int)
    white = np.argwhere((drawn == 255).all(axis=-1))
    np.testing.assert_array_equal([white.min(0), white.max(0)], [[8, 8], [56, 88]])
    text = xaimaps("targets", "ssd.onnx", "grey.png", *model)
    assert "1 x 3 x 3" in text
    assert "24, 8, 44, 28" in text
    assert "2 outputs (scores, boxes)" in text
    run = ("explain", "grey.png", "-m", "ssd.onnx", *model, "-M", "occlusion", "-t", "dog")
    assert "* 2 1 dog 0.600 24, 8, 44, 28" in " ".join(xaimaps(*run).split())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detector_with_suppression_inside(backend):
    """As of TensorFlow's detection API: the scores of three boxes are no classes."""
    pytest.importorskip(f"xaimaps_{backend.removesuffix('runtime')}")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "s"], ["detection_scores"]),
        helper.make_node("Add", ["mean", "b"], ["detection_boxes"]),
    ]
    outputs = [value("detection_scores", [1, 3]), value("detection_boxes", [1, 3, 4])]
    constants = {"s": np.float32([[0.4, 0.3, 0.1]]), "b": np.zeros((1, 3, 4), np.float32)}
    write("found.onnx", nodes, outputs, constants)
    model = ("found.onnx", "-p", "unit", "-b", backend)
    told = json.loads(xaimaps("targets", model[0], "grey.png", *model[1:], "--json"))
    assert told["classes"] == []
    explain = ["explain", "grey.png", "-m", *model, "-M", "occlusion"]
    for target in ("0", "top-2"):
        done = CliRunner().invoke(cli, [*explain, "-t", target])
        assert "(1, 3) are the scores of boxes; give output:INDEX" in str(done.exception)
    xaimaps(*explain, "-t", "output:0")


def test_a_segmenter():
    pytest.importorskip("xaimaps_onnx")
    segmenter("seg.onnx")
    (found,) = json.loads(
        xaimaps("targets", "seg.onnx", "grey.png", "-p", "unit", "-b", "onnxruntime", "--json")
    )["regions"]
    assert found == {"target": "class:1", "class": 1, "label": "class 1", "area": 1.0}


@pytest.mark.parametrize(
    ("names", "target"),
    [("sky\ncat\ndog", "class:cat"), ("sky\ncat\nCat", "class:1"), ("sky\n12\ndog", 'class:"12"')],
)
def test_a_label_that_is_listed_can_be_given(names, target):
    pytest.importorskip("xaimaps_onnx")
    segmenter("seg.onnx")
    Path("names.txt").write_text(names)
    model = ("-p", "unit", "-b", "onnxruntime", "--labels", "names.txt")
    (found,) = json.loads(xaimaps("targets", "seg.onnx", "grey.png", *model, "--json"))["regions"]
    assert found["target"] == target
    xaimaps("explain", "grey.png", "-m", "seg.onnx", *model, "-M", "occlusion", "-t", target)


def recogniser(path):
    """A class for each column: the channel with the highest mean."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["columns"], axes=[2], keepdims=0),
        helper.make_node("Transpose", ["columns"], ["y"], perm=[0, 2, 1]),
    ]
    write(path, nodes, [value("y", [1, 48, 3])], {})


def test_a_recogniser_of_text():
    pytest.importorskip("xaimaps_onnx")
    recogniser("line.onnx")
    Path("names.txt").write_text("\na\nb\n")
    pixels = np.zeros((64, 96, 3), np.uint8)
    for third, channel in enumerate((1, 0, 2)):  # a, the blank, b
        pixels[:, 32 * third : 32 * (third + 1), channel] = 255
    Image.fromarray(pixels).save("line.png")
    model = ("-p", "unit", "-b", "onnxruntime", "--labels", "names.txt")
    told = json.loads(xaimaps("targets", "line.onnx", "line.png", *model, "--json"))["text"]
    assert [(one["target"], one["label"], one["step"] // 16) for one in told] == [
        ("text:1", "a", 0),
        ("text:2", "b", 2),
    ]
    assert "text:2 b 1.000" in " ".join(xaimaps("targets", "line.onnx", "line.png", *model).split())
    run = ("explain", "line.png", "-m", "line.onnx", *model, "-M", "occlusion", "-t", "text:2")
    (result,) = json.loads(xaimaps(*run, "--json"))["results"]
    assert result["methods"][0]["target"] == "text:2"


def test_a_classifier():
    pytest.importorskip("xaimaps_onnx")
    run = ("targets", "default", str(zoo.PICTURES["chelsea"]), "-b", "onnxruntime")
    text = xaimaps(*run)
    assert "Egyptian cat" in text
    assert "990 more classes" in text
    told = json.loads(xaimaps(*run, "--json"))
    assert len(told["classes"]) == 1000
    assert told["regions"] == told["boxes"] == []


@pytest.mark.parametrize(("axes", "is_indexed"), [([2, 3], True), ([1, 2, 3], False)])
def test_a_single_number_has_an_index_if_it_has_an_axis(axes, is_indexed):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3]),
        helper.make_node("Squeeze", ["mean", "axes"], ["y"]),
    ]
    write("m.onnx", nodes, [value("y", [1] * (4 - len(axes)))], {"axes": np.int64(axes)})
    text = xaimaps("targets", "m.onnx", "grey.png", "-p", "unit")
    assert ("output:0 is the last" in text) == is_indexed
    assert "output: is" not in text
