"""`digest`: what identifies the content of a file or folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, or of the names and digests of all files in a folder.

    Raises:
        OSError: it cannot be read.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(one for one in place.rglob("*") if one.is_file())
        lines = [f"{digest(one)} {one.relative_to(place).as_posix()}\n" for one in files]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
