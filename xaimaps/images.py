"""Pictures from files, arrays and Pillow images: RGB, displayed orientation, or one clear error.

Alpha is composited on white. Sixteen-bit and floating-point values are scaled, never clipped.
Colour profiles are not applied: CMYK and LAB are converted by Pillow's own formulas.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import ArrayInputError, InputImageError

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, Any]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""What is read; none of these starts another program, as PostScript would."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""What `find_pictures` takes for a picture, in small or capital letters."""

_REMEDY = f"give one of {', '.join(FORMATS)}"
_ORIENTATION = 0x0112
_LEAST_BYTES_LIMIT = 2**30
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
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


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture as it is displayed.

    Attributes:
        pixels: `(H, W, 3)` uint8, RGB.
        source: the path as given; "<array>" or "<image>" if it was none.
        sha256: of the bytes the pixels were decoded from; empty without a file.
        mode: the file's own mode, such as "RGB", "I;16" or "CMYK"; an array's dtype.
        notes: what was done or left out, such as "frame 1 of 12".
    """

    pixels: Pixels
    source: str
    sha256: str
    mode: str
    notes: tuple[str, ...] = ()


def open_picture(
    source: str | os.PathLike[str] | Image.Image | Array, *, max_pixels: int = 64_000_000
) -> Picture:
    """Read a picture from a path, a Pillow image or an array.

    Args:
        source: a regular file; a Pillow image; or an array `(H, W)` or `(H, W, 1|3|4)`, uint8,
            bool or floating point in 0 to 1.
        max_pixels: the most pixels (width times height) that are decoded; for files and images.

    Returns:
        The picture; of an animation or a file of many pages, the first one.

    Raises:
        InputImageError: if the file or the image cannot be read, is damaged or too large.
        ArrayInputError: if the array is none of the above.
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_file(os.fspath(source), max_pixels)
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source))
    return _from_image(source, max_pixels)


def find_pictures(paths: Iterable[Path], *, follow_symlinks: bool = False) -> list[Path]:
    """Replace each folder by the pictures in it, sorted by name, without its subfolders.

    Args:
        paths: files, which stay as they are (there or not), and folders.
        follow_symlinks: take links that lead out of their folder.

    Returns:
        The pictures, each once, in the order given.

    Raises:
        InputImageError: if a folder has no picture, cannot be read or has a link leading out.
    """
    found = (
        picture
        for path in paths
        for picture in (_in_folder(path, follow_symlinks) if path.is_dir() else [path])
    )
    return list(dict.fromkeys(found))


def _in_folder(folder: Path, follow_symlinks: bool) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        got = f"a folder that cannot be read ({error.strerror})"
        raise _problem(str(folder), got, "change its permissions") from error
    pictures = [e for e in entries if _looks_like_picture(e)]
    if not pictures:
        raise InputImageError(
            f"no images found under {str(folder)!r}, looked for {' '.join(SUFFIXES)}; "
            "name the files, or a folder that holds them itself"
        )
    for link in [] if follow_symlinks else pictures:
        _refuse_leaving(link, folder)
    return pictures


def _looks_like_picture(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in SUFFIXES and not hidden and not path.is_dir()


def _refuse_leaving(path: Path, folder: Path) -> None:
    target = Path(os.path.realpath(path))
    if path.is_symlink() and not target.is_relative_to(os.path.realpath(folder)):
        raise _problem(
            str(path), f"a link out of its folder, to {str(target)!r}", "pass --follow-symlinks"
        )


def _from_file(source: str, max_pixels: int) -> Picture:
    data = _read(source, max(_LEAST_BYTES_LIMIT, 16 * max_pixels))
    with _pillow_errors(source):
        image = _undecoded(source, data)
        pixels, mode, notes = _convert(source, image, max_pixels)
    return Picture(pixels, source, hashlib.sha256(data).hexdigest(), mode, notes)


def _from_image(image: Image.Image, max_pixels: int) -> Picture:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise InputImageError(
            f"expected a path, a Pillow image or an array, got {type(image).__name__}; "
            "convert it to one of these"
        )
    with _pillow_errors("<image>"):
        pixels, mode, notes = _convert("<image>", image, max_pixels)
    return Picture(pixels, "<image>", "", mode, notes)


def _read(source: str, most: int) -> bytes:
    """The bytes of a regular file; anything else is named and never opened, as a pipe blocks."""
    try:
        status = os.stat(source)  # noqa: PTH116 - `source` keeps the user's spelling
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
            raise _problem(source, kind, "give the path of a picture file")
        if status.st_size > most:
            raise _problem(
                source, f"a file of {status.st_size} bytes", f"give one of at most {most}"
            )
        data = Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise _problem(source, _why_unreadable(source, error), "check the path") from error
    if not data:
        raise _problem(source, "an empty file", "save or download it again")
    return data


def _why_unreadable(source: str, error: OSError | ValueError) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ELOOP:
        return "a loop of symbolic links"
    if code == errno.ENOENT and Path(source).is_symlink():
        return f"a dangling link to {str(Path(source).readlink())!r}"
    reasons = {errno.ENOENT: "no such file", errno.EACCES: "permission denied"}
    return reasons.get(code or 0, str(getattr(error, "strerror", None) or error))


def _undecoded(source: str, data: bytes) -> Image.Image:
    """Read the header only.

    `Image.open` would do the same, but compares the size with a limit of the whole process.
    """
    from PIL import Image

    for name in FORMATS:
        importlib.import_module(f"PIL.{name.capitalize().replace('Webp', 'WebP')}ImagePlugin")
        factory, accept = Image.OPEN[name]
        if accept and accept(data[:16]) is True:
            return factory(io.BytesIO(data), "")
    raise _problem(source, f"no supported image (detected: {_detected(data)})", _REMEDY)


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


def _convert(
    source: str, image: Image.Image, max_pixels: int
) -> tuple[Pixels, str, tuple[str, ...]]:
    """Decode an image; returns its pixels, its own mode and the notes."""
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
            f"expected at most {most / 1e6:g} megapixels, got {size[0] * size[1] / 1e6:g} "
            f"({size[0]} x {size[1]}) in {source!r}; scale it down or raise the limit with "
            "max_pixels= or --max-pixels"
        )


def _eight_bit(image: Image.Image, notes: list[str]) -> Pixels:
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    straight = image.convert("LA") if image.mode == "La" else image
    return _on_white(np.array(straight.convert("RGBA")), notes)


def _on_white(rgba: Pixels, notes: list[str]) -> Pixels:
    """Composite `(H, W, 4)` on white, rounded; 255 * 255 + 127 still fits in 16 bits."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    notes.append("alpha composited on white")
    pixels: Pixels = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels


def _deep(source: str, image: Image.Image) -> Pixels:
    """Scale one deep channel, 0 to 65535 or (mode F) 0 to 1, to grey pixels."""
    values, top = np.asarray(image), 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= top):  # false for NaN as well
        found = f"{values.min():g} to {values.max():g}"
        raise _problem(
            source, f"values from {found} in mode {image.mode}", f"scale them to 0 to {top}"
        )
    grey = _scaled(values, top)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return _grey(grey)


def _scaled(values: Array, top: int) -> Pixels:
    pixels: Pixels = np.rint(values * np.float32(255 / top)).astype(np.uint8)
    return pixels


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2)


def _oriented(pixels: Pixels, image: Image.Image, notes: list[str]) -> Pixels:
    """Turn pixels by the EXIF orientation (a TIFF's is applied, and removed, by Pillow)."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever Pillow makes of damaged bytes: the pixels are sound
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
    except Exception:  # a later frame is damaged: this one is decoded
        notes.append(f"frame {frame}, a later one is damaged")
        return
    if count > 1:
        notes.append(f"frame {frame} of {count}")


def _from_array(array: Array) -> Picture:
    notes: list[str] = []
    _check_shape(array.shape)
    pixels = _array_values(array)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = _grey(pixels.reshape(pixels.shape[:2]))
    pixels = _on_white(pixels, notes) if pixels.shape[2] == 4 else pixels
    return Picture(pixels, "<array>", "", str(array.dtype), tuple(notes))


def _check_shape(shape: tuple[int, ...]) -> None:
    if 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        return
    advice = "give one picture with its channels last"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        advice = "move the channels last, with numpy.moveaxis(array, 0, -1)"
    raise ArrayInputError(
        f"expected an array (H, W) or (H, W, 1, 3 or 4) with pixels, got shape {shape}; {advice}"
    )


def _array_values(array: Array) -> Pixels:
    if array.dtype == np.uint8:
        return array.copy()
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise ArrayInputError(
            f"expected uint8, bool or floating point in 0 to 1, got {array.dtype}; "
            "scale the values to 0 to 255 and convert to uint8"
        )
    if not (array.min() >= 0 and array.max() <= 1):  # false for NaN as well
        raise ArrayInputError(
            f"expected floating point in 0 to 1, got {array.min():g} to {array.max():g}; "
            "scale it to 0 to 1, without NaN"
        )
    return _scaled(array, 1)


class _Quiet:
    """Silences Pillow's warnings while any thread decodes, as the filters are the process's."""

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
def _pillow_errors(source: str) -> Iterator[None]:
    """Turn whatever a decoder raises, memory errors included, into one sentence."""
    try:
        with _quiet:
            yield
    except InputImageError:
        raise
    except Exception as error:
        raise _undecodable(source, error) from error


def _undecodable(source: str, error: Exception) -> InputImageError:
    text = " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ == "DecompressionBombError":  # some decoders check on their own
        return _problem(source, f"one over Pillow's own limit ({text})", "scale it down")
    torn = isinstance(error, (EOFError, struct.error)) or any(w in text.lower() for w in _TORN)
    got = "a truncated or damaged one" if torn else "one that cannot be decoded"
    return _problem(source, f"{got} ({text})", "save or download it again")


def _problem(source: str, got: str, remedy: str) -> InputImageError:
    return InputImageError(f"expected a picture in {source!r}, got {got}; {remedy}")
