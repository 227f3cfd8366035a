"""Rows A01-A12 and A14 of the bad-input table: arrays that are taken, converted or refused."""

import datetime

import numpy as np
import pytest

from xaimaps._arrays import as_batch
from xaimaps.errors import ArrayInputError

SHAPE = (4, 5, 3)
PLAIN = np.random.default_rng(0).integers(0, 2, (2, *SHAPE)).astype(np.float32)
DTYPES = [
    "f8",
    "f2",
    "u1",
    "u2",
    "u8",
    "i1",
    "i2",
    "i4",
    "i8",
    "?",
    ">f4",
    ">f8",
    ">f2",
    ">i4",
    ">u2",
]


def every_other(array):
    whole = np.zeros((4, 8, 5, 6), np.float32)
    whole[::2, ::2, :, ::2] = array
    return whole[::2, ::2, :, ::2]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "as it is": lambda a: a,
    "not contiguous": every_other,
    "reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    "moved axes": lambda a: np.moveaxis(np.moveaxis(a, -1, 1).copy(), 1, -1),
    "read only": read_only,
    "Fortran order": np.asfortranarray,
    "lists": lambda a: a.tolist(),
    "a list of arrays": list,
    "a memory view": memoryview,
}


@pytest.mark.fault("A01")
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_become_native_float32(dtype):
    batch = as_batch(PLAIN.astype(dtype), SHAPE)
    assert batch.dtype == np.float32
    assert batch.dtype.isnative
    np.testing.assert_array_equal(batch, PLAIN)


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.testing.assert_array_equal(as_batch(PLAIN.astype(ml_dtypes.bfloat16), SHAPE), PLAIN)


@pytest.mark.fault("A01")
def test_bytes_are_not_scaled():
    np.testing.assert_array_equal(as_batch(np.full((1, *SHAPE), 255, np.uint8), SHAPE), 255)


@pytest.mark.fault("A02", "A03", "A04", "A05")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same_bits(layout):
    given = LAYOUTS[layout](PLAIN)
    batch = as_batch(given, SHAPE)
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch.view(np.uint32), PLAIN.view(np.uint32))


def test_the_users_array_is_left_alone():
    given = read_only(PLAIN.astype(">f8"))
    before = given.tobytes()
    as_batch(given, SHAPE)
    assert given.tobytes() == before


def test_jax_arrays():
    jnp = pytest.importorskip("jax.numpy")
    np.testing.assert_array_equal(as_batch(jnp.asarray(PLAIN), SHAPE), PLAIN)


def test_rank_three_is_a_batch_of_one():
    np.testing.assert_array_equal(as_batch(PLAIN[0], SHAPE), PLAIN[:1])


@pytest.mark.fault("A11")
def test_an_empty_batch_stays_one():
    assert as_batch(PLAIN[:0], SHAPE).shape == (0, *SHAPE)


def test_sizes_that_vary():
    assert as_batch(PLAIN, (None, None, 3)).shape == PLAIN.shape


NOT_NUMBERS = {
    "object": np.full((1, *SHAPE), None),
    "text": np.full((1, *SHAPE), "1"),
    "bytes": np.full((1, *SHAPE), b"1"),
    "complex": PLAIN.astype(complex),
    "dates": np.full((1, *SHAPE), np.datetime64(datetime.date(2020, 1, 1))),
    "durations": np.full((1, *SHAPE), np.timedelta64(1, "s")),
    "records": np.zeros((1, *SHAPE), [("r", "f4")]),
    "nothing": None,
    "a path": "cat.png",
}


@pytest.mark.fault("A06")
@pytest.mark.parametrize("given", NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_what_is_no_number_is_refused(given):
    with pytest.raises(ArrayInputError, match=r"real numbers, got .*; convert to float32"):
        as_batch(given, SHAPE)


@pytest.mark.fault("A06")
def test_masked_and_ragged():
    with pytest.raises(ArrayInputError, match="masked; fill"):
        as_batch(np.ma.masked_equal(PLAIN, 1), SHAPE)
    with pytest.raises(ArrayInputError, match="unequal lengths"):
        as_batch([[[1, 2], [1]]], SHAPE)


WRONG_SHAPES = [(), (3,), (4, 5), (1, 2, 4, 5, 3), (2, 4, 5, 1), (2, 4, 5, 4), (2, 5, 4, 3)]
WRONG_SHAPES += [(2, 224, 224, 3), (0, 4, 5, 1), (2, 0, 5, 3), (4, 5, 1)]


@pytest.mark.fault("A07", "A08", "A10")
@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=str)
def test_wrong_shapes_name_both(shape):
    with pytest.raises(ArrayInputError, match=r"shape \(N, 4, 5, 3\), got \([0-9, ]*\); "):
        as_batch(np.zeros(shape), SHAPE)


@pytest.mark.fault("A09")
@pytest.mark.parametrize("given", [(2, 3, 4, 5), (3, 4, 5), (0, 3, 4, 5)], ids=str)
def test_channels_first_is_told_how_to_turn(given):
    with pytest.raises(ArrayInputError, match=r"numpy\.moveaxis\(images, -3, -1\)"):
        as_batch(np.zeros(given), SHAPE)


def test_an_empty_picture_fits_no_model():
    with pytest.raises(ArrayInputError, match=r"\(N, any, any, 3\), got \(2, 0, 5, 3\)"):
        as_batch(np.zeros((2, 0, 5, 3)), (None, None, 3))


@pytest.mark.fault("A12")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("index", [0, 1])
def test_values_that_are_not_finite_name_their_image(value, index):
    images = PLAIN.astype(np.float64)
    images[index, 0, 0, 0] = value
    with pytest.raises(ArrayInputError, match=rf"image {index} has NaN .*1 of 2 images"):
        as_batch(images, SHAPE)


@pytest.mark.fault("A14")
@pytest.mark.parametrize("value", [1e-45, 1e-38, 1e38, -3.4e38])
def test_the_ends_of_float32_are_kept(value):
    given = np.full((1, *SHAPE), value, np.float32)
    np.testing.assert_array_equal(as_batch(given, SHAPE), given)
