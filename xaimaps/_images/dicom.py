"""Read DICOM files with pydicom."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from xaimaps._images.decode import check_size, problem
from xaimaps._images.extra import extra_module
from xaimaps._images.picture import Array, Picture, range_of


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are those of a DICOM file."""
    return data[128:132] == b"DICM"


def read_dicom(source: str, data: bytes, max_pixels: int, *, every_frame: bool = False) -> Picture:
    """Read one or every frame, rescaled by the file's slope and intercept or table.

    The file's window, otherwise its stored bits, say which values are black and white; MONOCHROME1
    has white first.
    """
    pydicom = extra_module(source, "pydicom")
    pixels = extra_module(source, "pydicom.pixels")
    dataset = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset:
        raise problem(source, "a DICOM file without pixels", "give one with an image")
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    read = count if every_frame else 1
    check_size(source, (dataset.Columns, dataset.Rows, read)[: 3 if every_frame else 2], max_pixels)
    mode = str(dataset.PhotometricInterpretation)
    stored = pixels.pixel_array(dataset, index=None if every_frame and count > 1 else 0)
    if mode.startswith("MONOCHROME"):
        values = pixels.apply_modality_lut(stored, dataset)[..., None]
        black_white = _black_and_white(pixels, dataset, stored.dtype)
    else:
        values = _colours(source, pixels, dataset, stored)
        black_white = range_of(values)
    notes = (f"frame 1 of {count}",) if count > read else ()
    return Picture(values, black_white, source, "", mode, notes)


def _colours(source: str, pixels: Any, dataset: Any, stored: Array) -> Array:
    """Return RGB; pydicom has converted YBR."""
    mode = dataset.PhotometricInterpretation
    if mode == "PALETTE COLOR":
        return np.asarray(pixels.apply_color_lut(stored, dataset))
    if not mode.startswith(("RGB", "YBR")):
        raise problem(source, f"a DICOM file of {mode}", "convert it to RGB or grey")
    return stored


def _black_and_white(pixels: Any, dataset: Any, kind: Any) -> tuple[float, float] | None:
    """Return the values that are black and white; None for a window that is not linear."""
    window = _window(dataset) if dataset.get("WindowCenter") else _stored(pixels, dataset, kind)
    if window is None or window[0] == window[1]:
        return None
    return window[::-1] if dataset.PhotometricInterpretation == "MONOCHROME1" else window


def _window(dataset: Any) -> tuple[float, float] | None:
    """Return the ends of the first window, by its function (PS3.3 C.11.2.1.2)."""
    tags = (dataset.WindowCenter, dataset.WindowWidth)
    centre, width = (float(np.ravel(tag)[0]) for tag in tags)
    shape = dataset.get("VOILUTFunction", "LINEAR")
    if shape == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return None if shape == "SIGMOID" else (centre - width / 2, centre + width / 2)


def _stored(pixels: Any, dataset: Any, kind: Any) -> tuple[float, float]:
    """Return the ends of the stored bits, rescaled."""
    bits, is_signed = dataset.BitsStored, dataset.PixelRepresentation
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    low, high = pixels.apply_modality_lut(np.array(ends, kind), dataset)
    return float(low), float(high)
