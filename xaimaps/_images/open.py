"""Open pictures from files, arrays and Pillow images, as RGB in the displayed orientation.

Only regular files are opened, and each is read once.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps._images.decode import (
    convert,
    grey_to_rgb,
    on_white,
    pillow_errors,
    problem,
    scaled,
    undecoded,
)
from xaimaps.errors import ArrayInputError, InputImageError

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, Any]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""The suffixes of pictures in a folder, in lower or upper case."""

_LEAST_BYTES_LIMIT = 2**30
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture as it is displayed.

    Attributes:
        pixels: `(H, W, 3)` uint8, RGB.
        source: the path as given; "<array>" or "<image>" without a path.
        sha256: of the file's bytes; empty without a file.
        mode: the file's own mode, such as "RGB", "I;16" or "CMYK"; an array's dtype.
        notes: conversions and omissions, such as "frame 1 of 12".
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
        max_pixels: the largest number of pixels (width times height) of a file or image.

    Returns:
        The picture; the first frame of an animation, or the first page of a file of several.

    Raises:
        InputImageError: if the file or the image cannot be read, is damaged or too large.
        ArrayInputError: if the array has another shape, type or range.
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_file(os.fspath(source), max_pixels)
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source))
    return _from_image(source, max_pixels)


def find_pictures(paths: Iterable[Path], *, follow_symlinks: bool = False) -> list[Path]:
    """Replace each folder by the pictures in it, sorted by name, without its subfolders.

    Args:
        paths: files, which are returned unchanged even if they do not exist, and folders.
        follow_symlinks: accept links to files outside of their folder.

    Returns:
        The pictures, each once, in the order given.

    Raises:
        InputImageError: if a folder has no picture, cannot be read or has a link to outside.
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
        raise InputImageError(
            f"cannot read the folder {str(folder)!r} ({error.strerror}); change its permissions"
        ) from error
    pictures = [e for e in entries if _looks_like_picture(e)]
    if not pictures:
        raise InputImageError(
            f"no pictures in {str(folder)!r} ({' '.join(SUFFIXES)}); name the files, or the folder "
            "that directly contains them"
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
        raise problem(
            str(path), f"a link out of its folder to {str(target)!r}", "pass --follow-symlinks"
        )


def _from_file(source: str, max_pixels: int) -> Picture:
    data = _read(source, max(_LEAST_BYTES_LIMIT, 16 * max_pixels))
    with pillow_errors(source):
        image = undecoded(source, data)
        pixels, mode, notes = convert(source, image, max_pixels)
    return Picture(pixels, source, hashlib.sha256(data).hexdigest(), mode, notes)


def _from_image(image: Image.Image, max_pixels: int) -> Picture:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise InputImageError(
            f"a picture must be a path, a Pillow image or an array, got {type(image).__name__}; "
            "convert it to one of these"
        )
    with pillow_errors("<image>"):
        pixels, mode, notes = convert("<image>", image, max_pixels)
    return Picture(pixels, "<image>", "", mode, notes)


def _read(source: str, most: int) -> bytes:
    """Read a regular file; anything else is refused without opening it, as a pipe would block."""
    try:
        status = os.stat(source)  # noqa: PTH116 - `source` keeps the user's spelling
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
            raise problem(source, kind, "give the path of a picture file")
        if status.st_size > most:
            raise problem(
                source, f"a file of {status.st_size} bytes", f"give one of at most {most}"
            )
        data = Path(source).read_bytes()
    except InputImageError:  # an OSError too
        raise
    except FileNotFoundError as error:
        raise InputImageError(_missing(source)) from error
    except (OSError, ValueError) as error:
        raise InputImageError(
            f"cannot read {source!r} ({_why_unreadable(error)}); check the path"
        ) from error
    if not data:
        raise problem(source, "an empty file", "save or download it again")
    return data


def _missing(source: str) -> str:
    if Path(source).is_symlink():
        target = str(Path(source).readlink())
        return f"no such file: {source!r} is a dangling link to {target!r}; check the path"
    return f"no such file: {source!r}; check the path"


def _why_unreadable(error: OSError | ValueError) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ELOOP:
        return "a loop of symbolic links"
    reasons = {errno.EACCES: "permission denied"}
    return reasons.get(code or 0, str(getattr(error, "strerror", None) or error))


def _from_array(array: Array) -> Picture:
    notes: list[str] = []
    _check_shape(array.shape)
    pixels = _array_values(array)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = grey_to_rgb(pixels.reshape(pixels.shape[:2]))
    pixels = on_white(pixels, notes) if pixels.shape[2] == 4 else pixels
    return Picture(pixels, "<array>", "", str(array.dtype), tuple(notes))


def _check_shape(shape: tuple[int, ...]) -> None:
    if 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        return
    advice = "give one picture with its channels last"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        advice = "move the channels last, with numpy.moveaxis(array, 0, -1)"
    raise ArrayInputError(
        f"a picture's array must be (H, W) or (H, W, 1, 3 or 4), got shape {shape}; {advice}"
    )


def _array_values(array: Array) -> Pixels:
    if array.dtype == np.uint8:
        return array.copy()
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise ArrayInputError(
            f"a picture's array must be uint8, bool or floating point, got {array.dtype}; "
            "scale the values to 0 to 255 and convert to uint8"
        )
    if not (array.min() >= 0 and array.max() <= 1):  # false for NaN as well
        raise ArrayInputError(
            f"a floating-point picture must be from 0 to 1, got {array.min():g} to "
            f"{array.max():g}; scale it to 0 to 1, and replace NaN"
        )
    return scaled(array, 1)
