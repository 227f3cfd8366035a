"""Files that return boxes, scores and classes apart, as of torchvision and TensorFlow."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import xaimaps
from xaimaps import _cli
from xaimaps.errors import TargetError
from xaimaps.targets import Scene

CORNERS = np.float32([[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]])
CLASSES = np.array([1, 2, 2, 3])
LEVELS = np.float32([[0.5, 0.9], [0.7, 0.1]])
IMAGES = np.broadcast_to(np.kron(LEVELS, np.ones((8, 8)))[..., None], (1, 16, 16, 3))
IMAGES = IMAGES.astype(np.float32)
"""The mean of each quarter is the score of its box; the last one is below the threshold of 0.3."""

TORCHVISION = ((3, 16, 16), ("2747", "2749", "2748"))
TENSORFLOW = (
    (1, 3, 16, 16),
    ("detection_boxes", "detection_classes", "detection_scores"),
)
STYLES = pytest.mark.parametrize(
    ("shape", "names"),
    [
        TORCHVISION,
        ((3, 16, 16), ("boxes", "labels", "scores")),
        TENSORFLOW,
        ((1, 3, 16, 16), ("boxes", "classes", "scores")),
    ],
)


def detector(shape, names):
    """Return a file whose boxes are the quarters with a mean above 0.3, best first."""
    boxes, classes, scores = names
    is_tensorflow = names == TENSORFLOW[1]
    corners = CORNERS[:, [1, 0, 3, 2]] / 16 if is_tensorflow else CORNERS
    kinds = CLASSES.astype(np.float32) if is_tensorflow else CLASSES
    weights = {
        "kernel": np.full((1, 3, 8, 8), 1 / 192, np.float32),
        "flat": np.array([-1]),
        "least": np.float32(0.3),
        "every": np.array([4]),
        "one": np.array([1]),
        "zero": np.array([0]),
        "corners": corners,
        "kinds": kinds,
        "batch": np.array([0] if len(shape) == 4 else [], np.int64),
    }
    last = "u" if len(shape) == 3 else "x"

    def node(operator, reads, makes, **attributes):
        return helper.make_node(operator, reads.split(), makes.split(), **attributes)

    ends = {boxes: "b", classes: "c", scores: "s"}
    nodes = [
        *([node("Unsqueeze", "x zero", "u")] if len(shape) == 3 else []),
        node("Conv", f"{last} kernel", "means", strides=[8, 8]),
        node("Reshape", "means flat", "line"),
        node("TopK", "line every", "sorted order", axis=0),
        node("Greater", "sorted least", "kept"),
        node("Compress", "sorted kept", "s", axis=0),
        node("Compress", "order kept", "own", axis=0),
        node("Gather", "corners own", "b"),
        node("Gather", "kinds own", "c"),
        *(node("Unsqueeze", f"{inner} batch", name) for name, inner in ends.items()),
    ]
    free = [1] * (len(shape) - 3) + [None]
    is_float = {boxes: True, classes: is_tensorflow, scores: True}
    made = [
        helper.make_tensor_value_info(
            name,
            TensorProto.FLOAT if is_float[name] else TensorProto.INT64,
            [*free, 4] if name == boxes else free,
        )
        for name in names
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        made,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@STYLES
def test_the_boxes_are_those_of_the_file(shape, names):
    scene = Scene(xaimaps.load(detector(shape, names), backend="onnxruntime"), IMAGES)
    found = [(box.category, round(box.score, 5), box.corners) for box in scene.boxes[0]]
    expected = [(2, 0.9, CORNERS[1]), (2, 0.7, CORNERS[2]), (1, 0.5, CORNERS[0])]
    assert found == [(kind, score, tuple(corners)) for kind, score, corners in expected]


@STYLES
@pytest.mark.parametrize(("target", "quarter"), [("box:1", 1), ("box:2", 2), ("box@3,3", 0)])
def test_a_box_is_found_in_masked_copies_with_other_rows(shape, names, target, quarter):
    """A copy without a quarter lacks its box, and the boxes after it are one row higher."""
    model = xaimaps.load(detector(shape, names), backend="onnxruntime")
    found = xaimaps.attribute(
        model, IMAGES, "occlusion", target=target, window=8, stride=8, baseline="zeros"
    )
    expected = np.zeros(4)
    expected[quarter] = LEVELS.flat[quarter]
    np.testing.assert_allclose(found.maps[0, ::8, ::8].ravel(), expected, atol=1e-6)


@STYLES
def test_an_image_without_boxes_is_refused(shape, names):
    model = xaimaps.load(detector(shape, names), backend="onnxruntime")
    with pytest.raises(TargetError, match=r"the 0 boxes with a score of at least 0\.25"):
        xaimaps.attribute(model, 0 * IMAGES, "occlusion", target="box:1")
    with pytest.raises(TargetError, match="of which image 0 has none"):
        xaimaps.attribute(model, 0 * IMAGES, "occlusion")


def test_the_scores_alone_are_no_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray((IMAGES[0] * 255).astype(np.uint8)).save("picture.png")
    onnx.save(detector(*TENSORFLOW), "model.onnx")
    command = "explain picture.png -m model.onnx -b onnxruntime -p unit -M occlusion --json"
    scores = "--load output=detection_scores"
    for more, box in (("-t box:1", True), (f"{scores} -t output:0", False)):
        monkeypatch.setattr(sys, "argv", ["xaimaps", *command.split(), *more.split()])
        with pytest.raises(SystemExit) as left:
            _cli.main()
        assert not left.value.code
        (found,) = json.loads(capsys.readouterr().out)["results"]
        assert (found["top"], bool(found["boxes"])) == ([], box)
