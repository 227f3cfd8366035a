"""Targets beyond classes: differences, single numbers, regions and embeddings."""

import array_api_strict
import numpy as np
import pytest

from xaimaps import goals
from xaimaps._attribute import attribute
from xaimaps.errors import TargetError
from xaimaps.methods import saliency
from xaimaps.targets import as_target, several

LABELS = ("tench", "goldfish", "great white shark")
OUTPUTS = np.array([[1, 5, 2], [9, 1, 4]], np.float32)
PLANES = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
MASK = np.array([[0, 1, 1], [0, 0, 0]])
NAMESPACES = [np, array_api_strict, pytest.importorskip("jax.numpy")]


def scores(value, outputs, xp=np):
    """The scores in some array namespace, as numpy's."""
    target = as_target(value, len(outputs), LABELS)
    target = target.with_arrays(tuple(xp.asarray(array) for array in target.arrays))
    return np.asarray(target.scores(xp, xp.asarray(outputs)))


CASES = [
    (goals.contrast(1, 0), OUTPUTS, [4, -8]),
    (goals.contrast("goldfish", "tench"), OUTPUTS, [4, -8]),
    (goals.contrast(None, 2), OUTPUTS, [3, 5]),
    (goals.contrast(goals.output(0), goals.contrast(1, 2)), OUTPUTS, [1 - 3, 9 + 3]),
    (goals.output(2), OUTPUTS, [2, 4]),
    (goals.output(-1), OUTPUTS, [2, 4]),
    (goals.output(), OUTPUTS[:, 0], [1, 9]),
    (goals.output(1, 2, 0), PLANES, [10, 22]),
    (goals.region(MASK, 0), PLANES, [3, 15]),
    (goals.region(MASK, "goldfish"), PLANES, [4, 16]),
    (goals.region(MASK, 0, axis=1), np.moveaxis(PLANES, -1, 1), [3, 15]),
    (goals.region(np.stack([MASK, 1 - MASK]), 0), PLANES, [3, (12 + 18 + 20 + 22) / 4]),
    (goals.region(MASK / 2, 0), PLANES, [3, 15]),
    (goals.similarity([2, 0, 0]), OUTPUTS, [1 / 30**0.5, 9 / 98**0.5]),
    (goals.similarity(OUTPUTS * [[3], [-1]]), OUTPUTS, [1, -1]),
    (several(goals.contrast(1, 0), 2), OUTPUTS, [[4, -8], [2, 4]]),
]


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize(("value", "outputs", "expected"), CASES)
def test_scores(value, outputs, expected, xp):
    np.testing.assert_allclose(scores(value, outputs, xp), expected, rtol=1e-6)


def test_nothing_is_like_an_embedding_of_zeros():
    np.testing.assert_array_equal(scores(goals.similarity([1, 1, 1]), 0 * OUTPUTS), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: goals.region(np.zeros((2, 3)), 0), "not all zeros"),
        (lambda: goals.region(np.ones(3), 0), r"\(h, w\)"),
        (lambda: goals.region(MASK, 0, axis=2), "`axis` must be"),
        (lambda: goals.similarity(np.zeros(3)), "other than zero"),
        (lambda: goals.similarity(np.ones((1, 1, 3))), "vector"),
        (lambda: scores(goals.region(MASK, 2), PLANES), "channel 2"),
        (lambda: scores(goals.region(MASK, "perch"), PLANES), "labels"),
        (lambda: scores(goals.region(MASK[:1], 0), PLANES), "size"),
        (lambda: scores(goals.region(np.stack([MASK] * 3), 0), PLANES), "each of the 2 images"),
        (lambda: scores(goals.region(MASK, 0), OUTPUTS), "needs outputs"),
        (lambda: scores(goals.output(3), OUTPUTS), "one number"),
        (lambda: scores(goals.output(0, 0), OUTPUTS), "one number"),
        (lambda: scores(goals.similarity([1, 2]), OUTPUTS), "shape"),
        (lambda: scores(goals.contrast("top-2", 0), OUTPUTS), "one class or function"),
        (lambda: scores(goals.contrast("perch", 0), OUTPUTS), "labels"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(TargetError, match=message):
        make()


def test_targets_that_differ_in_arrays_share_a_program():
    def key(value):
        return as_target(value, 2, LABELS).key

    assert key(goals.contrast(1, 0)) == key(goals.contrast(2, "tench"))
    assert key(goals.similarity([1, 2])) == key(goals.similarity([3, 4]))
    assert key(goals.region(MASK, 0)) == key(goals.region(1 - MASK, 0))
    different = [goals.contrast(1, 0), goals.contrast(None, 0), goals.output(1), goals.output(2)]
    different += [goals.region(MASK, 0), goals.region(MASK, 1), goals.region(MASK, 0, axis=1)]
    assert len({key(value) for value in different}) == len(different)


def test_a_contrast_is_decided_on_the_clean_images():
    frozen = as_target(goals.contrast(None, 2), 2).frozen(np, OUTPUTS)
    np.testing.assert_array_equal(frozen.scores(np, OUTPUTS[::-1]), [1 - 4, 1 - 2])


def test_the_map_of_a_contrast_is_the_difference_of_maps(pooled, images):
    def maps(target):
        return saliency(pooled, images, target, absolute=False, reduce=None).maps

    np.testing.assert_allclose(maps(goals.contrast(2, 0)), maps(2) - maps(0), atol=1e-7)
    both = maps(several(goals.contrast(2, 0), 0))
    np.testing.assert_allclose(both[0] + both[1], maps(2), atol=1e-7)


def test_a_result_for_a_contrast_names_no_class(pooled, images):
    found = attribute(pooled, images, "integrated_gradients", target=goals.contrast(None, 1))
    assert found.target is None
    assert found.maps.shape == (7, 9, 9)
