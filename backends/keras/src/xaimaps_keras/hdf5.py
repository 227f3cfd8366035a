"""The check of an HDF5 file: no part may be a link, or be much larger than it is stored."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import h5py

from xaimaps.errors import ModelLoadError, XaimapsError
from xaimaps_keras.limits import REMEDY, is_inflated

GROWTH_BYTES = 2**31
OBJECTS = 10**6
FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
"""The allowed compression filters; HDF5 loads any other filter from a library of code."""

BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, UnicodeError)
"""The errors of h5py on a damaged file."""


@dataclass
class _Walk:
    """The state of the check of one file."""

    name: str
    size: int
    seen: set[int] = field(default_factory=set)
    total: int = 0

    def refuse(self, what: str, problem: str) -> ModelLoadError:
        """Return the error for a part of the file."""
        return ModelLoadError(f"{what[:200]!r} in {self.name} {problem}; {REMEDY}")


@contextmanager
def checked(source: Path | bytes, name: str) -> Iterator[h5py.File]:
    """Open an HDF5 file after a check of its whole tree.

    Args:
        source: a path, or the bytes of the file.
        name: the file's name in messages.

    Raises:
        ModelLoadError: the file is damaged or malicious.
    """
    size = len(source) if isinstance(source, bytes) else os.stat(source).st_size  # noqa: PTH116
    try:
        with h5py.File(BytesIO(source) if isinstance(source, bytes) else source, "r") as file:
            _check_group(file, _Walk(name, size))
            yield file
    except XaimapsError:  # our own errors are also ValueErrors, and need no conversion
        raise
    except BROKEN as error:
        raise ModelLoadError(
            f"{name} is a damaged or truncated HDF5 file ({_summary(error)}); {REMEDY}"
        ) from error


def _summary(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")[:200]


def _check_group(group: h5py.Group, walk: _Walk) -> None:
    for name in group.id:
        path = f"{group.name.rstrip('/')}/{name.decode('utf-8', 'replace')}"
        if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise walk.refuse(path, "is a link to another place, which Keras never writes")
        _check_object(group[name], path, walk)


def _check_object(item: h5py.HLObject, path: str, walk: _Walk) -> None:
    address = h5py.h5o.get_info(item.id).addr
    if address in walk.seen or len(walk.seen) >= OBJECTS:
        raise walk.refuse(path, "has several paths, or the file has too many parts")
    walk.seen.add(address)
    if isinstance(item, h5py.Group):
        _check_group(item, walk)
    elif isinstance(item, h5py.Dataset):
        _check_storage(item, path, walk)
        _check_size(item, path, walk)


def _check_storage(dataset: h5py.Dataset, path: str, walk: _Walk) -> None:
    plan = dataset.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise walk.refuse(path, "has its values in another file")
    codes = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if not codes <= FILTERS:
        raise walk.refuse(path, f"is packed by the unknown filter {min(codes - FILTERS)}")
    if dataset.dtype.kind not in "biufV" or dataset.dtype.names:
        raise walk.refuse(path, f"holds no numbers but {dataset.dtype}")


def _check_size(dataset: h5py.Dataset, path: str, walk: _Walk) -> None:
    stored = dataset.id.get_storage_size()
    declared = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
    walk.total += declared
    if stored > walk.size or is_inflated(declared, stored) or walk.total > walk.size + GROWTH_BYTES:
        raise walk.refuse(
            path, f"declares {declared:,} bytes, but the file has {min(stored, walk.size):,}"
        )
