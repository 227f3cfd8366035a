"""`Pictures`: what the page can choose from, files and uploads, prepared for each model."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from xaimaps._prepare import Batch, prepare
from xaimaps.backend import Backend
from xaimaps.errors import InputImageError

MOST_UPLOADS = 16
"""The number of uploaded pictures to keep; a new one replaces the oldest."""


class Pictures:
    """The pictures of a session, by their numbers.

    Args:
        paths: the paths of the pictures to begin with.
        max_pixels: the largest number of pixels of a picture.
    """

    def __init__(self, paths: Sequence[Path], max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.names = _short(paths)
        self._sources: list[Path | bytes | None] = list(paths)

    def listed(self) -> list[tuple[int, str]]:
        """Return the number and the name of each picture."""
        held = zip(self._sources, self.names, strict=True)
        return [(number, name) for number, (one, name) in enumerate(held) if one is not None]

    def add(self, model: Backend, name: str, data: bytes) -> int:
        """Keep an uploaded picture, and return its number.

        Raises:
            InputImageError: it cannot be read for the model.
        """
        self._prepared(model, name, data)
        self._sources.append(data)
        self.names.append(name)
        uploads = [i for i, one in enumerate(self._sources) if isinstance(one, bytes)]
        for old in uploads[:-MOST_UPLOADS]:
            self._sources[old] = None
        return len(self._sources) - 1

    def opened(self, model: Backend, number: int) -> Batch:
        """Return a picture as a model takes it.

        Raises:
            InputImageError: it is no longer here, or cannot be read for the model.
        """
        source = self._sources[number] if 0 <= number < len(self._sources) else None
        if source is None:
            raise InputImageError("the picture is no longer here; choose or drop it again")
        return self._prepared(model, self.names[number], source)

    def _prepared(self, model: Backend, name: str, source: Path | bytes) -> Batch:
        if isinstance(source, bytes):
            file = io.BytesIO(source)
            file.name = name  # for messages
            return prepare(model, file, max_pixels=self.max_pixels)
        return prepare(model, source, max_pixels=self.max_pixels)


def _short(paths: Sequence[Path]) -> list[str]:
    """Return the names of pictures without the folders that all of them are in."""
    if not paths:
        return []
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [os.path.relpath(path, shared) for path in paths]
