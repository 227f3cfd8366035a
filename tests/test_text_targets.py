"""Targets of recognisers of text: the characters that are read."""

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import TargetError
from xaimaps.targets import parse_target
from xaimaps.testing import Conv, Network, ReferenceBackend

LABELS = ("", "a", "b")
STRENGTHS = np.float32([1, 2, 3, 1, 1, 2, 4, 3])


class Line:
    """(N, 1, W, C) to (N, W, C)."""

    def __call__(self, x):
        return x[:, 0]

    def pull(self, x, g):
        return g[:, None]


def recogniser(labels=LABELS):
    """The scores are the image itself: a column for each step, a channel for each class."""
    same = Conv(np.eye(3, dtype=np.float32)[None, None], np.zeros(3, np.float32))
    model = ReferenceBackend(Network({"scores": same, "line": Line()}, (1, 8, 3)))
    model.info.labels = labels
    return model


def written(*classes):
    """An image in which each step has the score of one class."""
    return (np.eye(3, dtype=np.float32)[list(classes)] * STRENGTHS[:, None])[None]


IMAGES = np.stack([written(1, 1, 0, 1, 2, 2, 0, 2), written(0, 0, 2, 2, 2, 1, 1, 0)])


@pytest.mark.parametrize(
    ("target", "steps", "scores"), [("text:1", (1, 2), (2, 3)), ("text:2", (3, 6), (1, 4))]
)
def test_a_character_is_its_best_step(target, steps, scores):
    """In the first image aabb is read, since a blank separates equal characters; then ba."""
    found = xaimaps.attribute(recogniser(), IMAGES, "saliency", target=target)
    np.testing.assert_array_equal(found.target_scores, scores)
    np.testing.assert_array_equal(found.maps[:, 0], np.eye(8)[list(steps)])
    assert str(found.target) == target
    assert found.classes is None


def test_a_character_against_another():
    found = xaimaps.attribute(recogniser(), IMAGES[:1], "saliency", target="text:3 vs text:4")
    np.testing.assert_array_equal(found.target_scores, [2 - 3])
    np.testing.assert_array_equal(found.maps[0, 0], np.eye(8)[5] + np.eye(8)[7])


@pytest.mark.parametrize(("blank", "step"), [(0, 2), (1, 2), (2, 1)])
def test_the_blank_is_the_class_without_a_name(blank, step):
    """Of the classes 0 1 2 0 1 2 0 1, the second that is not the blank."""
    labels = tuple("" if index == blank else f"{index}" for index in range(3))
    image = written(0, 1, 2, 0, 1, 2, 0, 1)[None]
    found = xaimaps.attribute(recogniser(labels), image, "saliency", target="text:2")
    np.testing.assert_array_equal(found.maps[0, 0], np.eye(8)[step])


@pytest.mark.parametrize(
    ("labels", "target", "message"),
    [
        (LABELS, "text:3", "one of the 2 characters that are read in image 1, got 'text:3'"),
        (None, "text:1", "a name for each class, empty for the blank, got shape"),
        (("x", "a", "b"), "text:1", "a name for each class"),
        (("", "a"), "text:1", "a name for each class"),
        (LABELS, "text:0", "a position from 1 as in text:3, got '0'"),
        (LABELS, "text:a", "a position from 1"),
        (LABELS, "a", "text:POSITION"),
    ],
)
def test_what_is_no_character(labels, target, message):
    with pytest.raises(TargetError, match=message):
        xaimaps.attribute(recogniser(labels), IMAGES, "saliency", target=target)


def test_without_a_model_nothing_is_read():
    assert str(parse_target("text:12")) == "text:12"
    with pytest.raises(TargetError, match="'text:1' must be read by a model"):
        parse_target("text:1").resolve(1, LABELS)
