"""Weights in other files, which must be regular files inside the model's folder, not links."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxjax.errors import ModelLoadError

KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
ALIGNMENT = 64
"""JAX uses an array at such an address without a copy; it copies any other array."""

MOST_AT_ONCE = 2**30
DIGITS = 18
REMEDY = "save the model again with onnx.save(..., save_as_external_data=True)"


@dataclass(frozen=True)
class Extent:
    """The location of a tensor's bytes.

    Attributes:
        tensor: the tensor's name.
        path: the file.
        offset: the position of its first byte.
        length: the number of its bytes.
        size: the bytes of the whole file.
    """

    tensor: str
    path: Path
    offset: int
    length: int
    size: int

    def read(self) -> NDArray[np.uint8]:
        """Read the bytes straight into an array.

        Raises:
            ModelLoadError: the file has changed since `locate` checked it.
        """
        # the checks are repeated on the open file, as it may have been replaced by a link
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with open(os.open(self.path, flags), "rb", buffering=0) as file:  # noqa: PTH123
                _require_own(os.fstat(file.fileno()), self.tensor, self.path)
                return self._read(file)
        except OSError as error:
            raise _unreadable(self.tensor, self.path, error) from None

    def _read(self, file: FileIO) -> NDArray[np.uint8]:
        file.seek(self.offset)
        array = aligned(self.length)
        view = array.data
        while len(view):
            count = file.readinto(view[:MOST_AT_ONCE])
            if not count:
                raise ModelLoadError(f"the file {str(self.path)!r} has shrunk; load it again")
            view = view[count:]
        return array


def aligned(size: int) -> NDArray[np.uint8]:
    """Return an uninitialised array of bytes that JAX can use without a copy."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size]


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor's data are in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def locate(tensor: onnx.TensorProto, folder: Path) -> Extent:
    """Find a tensor's bytes, without opening any file.

    Args:
        tensor: a tensor with external data.
        folder: the model's folder.

    Raises:
        ModelLoadError: its entry is wrong, or its file is not a regular file inside the folder.
    """
    entry = _entry(tensor)
    path = _inside(folder, entry.get("location", ""), tensor.name)
    try:
        status = path.lstat()
    except OSError as error:
        raise _unreadable(tensor.name, path, error) from None
    _require_own(status, tensor.name, path)
    offset = _number(entry, "offset", 0, tensor.name)
    length = _number(entry, "length", max(status.st_size - offset, 0), tensor.name)
    if offset + length > status.st_size:
        raise ModelLoadError(
            f"the tensor {tensor.name!r} claims {length} bytes (its length) from offset {offset} "
            f"of {str(path)!r}, which has {status.st_size}; copy the whole file"
        )
    return Extent(tensor.name, path, offset, length, status.st_size)


def _entry(tensor: onnx.TensorProto) -> dict[str, str]:
    keys = [item.key for item in tensor.external_data]
    unknown = sorted(set(keys) - KEYS)
    twice = sorted({key for key in keys if keys.count(key) > 1}) if len(keys) <= 16 else keys
    if unknown or twice:
        problem = f"an unknown key {unknown[0]!r}" if unknown else f"the key {twice[0]!r} twice"
        raise ModelLoadError(
            f"the external data of the tensor {tensor.name!r} has {problem}; {REMEDY}"
        )
    return {item.key: item.value for item in tensor.external_data}


def _number(entry: dict[str, str], key: str, default: int, tensor: str) -> int:
    text = entry.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise ModelLoadError(
            f"the external data of the tensor {tensor!r} must have a whole number as its {key}, "
            f"got {text[:40]!r}; {REMEDY}"
        )
    return int(text)


def _inside(folder: Path, location: str, tensor: str) -> Path:
    """Return the path of a location, or refuse a location that may leave the folder."""
    parts = PurePosixPath(location).parts
    absolute = location.startswith("/") or PureWindowsPath(location).anchor
    if not parts or absolute or ".." in parts or "\0" in location or "\\" in location:
        raise ModelLoadError(
            f"the external data of the tensor {tensor!r} must be in the model's own folder, but "
            f"its location is {location[:200]!r}; {REMEDY}"
        )
    for count in range(1, len(parts) + 1):
        _require_no_link(folder.joinpath(*parts[:count]), tensor)
    return folder.joinpath(*parts)


def _require_no_link(path: Path, tensor: str) -> None:
    if path.is_symlink():
        raise ModelLoadError(
            f"the external data of the tensor {tensor!r} is reached through the symbolic link "
            f"{str(path)!r}; copy the file itself into the model's folder"
        )


def _require_own(status: os.stat_result, tensor: str, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        kind = "hard-linked elsewhere" if stat.S_ISREG(status.st_mode) else "not a regular file"
        raise ModelLoadError(
            f"the external data of the tensor {tensor!r} is in {str(path)!r}, which is {kind}; "
            "copy the file itself into the model's folder"
        )


def _unreadable(tensor: str, path: Path, error: OSError) -> ModelLoadError:
    return ModelLoadError(
        f"cannot read the external data of the tensor {tensor!r} in {str(path)!r}: "
        f"{error.strerror}; copy the file into the model's folder"
    )
