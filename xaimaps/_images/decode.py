"""Decode the bytes of a picture file to RGB pixels; Pillow's exceptions become one sentence.

Alpha is composited on white. Sixteen-bit and floating-point values are scaled, never clipped.
Colour profiles are not applied: Pillow's own formulas convert CMYK and LAB.
"""

from __future__ import annotations

import importlib
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import InputImageError

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, Any]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The supported formats; none of them starts another program, as PostScript would."""

_REMEDY = f"give one of {', '.join(FORMATS)}"
_ORIENTATION = 0x0112
_MAGIC = {
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"8BPS": "PSD",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a NumPy array",
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


def convert(
    source: str, image: Image.Image, max_pixels: int
) -> tuple[Pixels, str, tuple[str, ...]]:
    """Decode an image, and return its pixels, its own mode and notes."""
    mode, notes = image.mode, list[str]()
    _check_size(source, image.size, max_pixels)
    if not mode.startswith("I;16") and ";16" in str(getattr(image, "tile", "")):
        notes.append("16-bit channels read as 8 bits")
    image.load()
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    pixels = _deep(source, image) if deep else _eight_bit(image, notes)
    pixels = _oriented(pixels, image, notes)
    _note_frames(image, notes)
    return pixels, mode, tuple(notes)


def _check_size(source: str, size: tuple[int, int], most: int) -> None:
    if size[0] * size[1] > most:
        raise InputImageError(
            f"{source!r} must have at most {most / 1e6:g} megapixels, got "
            f"{size[0] * size[1] / 1e6:g} ({size[0]} x {size[1]}); scale it down or raise the "
            "limit with max_pixels= or --max-pixels"
        )


def _eight_bit(image: Image.Image, notes: list[str]) -> Pixels:
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    straight = image.convert("LA") if image.mode == "La" else image
    return on_white(np.array(straight.convert("RGBA")), notes)


def on_white(rgba: Pixels, notes: list[str]) -> Pixels:
    """Composite `(H, W, 4)` on white, rounded; 255 * 255 + 127 fits into 16 bits."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    notes.append("alpha composited on white")
    pixels: Pixels = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels


def _deep(source: str, image: Image.Image) -> Pixels:
    """Scale one 16-bit channel, or floating point from 0 to 1, to grey pixels."""
    values, top = np.asarray(image), 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= top):  # false for NaN as well
        found = f"{values.min():g} to {values.max():g}"
        raise problem(
            source, f"values from {found} in mode {image.mode}", f"scale them to 0 to {top}"
        )
    grey = scaled(values, top)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return grey_to_rgb(grey)


def scaled(values: Array, top: int) -> Pixels:
    """Scale 0 to `top` to whole numbers from 0 to 255, rounded."""
    pixels: Pixels = np.rint(values * np.float32(255 / top)).astype(np.uint8)
    return pixels


def grey_to_rgb(values: Pixels) -> Pixels:
    """Repeat `(H, W)` for each of the three channels."""
    return np.repeat(values[..., None], 3, axis=2)


def _oriented(pixels: Pixels, image: Image.Image, notes: list[str]) -> Pixels:
    """Rotate or mirror pixels by the EXIF orientation; Pillow applies and removes a TIFF's."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF may raise anything; the pixels are valid
        notes.append("unreadable EXIF ignored")
        return pixels
    if value not in range(1, 9):
        notes.append(f"EXIF orientation {value!r} ignored")
        return pixels
    turned = pixels.swapaxes(0, 1) if value >= 5 else pixels
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
    """Silence Pillow's warnings while any thread decodes, as warning filters are global."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._saved.__exit__(None, None, None)


_quiet = _Quiet()


@contextmanager
def pillow_errors(source: str) -> Iterator[None]:
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
