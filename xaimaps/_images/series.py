"""A folder of DICOM files, one for each slice of a series, as one volume."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._digest import digest
from xaimaps._images.decode import check_size, decoder_errors
from xaimaps._images.dicom import is_dicom, read_dicom
from xaimaps._images.extra import extra_module
from xaimaps._images.picture import Array, Picture
from xaimaps.errors import InputImageError

TOLERANCE = 0.05
"""The largest difference of two distances between slices, relative to the usual one."""

_SHARED = ("SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
_TO_RAS = np.array([-1.0, -1.0, 1.0])
"""DICOM's axes point to the left and to the back, NIfTI's to the right and to the front."""


@dataclass(frozen=True)
class _Slice:
    file: Path
    data: bytes
    dataset: Any

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def position(self) -> Array:
        return np.asarray(self.dataset.ImagePositionPatient, np.float64)


def is_series(folder: Path) -> bool:
    """Whether a folder holds several DICOM files of one slice each, or damaged ones."""
    found = [file for file in folder.glob("*.[dD][cC][mM]") if not file.name.startswith(".")]
    if len(found) < 2:
        return False
    with suppress(InputImageError), decoder_errors(str(folder)):
        dataset = _header(str(folder), found[0].read_bytes())
        return int(dataset.get("NumberOfFrames", 1) or 1) == 1
    return True


def read_series(folder: str, max_pixels: int) -> Picture:
    """Read the slices in the order of their positions along the normal of their planes.

    The widest of the slices' windows says which values are black and white.

    Raises:
        InputImageError: the files are of several series, differ in size, or have a slice missing
            or twice.
    """
    slices = [_slice(folder, file) for file in sorted(Path(folder).glob("*.[dD][cC][mM]"))]
    _require_one_series(folder, slices)
    first = slices[0].dataset
    check_size(folder, (first.Columns, first.Rows, len(slices)), max_pixels)
    normal = np.cross(*_directions(first))
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _step(folder, slices, normal)
    pictures = [read_dicom(str(one.file), one.data, max_pixels) for one in slices]
    lows, highs = zip(*(one.range or (np.nan, np.nan) for one in pictures), strict=True)
    widest = (min(lows), max(highs)) if lows[0] < highs[0] else (max(lows), min(highs))
    return Picture(
        np.stack([one.values for one in pictures]),
        None if np.isnan(widest).any() else widest,
        folder,
        digest(folder),
        pictures[0].mode,
        affine=_affine(slices[0], normal * step),
    )


def _slice(folder: str, file: Path) -> _Slice:
    if file.is_symlink():
        raise _problem(folder, f"the link {file.name!r}", "copy its file there")
    data = file.read_bytes()
    if not is_dicom(data):
        raise _problem(folder, f"{file.name!r}, which is no DICOM", "take it out")
    with decoder_errors(str(file)):
        dataset = _header(str(file), data)
    if not all(dataset.get(tag) for tag in _PLACE):
        raise _problem(
            folder,
            f"{file.name!r}, which does not say its position",
            "join the slices to one file, such as NIfTI",
        )
    return _Slice(file, data, dataset)


def _header(source: str, data: bytes) -> Any:
    pydicom = extra_module(source, "pydicom")
    return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)


def _require_one_series(folder: str, slices: list[_Slice]) -> None:
    """Refuse slices that differ in what those of one series share."""
    for tag in _SHARED:
        values = [str(one.dataset.get(tag)) for one in slices]
        other = next((i for i, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise _problem(
                folder,
                f"slices that differ in {tag}: {values[0]} in {slices[0].name!r} and "
                f"{values[other]} in {slices[other].name!r}",
                "keep one series in a folder",
            )


def _problem(folder: str, got: str, remedy: str) -> InputImageError:
    return InputImageError(f"{folder!r} must be the slices of one series, got {got}; {remedy}")


def _directions(dataset: Any) -> tuple[Array, Array]:
    """Return the directions of a row and of a column of a slice."""
    cosines = np.asarray(dataset.ImageOrientationPatient, np.float64)
    return cosines[:3], cosines[3:]


def _step(folder: str, slices: list[_Slice], normal: Array) -> float:
    """Return the distance of two slices in millimetres."""
    steps = np.diff([float(one.position @ normal) for one in slices])
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > TOLERANCE * abs(usual))
    if usual <= 0 or wrong.size:
        at = int(wrong[0]) if wrong.size else 0
        raise _problem(
            folder,
            f"{slices[at].name!r} and {slices[at + 1].name!r}, which are "
            f"{steps[at]:g} mm apart where others are {usual:g} mm",
            "add the missing slices, or take out those that are there twice",
        )
    return usual


def _affine(first: _Slice, step: Array) -> Array:
    """Return the place of voxel (slice, row, column) in NIfTI's millimetres."""
    across, down = _directions(first.dataset)
    rows, columns = map(float, first.dataset.get("PixelSpacing", (1, 1)))
    affine = np.eye(4)
    axes = np.stack([step, down * rows, across * columns, first.position], axis=1)
    affine[:3] = _TO_RAS[:, None] * axes
    return affine
