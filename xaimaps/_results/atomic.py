"""Output files: written whole or not at all, under names every file system takes."""

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

# Names may have 255 bytes: this leaves room for what callers append ("-overlay.png").
_STEM_BYTES = 180
# ... and this for the dot, the 32 digits and ".part" of a temporary name.
_TEMP_BYTES = 200
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff%/\\:*?"<>|]|^[-.]|[. ]$')


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that `path` holds the old content or the whole new one, never a part.

    Args:
        path: the file to make or to replace; its folder must exist.
        write: called once with a binary file to write into.

    Raises:
        OutputError: if the file cannot be written (full disk, no permission, `path` is a folder).
    """
    name = os.fsdecode(os.fsencode(path.name)[:_TEMP_BYTES])
    part = path.with_name(f".{name}.{uuid.uuid4().hex}.part")
    with _output_errors(path):
        try:
            _write_synced(part, write)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def prepare_folder(path: Path) -> Path:
    """Make an output folder, with its parents, unless it is there; returns `path`.

    Raises:
        OutputError: if `path` is a file, cannot be made or cannot be written to.
    """
    with _output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(
            f"the output folder must be writable, got {str(path)!r}; choose another folder or "
            "change its permissions"
        )
    return path


def safe_stem(name: str, taken: set[str]) -> str:
    """Turn an input's name into a distinct name that every file system takes.

    Unsafe characters become `%` and the hexadecimal of their bytes, so that
    `urllib.parse.unquote(stem, errors="surrogateescape")` gives the name back, unless it was cut
    (above 180 bytes) or is equal to a taken one up to case: those end in a hash of the name.

    Args:
        name: the input's name, any text (a slash is a character like another).
        taken: the names given so far, in the form they are compared in; the new one is added.

    Returns:
        The output name, to append a suffix to; at most 189 bytes, plus a number for equal names.
    """
    stem = _UNSAFE.sub(_percent, name) or "_"
    tag = hashlib.sha256(_bytes(name)).hexdigest()[:8]
    if len(stem.encode()) > _STEM_BYTES:
        stem = f"{_cut(stem)}-{tag}"
    for candidate in _candidates(stem, tag):
        key = unicodedata.normalize("NFC", candidate).casefold()
        if key not in taken:
            taken.add(key)
            return candidate
    raise AssertionError("unreachable: the candidates have no end")


def _candidates(stem: str, tag: str) -> Iterator[str]:
    yield stem
    tagged = stem if stem.endswith(tag) else f"{stem}-{tag}"
    yield tagged
    number = 2
    while True:
        yield f"{tagged}-{number}"
        number += 1


def _bytes(text: str) -> bytes:
    """The text's bytes; undecodable bytes of a file name as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "surrogatepass")


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in _bytes(match.group()))


def _cut(stem: str) -> str:
    """The first bytes of a stem, without half a character or half a `%XX`."""
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
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(_sentence(path, error)) from error


def _sentence(path: Path, error: OSError) -> str:
    reasons: dict[type[OSError], str] = {
        FileNotFoundError: "its folder does not exist; make it first",
        FileExistsError: "it exists and is not a folder; choose another name",
        IsADirectoryError: "it is a folder; choose another name",
        NotADirectoryError: "a part of its path is a file; choose another folder",
        PermissionError: "permission is denied; choose another folder or change its permissions",
    }
    detail = error.strerror or str(error) or type(error).__name__
    reason = reasons.get(type(error), f"the system said {detail!r}; free space or write elsewhere")
    return f"cannot write {str(path)!r}: {reason}"
