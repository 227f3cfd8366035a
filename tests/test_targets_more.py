"""Targets beyond classes: differences, single numbers, regions and embeddings."""

import array_api_strict
import numpy as np
import pytest

from xaimaps import targets
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
    (targets.contrast(1, 0), OUTPUTS, [4, -8]),
    (targets.contrast("goldfish", "tench"), OUTPUTS, [4, -8]),
    (targets.contrast(None, 2), OUTPUTS, [3, 5]),
    (targets.contrast(targets.output(0), targets.contrast(1, 2)), OUTPUTS, [1 - 3, 9 + 3]),
    (targets.output(2), OUTPUTS, [2, 4]),
    (targets.output(-1), OUTPUTS, [2, 4]),
    (targets.output(), OUTPUTS[:, 0], [1, 9]),
    (targets.output(1, 2, 0), PLANES, [10, 22]),
    (targets.region(MASK, 0), PLANES, [3, 15]),
    (targets.region(MASK, "goldfish"), PLANES, [4, 16]),
    (targets.region(MASK, 0, axis=1), np.moveaxis(PLANES, -1, 1), [3, 15]),
    (targets.region(np.stack([MASK, 1 - MASK]), 0), PLANES, [3, (12 + 18 + 20 + 22) / 4]),
    (targets.region(MASK / 2, 0), PLANES, [3, 15]),
    (targets.region(MASK, 0), PLANES[..., 0], [3, 15]),
    (targets.region(MASK, 0, axis=1), PLANES[..., 1], [4, 16]),
    (targets.similarity([2, 0, 0]), OUTPUTS, [1 / 30**0.5, 9 / 98**0.5]),
    (targets.similarity(OUTPUTS * [[3], [-1]]), OUTPUTS, [1, -1]),
    (several(targets.contrast(1, 0), 2), OUTPUTS, [[4, -8], [2, 4]]),
]


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize(("value", "outputs", "expected"), CASES)
def test_scores(value, outputs, expected, xp):
    np.testing.assert_allclose(scores(value, outputs, xp), expected, rtol=1e-6)


def test_nothing_is_like_an_embedding_of_zeros():
    np.testing.assert_array_equal(scores(targets.similarity([1, 1, 1]), 0 * OUTPUTS), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: targets.region(np.zeros((2, 3)), 0), "not all zeros"),
        (lambda: targets.region(np.ones(3), 0), r"\(h, w\)"),
        (lambda: targets.region(MASK, 0, axis=2), "`axis` must be"),
        (lambda: targets.similarity(np.zeros(3)), "other than zero"),
        (lambda: targets.similarity(np.ones((1, 1, 3))), "vector"),
        (lambda: scores(targets.region(MASK, 2), PLANES), "channel 2"),
        (lambda: scores(targets.region(MASK, "perch"), PLANES), "labels"),
        (lambda: scores(targets.region(MASK[:1], 0), PLANES), "size"),
        (lambda: scores(targets.region(np.stack([MASK] * 3), 0), PLANES), "each of the 2 images"),
        (lambda: scores(targets.region(MASK, 0), OUTPUTS), "needs outputs"),
        (lambda: scores(targets.region(MASK, 1), PLANES[..., 0]), "channel 1"),
        (lambda: scores(targets.output(3), OUTPUTS), "one number"),
        (lambda: scores(targets.output(0, 0), OUTPUTS), "one number"),
        (lambda: scores(targets.similarity([1, 2]), OUTPUTS), "shape"),
        (lambda: scores(targets.contrast("top-2", 0), OUTPUTS), "must have single targets"),
        (lambda: scores(targets.contrast("perch", 0), OUTPUTS), "labels"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(TargetError, match=message):
        make()


def test_targets_that_differ_in_arrays_share_a_program():
    def key(value):
        return as_target(value, 2, LABELS).key

    assert key(targets.contrast(1, 0)) == key(targets.contrast(2, "tench"))
    assert key(targets.similarity([1, 2])) == key(targets.similarity([3, 4]))
    assert key(targets.region(MASK, 0)) == key(targets.region(1 - MASK, 0))
    different = [
        targets.contrast(1, 0),
        targets.contrast(None, 0),
        targets.output(1),
        targets.output(2),
    ]
    different += [targets.region(MASK, 0), targets.region(MASK, 1), targets.region(MASK, 0, axis=1)]
    assert len({key(value) for value in different}) == len(different)


def test_a_contrast_is_decided_on_the_clean_images():
    frozen = as_target(targets.contrast(None, 2), 2).frozen(np, OUTPUTS)
    np.testing.assert_array_equal(frozen.scores(np, OUTPUTS[::-1]), [1 - 4, 1 - 2])


def test_the_map_of_a_contrast_is_the_difference_of_maps(pooled, images):
    def maps(target):
        return saliency(pooled, images, target, absolute=False, reduce=None).maps

    np.testing.assert_allclose(maps(targets.contrast(2, 0)), maps(2) - maps(0), atol=1e-7)
    both = maps(several(targets.contrast(2, 0), 0))
    np.testing.assert_allclose(both[0] + both[1], maps(2), atol=1e-7)


def test_a_result_for_a_contrast_names_no_class(pooled, images):
    found = attribute(pooled, images, "integrated_gradients", target=targets.contrast(None, 1))
    assert found.classes is None
    assert found.maps.shape == (7, 9, 9)


@pytest.mark.parametrize("scale", [1, 3, [[2]] * 7])
def test_the_similarity_to_itself_is_refused(pooled, images, scale):
    own = pooled.forward(images)
    with pytest.raises(TargetError, match="another picture, got the embedding of image 0 itself"):
        attribute(pooled, images, "saliency", target=targets.similarity(own * scale))
    with pytest.raises(TargetError, match="of image 3 itself"):
        attribute(pooled, images, "saliency", target=targets.similarity(own[3]))


def test_a_similarity_to_another_picture_or_a_file_is_explained(pooled, images, tmp_path):
    path = tmp_path / "vector.npy"
    np.save(path, pooled.forward(images[1:2])[0])
    found = attribute(pooled, images[:1], "saliency", target=f"similar:{path}")
    one, two = pooled.forward(images[:2]).astype(float)
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    np.testing.assert_allclose(found.target_scores, [cosine], rtol=1e-5)
    assert found.maps.max() > 1e-4
    assert str(found.target) == f"similarity:{path}"
