"""Detectors: heads whose boxes are worked out by hand, suppression, and boxes as targets."""

import json

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

import xaimaps
from xaimaps.errors import TargetError
from xaimaps.parity import compare
from xaimaps.targets import as_spec, parse_target
from xaimaps.targets._boxes import BoxAt, RankedBox
from xaimaps.targets._detect import candidates, suppressed
from xaimaps.targets._heads import overlaps
from xaimaps.testing import Network, ReferenceBackend

SIZE = (32, 48)
NAMES = ("person", "dog")

# x0, y0, x1, y1 in pixels of the input, and the probabilities of person and dog. The second box
# overlaps the first by more than half, the last has no class with a score of 0.25.
BOXES = np.float64([[4, 4, 20, 20], [5, 4, 21, 20], [24, 8, 44, 28], [4, 4, 20, 20], [0, 0, 8, 8]])
SCORES = np.float64([[0.9, 0.05], [0.7, 0.1], [0.2, 0.8], [0.1, 0.6], [0.2, 0.1]])
KEPT = [(0, 0), (2, 1), (3, 1)]
"""The candidates that stay, and their classes."""


def centred(boxes):
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def logit(p):
    return np.log(p) - np.log1p(-p)


def rows(scores=SCORES, boxes=BOXES):
    """YOLOv8: (4 + C, A)."""
    return np.concatenate([centred(boxes), scores], axis=1).T


def columns(scores=SCORES, objectness=0.8):
    """YOLOv5: (A, 5 + C)."""
    given = np.full((len(scores), 1), objectness)
    return np.concatenate([centred(BOXES), given, scores / objectness], axis=1)


class Head:
    """A table of outputs, plus a gain of each times the mean of the image."""

    def __init__(self, table):
        self.table = np.asarray(table, np.float64)
        self.gain = 1 + np.arange(self.table.size).reshape(self.table.shape) / self.table.size

    def __call__(self, x):
        mean = x.astype(np.float64).mean(axis=(1, 2, 3))
        return self.table + self.gain * mean[:, None, None]

    def pull(self, x, g):
        share = (g * self.gain).sum(axis=(1, 2)) / x[0].size
        return np.broadcast_to(share[:, None, None, None], x.shape)


class Detector(ReferenceBackend):
    """A head, and other outputs by name."""

    def __init__(self, table, labels=NAMES, others=None):
        super().__init__(Network({"head": Head(table)}, (*SIZE, 3)))
        self.info.labels, self.others = labels, others or {}
        self.info.preprocess = xaimaps.PRESETS["unit"]

    def named_outputs(self, images):
        return {name: np.repeat(v[None], len(images), 0) for name, v in self.others.items()}


BLANK = np.zeros((1, *SIZE, 3), np.float32)


def explained(model, target=None, images=BLANK):
    settings = {"absolute": False, "reduce": "sum"}
    return xaimaps.attribute(model, images, "saliency", target=target, **settings)


def gradient(found):
    """The gradient by the mean of the image: the gain of what is explained."""
    return found.maps[0].sum()


# Decoding

HEADS = {
    "YOLOv8": (rows(), {}),
    "YOLOv8, logits": (rows(logit(SCORES)), {}),
    "YOLOv8, normalised": (rows(boxes=BOXES / [48, 32, 48, 32]), {}),
    "YOLOv8, transposed": (rows().T, {}),
    "YOLOv5": (columns(np.minimum(SCORES, 0.75)), {}),
    "SSD": (np.c_[1 - SCORES.sum(1), SCORES], {"boxes": BOXES / [48, 32, 48, 32]}),
    "SSD, in pixels": (np.c_[1 - SCORES.sum(1), SCORES], {"boxes": BOXES[:, None]}),
    "RT-DETR": (logit(SCORES), {"pred_boxes": centred(BOXES / [48, 32, 48, 32])}),
    "DETR": (
        np.log(np.c_[SCORES, np.clip(1 - SCORES.sum(1), 1e-9, 1)]) + 3,
        {"pred_boxes": centred(BOXES / [48, 32, 48, 32])},
    ),
}
HEADS["YOLOv10"] = (
    np.c_[BOXES[[0, 2, 3]], [[0.9, 0], [0.8, 1], [0.6, 1]]],
    {},
)
SUMS = SCORES.sum(1)
HEADS["SSD"] = (
    np.c_[np.maximum(1 - SUMS, 0), SCORES] / np.maximum(SUMS, 1)[:, None],
    HEADS["SSD"][1],
)
HEADS["SSD, in pixels"] = (HEADS["SSD"][0], HEADS["SSD, in pixels"][1])


@pytest.mark.parametrize("name", HEADS)
def test_boxes_worked_out_by_hand(name):
    table, others = HEADS[name]
    found = candidates(table, lambda: others, SIZE, NAMES).found()
    assert [box.category for box in found] == [category for _, category in KEPT]
    for box, (candidate, category) in zip(found, KEPT, strict=True):
        np.testing.assert_allclose(box.corners, BOXES[candidate], atol=1e-4)
        limit = 0.75 if name == "YOLOv5" else 1
        assert box.score == pytest.approx(min(SCORES[candidate, category], limit), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in HEADS if name.startswith("YOLO")])
def test_a_head_finds_the_box_of_a_target(name):
    table = HEADS[name][0]
    found = candidates(table, dict, SIZE, NAMES)
    for box in found.found():
        place = np.asarray(box.row or box.places)[:, None]
        corners, classes = found.head.own(np, table[None], place)
        np.testing.assert_allclose(corners, [box.corners], rtol=1e-6)
        assert classes[0].argmax() == box.category


def test_yolox_boxes_are_relative_to_their_cells():
    size, strides = (32, 64), (8, 16, 32)
    cells = [(x, y, s) for s in strides for y in range(32 // s) for x in range(64 // s)]
    raw = np.zeros((len(cells), 6))
    raw[:, :4] = np.random.default_rng(0).uniform(-0.5, 0.5, (len(cells), 4))
    raw[:, 4:] = 0.1
    chosen = cells.index((2, 1, 16))
    raw[chosen] = [0.25, 0.5, np.log(2), np.log(1.5), 0.9, 0.8]
    (box,) = candidates(raw, dict, size, ("thing",)).found()
    centre, extent = np.array([2.25 * 16, 1.5 * 16]), np.array([32, 24])
    np.testing.assert_allclose(box.corners, [*(centre - extent / 2), *(centre + extent / 2)])
    assert box.score == pytest.approx(0.72)
    assert box.places == (chosen * 6 + 5, chosen * 6 + 4)


@pytest.mark.parametrize(("extra", "is_known"), [(32, True), (51, True), (7, False)])
def test_masks_and_points_follow_the_classes(extra, is_known):
    size = (64, 64)  # 64 + 16 + 4 candidates
    table = np.full((6 + extra, 84), 0.1)
    table[2:4] = 8
    table[:6, 20] = [30, 20, 10, 12, 0.2, 0.9]
    found = candidates(table, dict, size, NAMES)
    assert (found is not None) == is_known
    if found is not None:
        (box,) = found.found()
        assert (box.category, box.corners) == (1, (25, 14, 35, 26))


@pytest.mark.parametrize(
    "outputs",
    [
        np.random.default_rng(0).normal(size=(50, 24)),  # tokens
        np.full((40, 100), 0.01),  # letters by position
        np.full((4, 90), 1.0),  # no class
        np.full((2, 3, 4), 1.0),
    ],
)
@pytest.mark.parametrize("labels", [None, NAMES])
def test_other_outputs_are_no_boxes(outputs, labels):
    assert candidates(outputs, dict, SIZE, labels) is None


def in_order(*boxes):
    """YOLOv10: rows of corners, score and class, best first, up to a fixed number."""
    rows = sorted(boxes, key=lambda row: -row[4])
    return np.float64([*rows, *[[0] * 6] * (5 - len(boxes))])


LEFT, RIGHT = [2, 4, 20, 28, 0.9, 1], [26, 4, 46, 28, 0.6, 1]


@pytest.mark.parametrize(
    "table",
    [
        in_order(LEFT, RIGHT)[::-1],
        in_order(LEFT, RIGHT) * [1, 1, 1, 1, 1, 0.5],
        in_order(LEFT, RIGHT) * [1, 1, 1, 1, 1, 2],  # there is no class 2
        in_order(LEFT, RIGHT)[:, [2, 1, 0, 3, 4, 5]],
        in_order(LEFT, RIGHT) * [1, 1, 1, 1, 2, 1],
    ],
)
def test_rows_that_are_not_in_order_are_no_boxes(table):
    found = candidates(table, dict, SIZE, NAMES)
    assert found is None or found.rows is None


class Ordered:
    """Two objects, each with the score of the mean of its half of the image, best first."""

    def __call__(self, x):
        left, right = x[:, :, :24].mean((1, 2, 3)), x[:, :, 24:].mean((1, 2, 3))
        pairs = zip(left, right, strict=True)
        return np.stack([in_order([*LEFT[:4], a, 1], [*RIGHT[:4], b, 1]) for a, b in pairs])


def ordered():
    model = Detector(rows())
    model.chain = Network({"head": Ordered()}, (*SIZE, 3))
    return model


HALVES = np.broadcast_to(np.repeat(np.float32([0.9, 0.6]), 24)[:, None], (1, *SIZE, 3))
"""The left object is the better one."""


@pytest.mark.parametrize(("target", "start"), [("box:1", 0), ("box:2", 24), ("box@30,10", 24)])
def test_a_box_is_itself_in_another_row_of_a_changed_image(target, start):
    """Occlusion of the left half makes the right object the first row."""
    halves = {"window": (32, 24), "stride": (32, 24), "baseline": "zeros"}
    found = xaimaps.attribute(ordered(), HALVES, "occlusion", target=target, **halves)
    expected = np.zeros((32, 48))
    expected[:, start : start + 24] = 0.9 if start == 0 else 0.6
    np.testing.assert_allclose(found.maps[0], expected, rtol=1e-5)
    assert found.target_scores == pytest.approx([expected.max()])


def test_a_class_without_a_row_is_refused():
    with pytest.raises(TargetError, match="got 'person', of which image 0 has none"):
        xaimaps.attribute(ordered(), HALVES, "occlusion", target="person")
    (box,) = xaimaps.attribute(ordered(), HALVES, "occlusion", target="dog").explained_boxes[0]
    assert box.corners == tuple(LEFT[:4])


# Suppression


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_that_of_onnx(seed):
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 40, (60, 2))
    corners = np.concatenate([low, low + draw.uniform(1, 30, (60, 2))], axis=1).astype(np.float32)
    scores = draw.random(60).astype(np.float32)
    inputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 60, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 60]),
    ]
    limits = [
        helper.make_tensor("most", TensorProto.INT64, [1], [60]),
        helper.make_tensor("overlap", TensorProto.FLOAT, [1], [0.45]),
    ]
    names = ["boxes", "scores", "most", "overlap"]
    node = helper.make_node("NonMaxSuppression", names, ["kept"])
    kept = helper.make_tensor_value_info("kept", TensorProto.INT64, [None, 3])
    graph = helper.make_graph([node], "nms", inputs, [kept], limits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"boxes": corners[None], "scores": scores[None, None]}
    (expected,) = session.run(None, feed)
    np.testing.assert_array_equal(suppressed(corners, scores, 0.45), expected[:, 2])


def test_overlaps_by_hand():
    found = overlaps(np, BOXES[0], np.float64([[4, 4, 20, 20], [12, 4, 28, 20], [20, 4, 30, 9]]))
    np.testing.assert_allclose(found, [1, 1 / 3, 0])


# Targets


@pytest.mark.parametrize(
    ("target", "candidate", "category"),
    [
        (None, 0, 0),
        ("box:1", 0, 0),
        ("box:2", 2, 1),
        ("box:3", 3, 1),
        ("box@30,20", 2, 1),
        ("box@10,10", 0, 0),
        ("person", 0, 0),
        ("dog", 2, 1),
        (1, 2, 1),
        (["dog"], 2, 1),
    ],
)
def test_the_class_score_of_the_box_is_explained(target, candidate, category):
    model = Detector(rows())
    found = explained(model, target)
    assert gradient(found) == pytest.approx(
        model.chain.layers["head"].gain[4 + category, candidate]
    )
    assert found.target_scores == pytest.approx([SCORES[candidate, category]])
    box = found.explained_box()
    assert (box.category, box.score) == (category, pytest.approx(SCORES[candidate, category]))
    assert box.corners == tuple(BOXES[candidate])
    corners = ",".join(f"{corner:.0f}" for corner in box.corners)
    assert found.target_name() == f"{NAMES[category]} {box.score:.2f} at {corners}"
    assert [one.corners for one in found.boxes[0]] == [tuple(BOXES[i]) for i, _ in KEPT]


def test_logits_are_explained_where_the_outputs_are_logits():
    found = explained(Detector(rows(logit(SCORES))), "dog")
    assert found.target_scores == pytest.approx([logit(0.8)])
    assert found.explained_box().score == pytest.approx(0.8)


def test_an_objectness_multiplies():
    model = Detector(columns(np.minimum(SCORES, 0.75)))
    found, gain = explained(model, "box:2"), model.chain.layers["head"].gain
    assert found.target_scores == pytest.approx([0.75])
    objectness, own = 0.8, 0.75 / 0.8
    expected = gain[found_row(found), 5 + 1] * objectness + gain[found_row(found), 4] * own
    assert gradient(found) == pytest.approx(expected, rel=1e-4)


def found_row(found):
    return [tuple(box) for box in BOXES].index(found.explained_box().corners)


def test_several_boxes_at_once():
    model = Detector(rows())
    for target in ("top-2", "box:1; box:2", "person; dog"):
        found = explained(model, target)
        assert found.maps.shape == (1, 2, *SIZE)
        np.testing.assert_allclose(found.target_scores, [[0.9, 0.8]])
        singles = [explained(model, one).maps for one in ("box:1", "box:2")]
        np.testing.assert_allclose(found.maps, np.stack(singles, 1), rtol=1e-6)
    against = explained(model, "box:1 vs dog")
    assert against.target_scores == pytest.approx([0.1])


def test_each_image_has_its_own_boxes():
    model = Detector(rows())
    images = np.concatenate([BLANK, BLANK - 0.6])  # no score is left in the second
    images[1] = 0.02
    found = explained(model, "dog", images)
    assert [boxes[0].score for boxes in found.explained_boxes] == pytest.approx(
        [0.8, 0.8 + 0.02 * model.chain.layers["head"].gain[5, 2]]
    )


def test_an_image_without_boxes_is_explained_by_its_best_candidate():
    found = explained(Detector(rows(SCORES / 10)))
    assert found.boxes == ((),)
    assert found.explained_box().score == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("box:4", r"one of the 3 boxes with a score of at least 0\.25 in image 0, got box 4"),
        ("box@47,1", "no box of image 0 .* contains the point 47, 1"),
        ("cat", "must be one of the model's 2 labels"),
        (2, "class from 0 to 1, got 2"),
        ("class:dog", "four axes"),
    ],
)
def test_what_does_not_fit_is_refused(target, message):
    with pytest.raises(TargetError, match=message):
        explained(Detector(rows()), target)


def test_a_classifier_has_no_boxes(pooled, images):
    for target in ("box:1", "box@2,3"):
        with pytest.raises(TargetError, match="needs the outputs of a detector"):
            xaimaps.attribute(pooled, images, "saliency", target=target)


@pytest.mark.parametrize("spec", [RankedBox(3), BoxAt(120, 80)])
def test_text(spec):
    assert parse_target(str(spec)) == spec == as_spec(str(spec))


def anchored(values):
    """One class and `values` offsets for each of 12 anchors, as of BlazeFace: both are logits."""
    draw = np.random.default_rng(0).normal
    return Detector(draw(size=(12, 1)), labels=None, others={"offsets": draw(size=(12, values))})


@pytest.mark.parametrize("values", [4, 16])
@pytest.mark.parametrize("target", [None, 0, "box:1", "box@3,3"])
def test_boxes_relative_to_anchors_that_the_file_lacks_are_refused(values, target):
    model = anchored(values)
    model.others[model.network.output_name] = model.chain.layers["head"].table
    with pytest.raises(TargetError, match="relative to anchors, which the file does not hold"):
        explained(model, target)
    found = explained(model, "output:3,0")
    assert gradient(found) == pytest.approx(model.chain.layers["head"].gain[3, 0])


# Results


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save("picture.png")
    return "picture.png"


def test_the_manifest_says_which_box(picture):
    found = xaimaps.explain(Detector(rows()), picture, "saliency", target="dog; box:1")
    told = json.loads(found.save("out")[-1].read_text())
    assert [entry["box"] for entry in told["targets"]] == [
        {"class": 1, "label": "dog", "score": pytest.approx(0.8), "corners": [24, 8, 44, 28]},
        {"class": 0, "label": "person", "score": pytest.approx(0.9), "corners": [4, 4, 20, 20]},
    ]


def test_the_overlay_has_the_box_drawn(picture):
    found = xaimaps.explain(Detector(rows()), picture, "saliency", target="dog")
    pixels = np.asarray(found.overlay()).astype(int)
    white = np.argwhere((pixels == 255).all(axis=-1))
    # The picture has twice the size of the input.
    np.testing.assert_array_equal([white.min(0), white.max(0)], [[16, 48], [56, 88]])
    np.testing.assert_array_equal(np.asarray(found.drawn()[1]), pixels)


def test_parity_explains_the_references_box(picture):
    models = {"one": Detector(rows()), "two": Detector(rows())}
    for target in (None, "dog", "box@30,20"):
        report = compare(models, BLANK, "saliency", target=target)
        assert {row.status for row in report.of("two", "map")} == {"agrees"}
