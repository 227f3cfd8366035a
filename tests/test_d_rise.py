"""D-RISE against xaitk-saliency and boxes worked out by hand, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps._plan import able_methods
from xaimaps.errors import MethodError, TargetError
from xaimaps.methods import METHODS, d_rise
from xaimaps.methods.rise import draw_masks
from xaimaps.targets import OutputsAt, contrast
from xaimaps.targets._detect import candidates
from xaimaps.testing import Network, ReferenceBackend, detector_network

REFERENCE = np.load(Path(__file__).parent / "references" / "d_rise.npz")


def detector():
    return ReferenceBackend(detector_network())


def box_of(image, index):
    """The target of a box by its row of the outputs."""
    found = candidates(detector().forward(image)[0], dict, (9, 9))
    category = int(found.scores[index].argmax())
    return OutputsAt(found.places[index, category][:, None], True, head=found.head)


def test_maps_are_those_of_xaitk():
    image = REFERENCE["image"]
    target = box_of(image, int(REFERENCE["box"]))
    found = d_rise(detector(), image, target, n_masks=30, grid=3).maps[0] / REFERENCE["cover"]
    np.testing.assert_allclose(found / found.max(), REFERENCE["map"], atol=1e-5)


class Found:
    """Rows of one box each half, with the score of the half's mean, best first; class 1 and 0."""

    rows = np.float32([[0, 0, 4, 4, 0, 1], [4, 0, 8, 4, 0, 0]])

    def __call__(self, x):
        left, right = x[:, :, :4].mean((1, 2, 3)), x[:, :, 4:].mean((1, 2, 3))
        found = np.stack([self.rows] * len(x))
        found[:, :, 4] = np.stack([left, right], axis=1)
        order = np.argsort(-found[:, :, 4], axis=1, kind="stable")
        return np.take_along_axis(found, order[..., None], axis=1)


def halves():
    image = np.full((1, 4, 8, 3), 0.5, np.float32)
    image[:, :, 4:] = 0.8
    return ReferenceBackend(Network({"rows": Found()}, (4, 8, 3))), image


def test_a_box_in_order_of_the_score_is_found_in_another_row():
    """The boxes do not overlap, so that the weight is the score of the box itself."""
    model, image = halves()
    options = {"target": "box:2", "n_masks": 400, "grid": 2}
    found = xaimaps.attribute(model, image, "d_rise", **options)
    expected = xaimaps.attribute(model, image, "rise", **options)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)
    assert found.maps[0, :, :4].mean() > 1.05 * found.maps[0, :, 4:].mean()


def test_classes_of_a_box_count(monkeypatch):
    """The other box has another class, so that it is worth nothing even at the same position."""
    model, image = halves()
    options = {"target": "box:2", "n_masks": 100, "grid": 2}
    before = xaimaps.attribute(model, image, "d_rise", **options).maps
    monkeypatch.setattr(Found, "rows", Found.rows[[0, 0]] * np.float32([[1] * 6, [1] * 5 + [0]]))
    np.testing.assert_array_equal(xaimaps.attribute(model, image, "d_rise", **options).maps, before)


def test_several_boxes_and_images_give_what_single_ones_give():
    images = np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)
    options = {"n_masks": 40, "memory": 0.01}
    whole = xaimaps.attribute(detector(), images, "d_rise", target="box:1; 1", **options).maps
    for i, k, target in [(0, 0, "box:1"), (2, 1, 1)]:
        one = xaimaps.attribute(detector(), images[[i]], "d_rise", target=target, **options)
        np.testing.assert_allclose(whole[i, k], one.maps[0], rtol=1e-5)


@pytest.mark.parametrize("target", [0, "output:0,4", contrast("box:1", "box:2")], ids=str)
def test_what_is_no_box_is_refused(target, pooled, images):
    is_class = target == 0
    model, batch = (pooled, images) if is_class else (detector(), REFERENCE["image"])
    with pytest.raises(TargetError, match=r"must be a box of a detector .* 'box:1', got another"):
        xaimaps.attribute(model, batch, "d_rise", target=target, n_masks=4)


def test_wrong_options():
    for options, message in (({"n_masks": 0}, "`n_masks`"), ({"p": 0.0}, "`p` must be above 0")):
        with pytest.raises(MethodError, match=message):
            xaimaps.attribute(detector(), REFERENCE["image"], "d_rise", **options)


def test_all_methods_are_those_that_fit_the_model(pooled):
    assert "d_rise" in able_methods(detector(), METHODS)
    assert "d_rise" not in able_methods(pooled, METHODS)


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_the_masks_are_the_papers_on_every_backend(backend):
    """5000 masks of 16 x 16 cells, unless another number is given."""
    assert (METHODS["d_rise"].options["n_masks"], METHODS["d_rise"].options["grid"]) == (5000, 16)
    model = xaimaps.load(as_onnx(detector_network()), backend=backend)
    found = xaimaps.attribute(model, REFERENCE["image"], "d_rise", target="box:1", n_masks=20)
    drawn = draw_masks((9, 9, 3), n_masks=20, grid=16)
    given = d_rise(detector(), REFERENCE["image"], box_of_first(), **drawn)
    np.testing.assert_allclose(found.maps, given.maps, rtol=1e-4)


def box_of_first():
    scores = candidates(detector().forward(REFERENCE["image"])[0], dict, (9, 9)).scores
    return box_of(REFERENCE["image"], int(scores.max(axis=1).argmax()))
