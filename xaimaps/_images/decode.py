"""Decode the bytes of a picture file with Pillow; its exceptions become one sentence.

Values keep their type, and alpha stays a channel. Colour profiles are not applied: Pillow's own
formulas convert palettes, CMYK and LAB to RGB.
"""

from __future__ import annotations

import importlib
import io
import math
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps._images.picture import Array, Picture, range_of
from xaimaps.errors import InputImageError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The supported formats; none of them starts another program, as PostScript would."""

_REMEDY = f"give one of {', '.join(FORMATS)}, DICOM or .npy"
_ORIENTATION = 0x0112
_PHOTOMETRIC = 262
_SIXTEEN_BIT = {f"{mode};16{end}" for mode in ("RGB", "RGBA", "LA") for end in "BLN"}
_MAGIC = {
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"8BPS": "PSD",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"\x00\x00\x01\x00": "an icon",
}
_TORN = ("truncated", "broken data", "unexpected end", "incomplete", "requires a buffer")


def undecoded(source: str, data: bytes) -> Image.Image:
    """Read only the header.

    `Image.open` would do the same, but checks the size against a limit of the whole process.
    """
    from PIL import Image

    for name in FORMATS:
        importlib.import_module(f"PIL.{name.capitalize().replace('Webp', 'WebP')}ImagePlugin")
        factory, accept = Image.OPEN[name]
        if accept and accept(data[:16]) is True:
            return factory(io.BytesIO(data), "")
    raise problem(source, f"an unsupported file (detected: {_detected(data)})", _REMEDY)


def _detected(data: bytes) -> str:
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    if data[4:8] == b"ftyp":
        return "AVIF, HEIC or a video"
    head = data[:1024]
    if any(byte < 9 for byte in head):
        return "unknown bytes"
    return "SVG" if b"<svg" in head else "text"


def convert(source: str, image: Image.Image, max_pixels: int, data: bytes | None = None) -> Picture:
    """Decode an image.

    Args:
        source: the name in errors.
        image: the image, of which only the header may have been read.
        max_pixels: the largest number of pixels.
        data: the file, if it is known; channels of 16 bits need it.
    """
    mode, notes = image.mode, list[str]()
    check_size(source, image.size, max_pixels)
    values = _values(source, image, data, notes)
    clear = image.info.get("transparency")
    if values.dtype == np.uint16 and clear is not None:
        values[(values == clear).all(axis=2)] = 65535
    values = _oriented(values, image, notes)
    _note_frames(image, notes)
    has_alpha = values.shape[2] in (2, 4)
    return Picture(values, _range(image, values), source, "", mode, tuple(notes), has_alpha)


def check_size(source: str, size: Sequence[int], most: int) -> None:
    """Refuse a picture of more than `most` pixels; `size` is its width, height and frames."""
    if math.prod(size) > most:
        raise InputImageError(
            f"{source!r} must have at most {most / 1e6:g} megapixels, got "
            f"{math.prod(size) / 1e6:g} ({' x '.join(map(str, size))}); scale it down or raise the "
            "limit with max_pixels= or --max-pixels"
        )


def _values(source: str, image: Image.Image, data: bytes | None, notes: list[str]) -> Array:
    """Return the values of all channels, `(H, W, C)`."""
    raw = _raw_mode(image)
    if raw in _SIXTEEN_BIT:
        if data is not None:
            return _sixteen_bit(raw, image, undecoded(source, data))
        notes.append("16-bit channels read as 8 bits; give the file")
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        deep = np.array(image)[..., None]
        return require_finite(source, deep.astype(deep.dtype.newbyteorder("=")))
    grey = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    straight = image.convert("LA") if image.mode == "La" else image
    mode = grey + "A" * image.has_transparency_data
    values = np.array(straight if straight.mode == mode else straight.convert(mode))
    return values.reshape(*values.shape[:2], -1)


def _raw_mode(image: Image.Image) -> str:
    """Return how the file stores a pixel, such as "RGB;16B"."""
    args = next((tile.args for tile in getattr(image, "tile", ())), "")
    return args if isinstance(args, str) else str(args[0])


def _sixteen_bit(raw: str, image: Image.Image, twin: Image.Image) -> Array:
    """Read the 16-bit channels of a PNG, of which Pillow decodes one byte at a time.

    It reads the high bytes of RGB and RGBA, and the low bytes if it takes them for little-endian.
    Grey with alpha is as long as RGBA of 8 bits.
    """
    if raw.startswith("LA"):
        _read_as(image, "RGBA")
        pairs: Array = np.array(image).view(">u2").astype(np.uint16)
        return pairs
    image.load()
    _read_as(twin, raw.replace("16B", "16L"))
    values: Array = np.asarray(image).astype(np.uint16) << 8 | np.asarray(twin)
    return values


def _read_as(image: Any, raw: str) -> None:
    image.tile = [tile._replace(args=raw) for tile in image.tile]
    image.load()


def require_finite(source: str, values: Array) -> Array:
    """Return values without NaN and infinity, or raise an error."""
    if not np.isfinite(values).all():
        raise problem(source, "one with NaN or infinity", "replace these values")
    return values


def _range(image: Image.Image, values: Array) -> tuple[float, float] | None:
    """Return black and white; a TIFF of 16 bits may have white first, which Pillow leaves."""
    is_white_first = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    return (65535, 0) if values.dtype == np.uint16 and is_white_first else range_of(values)


def _oriented(values: Array, image: Image.Image, notes: list[str]) -> Array:
    """Rotate or mirror by the EXIF orientation; Pillow applies and removes a TIFF's."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF may raise anything; the pixels are valid
        notes.append("unreadable EXIF ignored")
        return values
    return oriented(values, value, notes)


def oriented(values: Array, value: Any, notes: list[str]) -> Array:
    """Rotate or mirror by the value of an orientation tag."""
    if value not in range(1, 9):
        notes.append(f"EXIF orientation {value!r} ignored")
        return values
    turned = values.swapaxes(0, 1) if value >= 5 else values
    rows = -1 if value in (3, 4, 7, 8) else 1
    columns = -1 if value in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(turned[::rows, ::columns])


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    frame = image.tell() + 1
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:  # a later frame is damaged, but this one is decoded
        notes.append(f"frame {frame}, a later one is damaged")
        return
    if count > 1:
        notes.append(f"frame {frame} of {count}")


class _Quiet:
    """Silence the warnings of decoders while any thread decodes, as warning filters are global."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._saved.__exit__(None, None, None)


_quiet = _Quiet()


@contextmanager
def decoder_errors(source: str) -> Iterator[None]:
    """Turn any exception of a decoder, including memory errors, into one sentence."""
    try:
        with _quiet:
            yield
    except InputImageError:
        raise
    except Exception as error:
        raise _undecodable(source, error) from error


def _undecodable(source: str, error: Exception) -> InputImageError:
    text = " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ == "DecompressionBombError":  # some decoders have their own check
        return problem(source, f"one above Pillow's own limit ({text})", "scale it down")
    torn = isinstance(error, (EOFError, struct.error)) or any(w in text.lower() for w in _TORN)
    got = "a truncated or damaged one" if torn else "one that cannot be decoded"
    return problem(source, f"{got} ({text})", "save or download it again")


def problem(source: str, got: str, remedy: str) -> InputImageError:
    """Make the error for a source that is not a readable picture."""
    return InputImageError(f"{source!r} must be a picture, got {got}; {remedy}")
