"""Targets: rows T01-T04 of the bad-input table, and what each way of writing one means."""

import operator

import array_api_strict
import numpy as np
import pytest

from xaimaps.errors import TargetError
from xaimaps.targets import Classes, Top, as_target, several

LABELS = ("tench", "goldfish", "great white shark", "Shark", "SHARK")
OUTPUTS = np.array([[1, 5, 2, 0, 3], [9, 1, 1, 1, 8], [0, 0, 0, 7, 6]], np.float32)
NAMESPACES = [np, array_api_strict, pytest.importorskip("jax.numpy")]


def row_sum(outputs):
    return outputs.sum(axis=-1)


def first(outputs):
    return outputs[:, 0]


def scores(value, xp=np, labels=LABELS):
    """The scores of OUTPUTS in some array namespace, as numpy's."""
    target = as_target(value, len(OUTPUTS), labels)
    target = target.with_arrays(tuple(xp.asarray(array) for array in target.arrays))
    return np.asarray(target.scores(xp, xp.asarray(OUTPUTS)))


ONE_SCORE = [
    (None, [5, 9, 7]),
    ("top-1", [5, 9, 7]),
    ("top1", [5, 9, 7]),
    (2, [2, 1, 0]),
    (0, [1, 9, 0]),
    (4, [3, 8, 6]),
    (np.int64(2), [2, 1, 0]),
    (np.uint8(2), [2, 1, 0]),
    (np.array(2), [2, 1, 0]),
    ("goldfish", [5, 1, 0]),
    ("GoldFish", [5, 1, 0]),
    ([0, 4, 3], [1, 8, 7]),
    ((0, 4, 3), [1, 8, 7]),
    (np.array([0, 4, 3]), [1, 8, 7]),
    (np.array([0, 4, 3], ">u2"), [1, 8, 7]),
    (["tench", 4, np.int32(3)], [1, 8, 7]),
    (np.array(["tench", "goldfish", "tench"]), [1, 1, 0]),
]


class Scalar:
    """A framework's number without axes, such as TensorFlow's, which has no `item`."""

    def __init__(self, value):
        self.value, self.shape, self.dtype = value, (), type(value)

    def __index__(self):
        return operator.index(self.value)


def test_a_native_scalar_is_one_class():
    np.testing.assert_array_equal(scores(Scalar(2)), [2, 1, 0])
    with pytest.raises(TargetError, match="`target` must be a class index"):
        scores(Scalar(2.0))


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize(("value", "expected"), ONE_SCORE, ids=repr)
def test_one_score_for_each_image(value, expected, xp):
    np.testing.assert_array_equal(scores(value, xp), expected)


SEVERAL_SCORES = [
    ("top-2", [[5, 9, 7], [3, 8, 6]]),
    ("top-5", [[5, 9, 7], [3, 8, 6], [2, 1, 0], [1, 1, 0], [0, 1, 0]]),
    (several("goldfish", 4), [[5, 1, 0], [3, 8, 6]]),
    (several(None, 0), [[5, 9, 7], [1, 9, 0]]),
    (several([0, 4, 3], 1), [[1, 8, 7], [5, 1, 0]]),
    (several(3), [[0, 1, 7]]),
]


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize(("value", "expected"), SEVERAL_SCORES)
def test_several_scores_have_a_leading_axis(value, expected, xp):
    np.testing.assert_array_equal(scores(value, xp), expected)


def test_functions_of_the_outputs():
    np.testing.assert_array_equal(scores(row_sum), [11, 20, 13])
    np.testing.assert_array_equal(
        scores(several(row_sum, first, 4)), [[11, 20, 13], [1, 9, 0], [3, 8, 6]]
    )
    assert as_target(row_sum, 3).indices_in(np, OUTPUTS) is None
    assert as_target(several(row_sum, 4), 3).indices_in(np, OUTPUTS) is None


def test_a_target_comes_back_as_it_is():
    target = Top(2)
    assert as_target(target, 3) is target


def test_classes_of_the_best_come_in_order_and_ties_in_the_order_of_classes():
    found = as_target("top-3", 3).indices_in(np, OUTPUTS)
    np.testing.assert_array_equal(found, [[1, 0, 3], [4, 4, 4], [2, 1, 0]])


OUT_OF_RANGE = [5, 5000, 2**40, -1, -6, np.int64(5), np.array(-1), [0, 1, 5], np.array([0, -1, 0])]
NO_TARGET = [True, np.True_, 1.0, np.float64(1), float("nan"), {1}, [0, True, 1], [0, 1.5, 1]]
NO_TARGET += [np.array([0.0, 1.0, 2.0]), np.array([True, True, False]), [None, 0, 0], [[0, 1]] * 3]
WRONG_LENGTH = [[0] * 4, [0, 1], [], np.array([0, 1, 2, 3]), np.zeros((3, 2), int), ["tench"]]
UNKNOWN = ['"3"', "top-0", "top--1", "top-", "top-1.5", "", "fish"]


@pytest.mark.fault("T01", "T02")
@pytest.mark.parametrize("value", OUT_OF_RANGE, ids=repr)
def test_a_class_out_of_range_names_the_range(value):
    with pytest.raises(TargetError, match=r"a class from 0 to 4, got -?[0-9]+$"):
        as_target(value, 3, LABELS)


@pytest.mark.parametrize("value", [-1, 2**31, 2**40])
def test_without_labels_the_least_is_known(value):
    with pytest.raises(TargetError, match="from 0 to the number of classes - 1, got"):
        as_target(value, 3)


@pytest.mark.fault("T03")
@pytest.mark.parametrize("value", NO_TARGET, ids=repr)
def test_what_is_no_target_is_said_to_be_none(value):
    with pytest.raises(TargetError, match="must be a class index, a label, 'top-K'"):
        as_target(value, 3, LABELS)


@pytest.mark.fault("T04")
@pytest.mark.parametrize("value", WRONG_LENGTH, ids=repr)
def test_a_list_has_one_entry_for_each_image(value):
    with pytest.raises(TargetError, match=r"each of the 3 images, got shape .*several"):
        as_target(value, 3, LABELS)


@pytest.mark.fault("T03")
@pytest.mark.parametrize("value", UNKNOWN)
def test_unknown_labels(value):
    with pytest.raises(TargetError, match="one of the model's 5 labels, got"):
        as_target(value, 3, LABELS)


@pytest.mark.parametrize(
    ("value", "labels", "message"),
    [
        ("goldfisch", LABELS, "nearest: 'goldfish'"),
        ("great white", LABELS, "nearest: 'great white shark'"),
        ("shark", LABELS, r"of the classes \[3, 4\]"),
        ("goldfish", None, "labels are not known; give the index"),
        (several(0, "top-2"), LABELS, "must have single targets, got 'top-2'"),
        (several(0, several(1, 2)), LABELS, "must have single targets"),
    ],
)
def test_messages_say_what_to_do(value, labels, message):
    with pytest.raises(TargetError, match=message):
        as_target(value, 3, labels)


def test_several_of_nothing():
    with pytest.raises(TargetError, match="at least one target"):
        several()


def test_more_than_there_are_classes():
    with pytest.raises(TargetError, match="at most the model's 5 classes, got top-6"):
        scores("top-6")


def test_a_function_must_give_one_score_for_each_image():
    with pytest.raises(TargetError, match=r"each of the 3 images, got shape \(3, 5\)"):
        scores(lambda outputs: outputs)
    with pytest.raises(TargetError, match=r"each of the 3 images, got shape \(\)"):
        scores(lambda outputs: 1.0)


def test_a_class_needs_a_row_of_classes():
    with pytest.raises(TargetError, match=r"\(3, 4, 4, 5\); give output:INDEX"):
        as_target(0, 3).scores(np, np.zeros((3, 4, 4, 5)))


def test_an_index_that_slips_through_marks_no_class():
    """JAX clamps an index that is out of range, and numpy counts -1 from the end."""
    for xp in NAMESPACES:
        target = Classes(xp.asarray([5, -1, 2], dtype=xp.int32))
        np.testing.assert_array_equal(np.asarray(target.scores(xp, xp.asarray(OUTPUTS))), [0, 0, 0])


def test_native_arrays_pass_untouched_if_they_hold_integers():
    jnp = pytest.importorskip("jax.numpy")
    indices = jnp.array([0, 4, 3])
    assert as_target(indices, 3).arrays[0] is indices
    with pytest.raises(TargetError, match="integers, got an array of float32"):
        as_target(jnp.array([0.0, 4.0, 3.0]), 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0, [1, 2, 3]),
        ("tench", 4),
        ("top-1", None),
        (several(0, 1), several("tench", [1, 2, 3])),
        (row_sum, row_sum),
    ],
)
def test_one_compiled_program_serves_both(one, other):
    assert as_target(one, 3, LABELS).key == as_target(other, 3, LABELS).key


@pytest.mark.parametrize(
    ("one", "other"),
    [(0, None), (None, "top-2"), (0, several(0)), (several(0), several(0, 1)), (first, row_sum)],
)
def test_different_programs_have_different_keys(one, other):
    assert as_target(one, 3).key != as_target(other, 3).key


def test_an_empty_batch_has_empty_targets():
    for value in (None, 2, [], "tench"):
        target = as_target(value, 0, LABELS)
        assert target.scores(np, np.zeros((0, 5), np.float32)).shape == (0,)
