"""Atomic writing of output files, under names that are valid on every file system."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from xaimaps.errors import OutputError

# Names may have 255 bytes: this leaves room for suffixes such as "-overlay.png".
_STEM_BYTES = 180
# ... and this for the dot, the 32 digits and ".part" of a temporary name.
_TEMP_BYTES = 200
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff%/\\:*?"<>|]|^[-.]|[. ]$')


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that `path` has either its old content or all of the new content.

    Args:
        path: the file to create or replace; its folder must exist.
        write: called once with a binary file to write to.

    Raises:
        OutputError: if the file cannot be written (full disk, no permission, `path` is a folder).
    """
    name = os.fsdecode(os.fsencode(path.name)[:_TEMP_BYTES])
    part = path.with_name(f".{name}.{uuid.uuid4().hex}.part")
    with output_errors(path):
        try:
            _write_synced(part, write)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def prepare_folder(path: Path) -> Path:
    """Create an output folder and its parents if needed, and return `path`.

    Raises:
        OutputError: if `path` is a file, cannot be created or cannot be written to.
    """
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(
            f"the output folder must be writable, got {str(path)!r}; choose another folder or "
            "change its permissions"
        )
    return path


def safe_stem(name: str, taken: set[str]) -> str:
    """Turn an input's name into a distinct name that is valid on every file system.

    Unsafe characters become `%` and the hexadecimal of their bytes, so that
    `urllib.parse.unquote(stem, errors="surrogateescape")` returns the name. Names above 180 bytes
    are cut; cut names, and names equal to a taken one up to case, end in a hash of the name.

    Args:
        name: the input's name, any text (a slash has no special meaning).
        taken: the names used so far, in normalised form; the new one is added.

    Returns:
        The output name without suffix; at most 189 bytes, plus a number for equal names.
    """
    stem = _UNSAFE.sub(_percent, name) or "_"
    tag = _tag(name)
    if len(stem.encode()) > _STEM_BYTES:
        stem = f"{_cut(stem)}-{tag}"
    for candidate in _candidates(stem, tag):
        key = unicodedata.normalize("NFC", candidate).casefold()
        if key not in taken:
            taken.add(key)
            return candidate
    raise AssertionError("unreachable: there are infinitely many candidates")


def joined_stem(*stems: str) -> str:
    """Join the parts of a name that `safe_stem` has made; a long one is cut and ends in a hash."""
    stem = "-".join(filter(None, stems))
    return stem if len(stem.encode()) <= _STEM_BYTES else f"{_cut(stem)}-{_tag(stem)}"


def _tag(name: str) -> str:
    return hashlib.sha256(_bytes(name)).hexdigest()[:8]


def _candidates(stem: str, tag: str) -> Iterator[str]:
    yield stem
    tagged = stem if stem.endswith(tag) else f"{stem}-{tag}"
    yield tagged
    number = 2
    while True:
        yield f"{tagged}-{number}"
        number += 1


def _bytes(text: str) -> bytes:
    """Encode text; undecodable bytes of a file name stay as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that encodes no byte
        return text.encode("utf-8", "surrogatepass")


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in _bytes(match.group()))


def _cut(stem: str) -> str:
    """Cut a stem without splitting a character or a `%XX`."""
    text = stem.encode()[:_STEM_BYTES].decode(errors="ignore")
    return re.sub(r"%[0-9A-F]?$", "", text)


def _write_synced(part: Path, write: Callable[[BinaryIO], object]) -> None:
    with part.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable; Windows cannot open folders and does not need it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an error of the system into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(_sentence(path, error)) from error


def _sentence(path: Path, error: OSError) -> str:
    reasons: dict[type[OSError], str] = {
        FileNotFoundError: "its folder does not exist; create it first",
        FileExistsError: "it exists and is not a folder; choose another name",
        IsADirectoryError: "it is a folder; choose another name",
        NotADirectoryError: "a part of its path is a file; choose another folder",
        PermissionError: "permission is denied; choose another folder or change its permissions",
    }
    detail = error.strerror or str(error) or type(error).__name__
    reason = reasons.get(type(error), f"the system said {detail!r}; free space or write elsewhere")
    return f"cannot write {str(path)!r}: {reason}"
