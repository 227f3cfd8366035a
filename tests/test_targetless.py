"""Methods that use no target, on outputs that are no classes."""

import numpy as np
import pytest

import xaimaps
from xaimaps._plan import able_methods
from xaimaps.errors import TargetError
from xaimaps.methods import METHODS
from xaimaps.parity import compare
from xaimaps.targets import EveryTarget, parse_target
from xaimaps.testing import REFERENCE_METHODS, Conv, Network, ReferenceBackend, ReLU


def segmenter():
    draw = np.random.default_rng(0).normal
    layers = {
        "conv": Conv(draw(size=(3, 3, 3, 6)).astype(np.float32), np.zeros(6, np.float32)),
        "relu": ReLU(),
        "planes": Conv(draw(size=(1, 1, 6, 4)).astype(np.float32), np.zeros(4, np.float32)),
    }
    return ReferenceBackend(Network(layers, (9, 9, 3)))


IMAGES = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
SETTINGS = {"layer": "relu", "relu": False}


def test_eigen_cam_is_the_first_component_without_a_target():
    model = segmenter()
    found = xaimaps.attribute(model, IMAGES, "eigen_cam", **SETTINGS)
    rows = model.values(IMAGES)["relu"].reshape(2, -1, 6)
    expected = [u[:, 0] * s[0] for u, s, _ in map(np.linalg.svd, rows)]
    for own, one in zip(found.maps, expected, strict=True):
        np.testing.assert_allclose(abs(own.ravel()), abs(one), atol=1e-4 * abs(one).max())
    assert str(found.target) == "every target"
    assert found.classes is None
    assert found.target_scores is None


@pytest.mark.parametrize("target", ["1; 2", lambda outputs: outputs[:, 0, 0, 0], 3])
def test_a_given_target_changes_nothing(target):
    plain = xaimaps.attribute(segmenter(), IMAGES, "eigen_cam", **SETTINGS)
    found = xaimaps.attribute(segmenter(), IMAGES, "eigen_cam", target=target, **SETTINGS)
    np.testing.assert_array_equal(found.maps, plain.maps)
    assert found.target == plain.target


def test_it_runs_beside_a_method_that_has_several_targets(pooled, images):
    methods = ["eigen_cam", "cam", "saliency"]
    eigen, cam, saliency = xaimaps.attribute(pooled, images, methods, target="top-2")
    assert (eigen.is_several, cam.is_several, saliency.is_several) == (False, True, True)
    assert [len(one.maps.shape) for one in (eigen, cam, saliency)] == [3, 4, 4]
    alone = xaimaps.attribute(pooled, images, "eigen_cam")
    np.testing.assert_array_equal(eigen.maps, alone.maps)


def test_the_row_says_whether_a_method_uses_its_target(pooled, images):
    for name in REFERENCE_METHODS:
        row = METHODS[name]
        few = {"n_masks": 4, "n_samples": 16, "segments": (1, 2), "n_steps": 2}
        options = {k: v for k, v in few.items() if k in row.options}
        one, two = (
            xaimaps.attribute(pooled, images[:1], name, target=k, **options).maps for k in (0, 2)
        )
        assert row.uses_target == (not np.array_equal(one, two)), name


@pytest.mark.parametrize("target", ["0 vs 1", "output:0", "0 vs 1; 2"])
def test_the_row_says_whether_a_method_explains_only_classes(pooled, images, target):
    every, suited = (set(able_methods(pooled, METHODS, one)) for one in (None, target))
    assert every - suited == {name for name in every if METHODS[name].only_classes}
    for name in every - suited:
        with pytest.raises(TargetError, match="must be a class"):
            xaimaps.attribute(pooled, images, name, target=target)
    few = {"n_masks": 4, "n_samples": 16, "segments": (1, 2), "n_steps": 2, "baseline": "zeros"}
    for name in suited:
        options = {k: v for k, v in few.items() if k in METHODS[name].options}
        xaimaps.attribute(pooled, images[:1], name, target=target, **options)


def test_other_methods_ask_for_a_target():
    with pytest.raises(TargetError, match="outputs must be"):
        xaimaps.attribute(segmenter(), IMAGES, "grad_cam", layer="relu")
    with pytest.raises(TargetError, match="only a target of methods that use none"):
        xaimaps.attribute(segmenter(), IMAGES, "grad_cam", layer="relu", target="every target")


def test_its_text_parses():
    assert parse_target("every target") == EveryTarget()
    assert str(xaimaps.several("every target", '"every target"')) == 'every target; "every target"'


def test_parity_compares_what_needs_no_target():
    model = {"one": segmenter(), "two": segmenter()}
    report = compare(model, IMAGES, ["eigen_cam", "grad_cam"], layer="relu")
    assert report.agrees
    status = {row.name: row.status for row in report.of("two", "map")}
    assert status == {"eigen_cam": "agrees", "grad_cam": "skipped"}
    assert "outputs must be (N, classes)" in report.of("two", "gradient")[0].note
    with pytest.raises(TargetError, match="outputs must be"):
        compare(model, IMAGES, "eigen_cam", target=2)
