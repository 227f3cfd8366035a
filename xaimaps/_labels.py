"""Class names: of a list, a file of lines or JSON, or an embedded list."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xaimaps import zoo
from xaimaps.errors import ModelLoadError

Labels = Sequence[str] | str | os.PathLike[str]

MAX_BYTES = 2**26
"""The largest size of a file of labels."""


def read_labels(labels: Labels) -> tuple[str, ...]:
    """Return class names from a list, a text file, or the name of an embedded list.

    Raises:
        ModelLoadError: the labels are not text, or the file cannot be read.
    """
    if not isinstance(labels, str | os.PathLike):
        return _checked_labels(labels)
    path = zoo.LABELS.get(os.fspath(labels), Path(labels))
    try:
        text = _text_of(path)
        is_json = path.suffix.lower() == ".json"
        return labels_of(json.loads(text)) if is_json else _labels_of_lines(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"`labels` must be a text file with a name in each line, a JSON list or object of "
            f"names, or one of {', '.join(zoo.LABELS)}, got {str(path)!r}, which cannot be read "
            f"({error})"
        ) from None


def _text_of(path: Path) -> str:
    """Read a regular file; a pipe or a device could block or never end."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    return path.read_text(encoding="utf-8-sig")


def embedded_name(labels: Labels) -> str:
    """Return the name of an embedded list; empty for other labels."""
    return labels if isinstance(labels, str) and labels in zoo.LABELS else ""


def _labels_of_lines(text: str) -> tuple[str, ...]:
    """Return the lines; without their numbers, if they are counted from 0 as "0 cat".

    A form feed, or another character at which `str.splitlines` splits, is part of a name.
    """
    lines = [line.removesuffix("\n") for line in io.StringIO(text)]
    parts = [line.split(maxsplit=1) for line in lines]
    if all(len(part) == 2 and part[0] == str(i) for i, part in enumerate(parts)):
        return tuple(name for _, name in parts)
    return tuple(lines)


def labels_of(found: Any) -> tuple[str, ...]:
    """Return the names of a JSON list, or of an object from class indices to names.

    Keras's index of ImageNet has a pair of WordNet id and name for each class.

    Raises:
        ValueError: it is something else, or an index is missing.
    """
    if isinstance(found, dict):
        if {*found} != {str(i) for i in range(len(found))}:
            raise ValueError("its keys are not the class indices")
        found = [found[str(i)] for i in range(len(found))]
    if not isinstance(found, list):
        raise ValueError("it is neither a list nor an object")
    names = tuple(one[-1] if isinstance(one, list) and one else one for one in found)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name is not text")
    return names


def _checked_labels(labels: Any) -> tuple[str, ...]:
    is_list = isinstance(labels, Iterable)
    names = tuple(labels) if is_list else ()
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ModelLoadError(
            f"`labels` must be a list of names, or the path of a text file, got {labels!r:.200}"
        )
    return names
