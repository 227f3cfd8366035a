"""The zip of a `.keras` file, whose directory is checked before any member is unpacked."""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from xaimaps.errors import ModelLoadError, UnsupportedModelError
from xaimaps_keras.limits import RATIO, REMEDY, is_inflated

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
TEXT_BYTES = 2**26
"""The largest configuration; that of NASNetLarge has one megabyte."""

TOTAL_BYTES = 2**31
"""The most bytes to which a compressed file may unpack, in addition to its own size."""


@dataclass(frozen=True)
class Members:
    """The members of a `.keras` file.

    Attributes:
        config: the text of the configuration.
        metadata: the text with the version of Keras, empty if there is none.
        weights: the bytes of an HDF5 file.
    """

    config: bytes
    metadata: bytes
    weights: bytes


def read_members(path: Path) -> Members:
    """Check a zip's directory, and unpack the three members that Keras writes.

    Raises:
        ModelLoadError: the file is damaged, incomplete or malicious.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_directory(archive, path)
            return Members(*(_read(archive, name) for name in (CONFIG, METADATA, WEIGHTS)))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise ModelLoadError(
            f"{str(path)!r} is a damaged or truncated .keras file ({error}); {REMEDY}"
        ) from error


def _check_directory(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ModelLoadError(f"{str(path)!r} has the member {twice[0]!r} twice; {REMEDY}")
    for info in archive.infolist():
        _check_place(info, path)
        _check_size(info, path)
    total, limit = sum(i.file_size for i in archive.infolist()), path.stat().st_size + TOTAL_BYTES
    if total > limit:
        raise ModelLoadError(
            f"{str(path)!r} would unpack to {total:,} bytes, above the limit of {limit:,}; "
            "save the model again without compression"
        )
    _check_complete(names, path)


def _check_place(info: zipfile.ZipInfo, path: Path) -> None:
    parts = PurePosixPath(info.filename).parts
    outside = ".." in parts or "\\" in info.filename or PureWindowsPath(info.filename).anchor
    if outside or not parts or stat.S_ISLNK(info.external_attr >> 16):
        raise ModelLoadError(
            f"{str(path)!r} has the member {info.filename[:200]!r}, which leads out of the file; "
            "do not trust it, and get the model from its author"
        )
    if info.flag_bits & 1:
        raise ModelLoadError(f"{str(path)!r} is encrypted; save the model again")


def _check_size(info: zipfile.ZipInfo, path: Path) -> None:
    if is_inflated(info.file_size, info.compress_size):
        raise ModelLoadError(
            f"the member {info.filename!r} of {str(path)!r} would unpack to {info.file_size:,} "
            f"bytes from {info.compress_size:,}, above the ratio of {RATIO}; save the model again"
        )
    if info.filename in (CONFIG, METADATA) and info.file_size > TEXT_BYTES:
        raise ModelLoadError(
            f"the member {info.filename!r} of {str(path)!r} has {info.file_size:,} bytes, above "
            f"the limit of {TEXT_BYTES:,}; save the model again"
        )


def _check_complete(names: list[str], path: Path) -> None:
    if CONFIG not in names:
        raise ModelLoadError(f"{str(path)!r} is a zip without {CONFIG!r}, so no Keras file")
    if WEIGHTS in names:
        return
    if "model.weights.npz" in names:
        raise UnsupportedModelError(
            f"{str(path)!r} has its weights as .npz; install h5py and save the model again"
        )
    raise ModelLoadError(f"{str(path)!r} has no weights ({WEIGHTS!r} is missing); {REMEDY}")


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes; zipfile checks their checksum, which Keras ignores."""
    return archive.read(name) if name in archive.namelist() else b""
