"""The format of a model file, by its first bytes.

Keras reports every file that it cannot open as "not found".
"""

from __future__ import annotations

import stat
from enum import Enum
from pathlib import Path

from xaimaps._load import remedy
from xaimaps.errors import ModelLoadError, UnsupportedModelError

FORMATS = "a .keras file, or an .h5 file of Keras"


class Kind(Enum):
    """The two formats of Keras, by their first bytes."""

    ARCHIVE = b"PK\x03\x04"
    HDF5 = b"\x89HDF\r\n\x1a\n"


def kind_of(path: Path) -> Kind:
    """Return the format of a model file.

    Raises:
        ModelLoadError: the file is missing, empty, a folder, or not in a format of Keras.
        UnsupportedModelError: the file is in a format that runs code.
    """
    mode = _mode(path)
    if why := remedy(path):
        raise UnsupportedModelError(why)
    _require_regular(path, mode)
    start = _start(path)
    for kind in Kind:
        if start.startswith(kind.value):
            return kind
    if not start:
        raise ModelLoadError(f"{str(path)!r} is empty; copy or save the model again")
    raise ModelLoadError(
        f"expected {FORMATS}, but {str(path)!r} begins with {start[:8]!r}; save it with "
        "model.save('model.keras')"
    )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError for a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ModelLoadError(
            f"cannot read the model file {str(path)!r} ({reason}); check the path"
        ) from None


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ModelLoadError(f"{str(path)!r} is {what}; give {FORMATS}")


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max(len(kind.value) for kind in Kind))
    except OSError as error:
        raise ModelLoadError(
            f"cannot read the model file {str(path)!r} ({error.strerror}); check its permissions"
        ) from None
