"""Read volumes and clips: NIfTI, and all slices or frames of DICOM, TIFF and animations."""

from __future__ import annotations

import gzip
import importlib
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps._images.decode import check_size, problem, require_finite, undecoded
from xaimaps._images.dicom import is_dicom, read_dicom
from xaimaps._images.extra import extra_module
from xaimaps._images.picture import Array, Picture, range_of
from xaimaps._images.tiff import is_tiff, read_pages
from xaimaps.errors import InputImageError

if TYPE_CHECKING:
    from PIL import Image

_GZIP = b"\x1f\x8b"
_HEADER = 352
"""The bytes of a gzip archive that are enough to know a NIfTI file."""
_VOXEL_BYTES = 16
"""The most bytes of a voxel."""


def read_volume(source: str, data: bytes, max_pixels: int) -> Picture:
    """Read a volume or clip of any of the formats.

    Raises:
        InputImageError: the file is none, is damaged or too large.
    """
    if is_nifti(data):
        return _read_nifti(source, data, max_pixels)
    if is_dicom(data):
        volume = read_dicom(source, data, max_pixels, every_frame=True)
    elif is_tiff(data):
        volume = read_pages(source, data, max_pixels)
    else:
        return read_frames(source, undecoded(source, data), max_pixels)
    if volume.values.ndim < 4 or len(volume.values) == 1:
        raise _single(source)
    return volume


def is_nifti(data: bytes) -> bool:
    """Whether the bytes are those of a NIfTI file of one part, compressed or not."""
    if data.startswith(_GZIP):
        data = _unzipped(data, _HEADER)
    return data[344:348] == b"n+1\0" or data[4:8] == b"n+2\0"


def _unzipped(data: bytes, most: int) -> bytes:
    """Return at most `most` bytes of a gzip archive; nothing of a damaged one."""
    try:
        return zlib.decompressobj(wbits=31).decompress(data, most)
    except zlib.error:
        return b""


def _read_nifti(source: str, data: bytes, max_pixels: int) -> Picture:
    """Read the values that the file's slope and intercept give; a fourth axis is the channels.

    The axes are those of the file, and its display range says which values are black and white.
    """
    nibabel: Any = extra_module(source, "nibabel")
    if data.startswith(_GZIP):
        data = _unzipped(data, _VOXEL_BYTES * max_pixels + _HEADER)
    kind = nibabel.Nifti2Image if data[4:8] == b"n+2\0" else nibabel.Nifti1Image
    image = kind.from_bytes(data)
    shape = image.shape
    if len(shape) not in (3, 4) or 0 in shape:
        raise problem(source, f"a NIfTI file of shape {shape}", "give one of three or four axes")
    check_size(source, shape, max_pixels)
    if image.get_data_dtype().kind not in "uif":
        raise problem(source, f"voxels of {image.get_data_dtype()}", "give one number for each")
    values = require_finite(source, np.asarray(image.dataobj)).reshape(*shape[:3], -1)
    values = values.astype(values.dtype.newbyteorder("="))
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    own = (low, high) if low < high else range_of(values)
    return Picture(values, own, source, "", f"NIfTI {values.dtype}", affine=image.affine)


def read_frames(source: str, image: Image.Image, max_pixels: int) -> Picture:
    """Read the frames of an animation as RGB."""
    from PIL import ImageSequence

    count = getattr(image, "n_frames", 1)
    if count == 1:
        raise _single(source)
    check_size(source, (*image.size, count), max_pixels)
    frames = np.stack([np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(image)])
    duration = float(image.info.get("duration", 100))
    return Picture(frames, range_of(frames), source, "", image.mode, duration=duration)


def _single(source: str) -> InputImageError:
    return InputImageError(
        f"{source!r} must be a volume or a clip, as the model takes, got a single picture; give "
        "NIfTI, .npy, DICOM or TIFF of several frames, or an animation"
    )


def as_nifti(values: Array, affine: Array) -> bytes:
    """Return the bytes of a compressed NIfTI file of float32 voxels."""
    nibabel: Any = importlib.import_module("nibabel")
    image = nibabel.Nifti1Image(values.astype(np.float32), affine)
    return gzip.compress(image.to_bytes(), mtime=0)
