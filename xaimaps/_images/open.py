"""Open pictures from files, arrays and Pillow images, in the displayed orientation.

Only regular files are opened, and each is read once.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from xaimaps._images.decode import (
    check_size,
    convert,
    decoder_errors,
    problem,
    undecoded,
)
from xaimaps._images.dicom import is_dicom, read_dicom
from xaimaps._images.picture import Array, Picture, range_of
from xaimaps._images.series import is_series, read_series
from xaimaps._images.tiff import needs_tifffile, read_tiff
from xaimaps._images.volume import is_nifti, read_frames, read_volume
from xaimaps.errors import ArrayInputError, InputImageError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 64_000_000
"""The largest number of pixels of a picture, unless the user gives another."""

MAX_BYTES = 2**30
"""The largest number of bytes of a file, unless more pixels are allowed."""

BytesLike = bytes | bytearray | memoryview

_NUMPY = b"\x93NUMPY"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_picture(
    source: str | os.PathLike[str] | BytesLike | BinaryIO | Image.Image | Array,
    *,
    max_pixels: int = MAX_PIXELS,
    rank: int = 2,
) -> Picture:
    """Read a picture from a path, bytes, an open file, a Pillow image or an array.

    Args:
        source: the path of a regular file, or for volumes of a folder of DICOM slices; its bytes;
            an open file; a Pillow image; a PyTorch tensor, `(C, H, W)` or `(H, W, C)`; or an array
            `(H, W)` or `(H, W, C)` of real numbers, of which the fourth of four channels is alpha.
        max_pixels: the largest number of pixels (width times height) of a file or image.
        rank: the number of spatial axes: 2, or 3 for volumes and clips, from files of slices or
            frames and from arrays `(D, H, W)` or `(D, H, W, C)`.

    Returns:
        The picture; for two axes the first frame of an animation, or the first page of a file of
        several.

    Raises:
        InputImageError: if the file or the image cannot be read, is damaged or too large.
        ArrayInputError: if the array has another shape or type.
    """
    if isinstance(source, (str, os.PathLike)):
        if rank == 3 and Path(source).is_dir():
            return _from_folder(os.fspath(source), max_pixels)
        return _from_file(os.fspath(source), max_pixels, rank)
    if isinstance(source, BytesLike):
        return _from_bytes("<bytes>", bytes(source), max_pixels, rank)
    if hasattr(source, "read"):
        return _from_open_file(source, max_pixels, rank)
    if hasattr(source, "detach"):
        return _from_array(_channels_last(source, rank), rank)
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source), rank)
    return _from_image(source, max_pixels, rank)


def _channels_last(tensor: Any, rank: int) -> Array:
    """Return a PyTorch tensor, whose channels are usually first, as an array."""
    array = np.asarray(tensor.detach().cpu())
    return np.moveaxis(array, 0, -1) if _is_channels_first(array.shape, rank) else array


def _from_file(source: str, max_pixels: int, rank: int) -> Picture:
    data = _read(source, max(MAX_BYTES, 16 * max_pixels))
    picture = _from_bytes(source, data, max_pixels, rank)
    return replace(picture, sha256=hashlib.sha256(data).hexdigest())


def _from_folder(folder: str, max_pixels: int) -> Picture:
    if not is_series(Path(folder)):
        raise problem(
            folder, "a folder without a series of DICOM slices", "give the path of a file"
        )
    with decoder_errors(folder):
        return read_series(folder, max_pixels)


def _from_open_file(file: Any, max_pixels: int, rank: int) -> Picture:
    given = getattr(file, "name", None)
    name = given if isinstance(given, str) else "<file>"
    advice = "open it again, with mode 'rb'"
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise InputImageError(f"cannot read the open file {name!r} ({error}); {advice}") from error
    if not isinstance(data, bytes):
        raise problem(name, "a file of text", advice)
    return _from_bytes(name, data, max_pixels, rank)


def _from_bytes(source: str, data: bytes, max_pixels: int, rank: int) -> Picture:
    if not data:
        raise problem(source, "an empty file", "save or download it again")
    with decoder_errors(source):
        return replace(_decoded(source, data, max_pixels, rank), source=source)


def _decoded(source: str, data: bytes, max_pixels: int, rank: int) -> Picture:
    if data.startswith(_NUMPY):
        return _from_npy(source, data, max_pixels, rank)
    if rank == 3:
        return read_volume(source, data, max_pixels)
    if is_nifti(data):
        raise problem(source, "a NIfTI file", "save one slice, or give a model of volumes")
    if is_dicom(data):
        return read_dicom(source, data, max_pixels)
    if needs_tifffile(data):
        return read_tiff(source, data, max_pixels)
    return convert(source, undecoded(source, data), max_pixels, data)


def _from_npy(source: str, data: bytes, max_pixels: int, rank: int) -> Picture:
    try:
        picture = _from_array(np.load(io.BytesIO(data), allow_pickle=False), rank)
    except ArrayInputError as error:
        raise InputImageError(f"{source!r}: {error}") from error
    check_size(source, picture.size[::-1], max_pixels)
    return picture


def _from_image(image: Image.Image, max_pixels: int, rank: int) -> Picture:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise InputImageError(
            "a picture must be a path, bytes, an open file, a Pillow image or an array, got "
            f"{type(image).__name__}; convert it to one of these"
        )
    with decoder_errors("<image>"):
        read = convert if rank == 2 else read_frames
        return read("<image>", image, max_pixels)


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


def _from_array(array: Array, rank: int) -> Picture:
    _check_shape(array.shape, rank)
    values = _numbers(array).reshape(*array.shape[:rank], -1)
    own = range_of(values)
    has_alpha = values.shape[-1] == 4 and own is not None
    return Picture(values, own, "<array>", "", str(array.dtype), has_alpha=has_alpha)


def _check_shape(shape: tuple[int, ...], rank: int) -> None:
    is_channels_first = _is_channels_first(shape, rank)
    if 0 not in shape and len(shape) in (rank, rank + 1) and not is_channels_first:
        return
    kind, axes = ("picture", "H, W") if rank == 2 else ("volume", "D, H, W")
    advice = f"give one {kind} with its channels last"
    if is_channels_first:
        advice = "move the channels last, with numpy.moveaxis(array, 0, -1)"
    raise ArrayInputError(
        f"a {kind}'s array must be ({axes}) or ({axes}, C), got shape {shape}; {advice}"
    )


def _is_channels_first(shape: tuple[int, ...], rank: int) -> bool:
    return len(shape) == rank + 1 and shape[0] in (1, 3, 4) and shape[-1] not in (1, 2, 3, 4)


def _numbers(array: Array) -> Array:
    """Return a copy of real numbers in native byte order; bool becomes 0 and 255."""
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    if array.dtype.kind not in "uif":
        raise ArrayInputError(
            f"a picture's array must be of real numbers, got {array.dtype}; convert it to uint8 or "
            "float32"
        )
    if not np.isfinite(array).all():
        raise ArrayInputError(
            "a picture's array must be finite, got NaN or infinity; replace these values"
        )
    return array.astype(array.dtype.newbyteorder("="))
