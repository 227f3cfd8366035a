"""Read TIFF files that Pillow cannot read without loss, with tifffile."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xaimaps._images.decode import check_size, oriented, problem, require_finite
from xaimaps._images.extra import extra_module
from xaimaps._images.picture import Array, Picture, range_of, top_of

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _EXTRA_SAMPLES = 258, 262, 274, 277, 338
_COLOURS = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3}
"""The photometric interpretations that are read, with the channels of each."""
_PREMULTIPLIED, _ALPHA = 1, 2


def needs_tifffile(data: bytes) -> bool:
    """Whether a file is a TIFF of many bits or of bands, of which Pillow would drop some."""
    if not is_tiff(data):
        return False
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags: Any = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    bits, samples, extra = tags.get(_BITS, (1,)), tags.get(_SAMPLES, 1), tags.get(_EXTRA_SAMPLES)
    is_deep = max(bits) > 8 and tuple(bits) != (16,)
    is_grey = tags.get(_PHOTOMETRIC) in (0, 1)
    has_bands = samples > 4 or 0 in (extra or ()) or (is_grey and samples > 1 and not extra)
    return is_deep or has_bands


def read_tiff(source: str, data: bytes, max_pixels: int) -> Picture:
    """Read the first page: grey or RGB, with more bands or alpha, of any depth."""
    tifffile = extra_module(source, "tifffile")
    with _log_as_notes() as notes, tifffile.TiffFile(io.BytesIO(data)) as file:
        page, count = file.pages.first, len(file.pages)
        check_size(source, (page.imagewidth, page.imagelength), max_pixels)
        values = _channels_last(source, page)
    notes += [f"frame 1 of {count}"] if count > 1 else []
    values = oriented(values, page.tags.valueof(_ORIENTATION, 1), notes)
    return _picture(source, page, values, notes)


def is_tiff(data: bytes) -> bool:
    """Whether the bytes are those of a TIFF file."""
    return data.startswith(_MAGIC)


def read_pages(source: str, data: bytes, max_pixels: int) -> Picture:
    """Read all pages as the slices of one volume, `(D, H, W, C)`."""
    tifffile = extra_module(source, "tifffile")
    with _log_as_notes() as notes, tifffile.TiffFile(io.BytesIO(data)) as file:
        first, count = file.pages.first, len(file.pages)
        check_size(source, (first.imagewidth, first.imagelength, count), max_pixels)
        if any((page.shape, page.dtype) != (first.shape, first.dtype) for page in file.pages):
            raise problem(
                source, "a TIFF whose pages differ in size or type", "keep the pages of the volume"
            )
        values = np.stack([_channels_last(source, page) for page in file.pages])
    return _picture(source, first, values, notes)


def _picture(source: str, page: Any, values: Array, notes: list[str]) -> Picture:
    """Return values with the alpha and the range of their page."""
    alpha = page.extrasamples[-1] if page.extrasamples else 0
    if alpha == _PREMULTIPLIED:
        values = _straight(values)
    has_alpha = alpha in (_PREMULTIPLIED, _ALPHA)
    return Picture(values, _range(page, values), source, "", _mode(page), tuple(notes), has_alpha)


class _Notes(logging.Handler):
    """Collects what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"TIFF: {record.getMessage()}")


@contextmanager
def _log_as_notes() -> Iterator[list[str]]:
    """Collect what tifffile logs of damaged tags, instead of printing it."""
    logger, handler = logging.getLogger("tifffile"), _Notes()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def _channels_last(source: str, page: Any) -> Array:
    if page.photometric.name not in _COLOURS or page.axes not in ("YX", "YXS", "SYX"):
        raise problem(
            source,
            f"a TIFF of {page.photometric.name} and axes {page.axes}",
            "convert it to grey, RGB or bands",
        )
    values = require_finite(source, page.asarray())
    if page.axes == "SYX":
        return np.moveaxis(values, 0, -1)
    return values.reshape(*values.shape[:2], -1)


def _straight(values: Array) -> Array:
    """Divide colours by their alpha; alpha of 0 leaves them."""
    colour, alpha, top = values[..., :-1].astype(np.float64), values[..., -1:], top_of(values)
    straight = np.minimum(colour * top / np.where(alpha > 0, alpha, top), top)
    whole = np.rint(straight) if values.dtype.kind == "u" else straight
    return np.concatenate([whole.astype(values.dtype), alpha], axis=-1)


def _range(page: Any, values: Array) -> tuple[float, float] | None:
    """Return black and white by the bits of a sample, which may be fewer than those of its type."""
    if values.dtype not in (np.uint8, np.uint16):
        return range_of(values)
    top = 2**page.bitspersample - 1
    return (top, 0) if page.photometric.name == "MINISWHITE" else (0, top)


def _mode(page: Any) -> str:
    return f"{page.photometric.name} {page.samplesperpixel} x {page.dtype}"
