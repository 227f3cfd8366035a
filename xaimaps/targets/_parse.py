"""The grammar of targets in text, shared by Python, the command line and manifests.

    target    = contrast, or several separated by ";": "tabby; 285" ("tabby;" for a list of one)
    contrast  = single, or "A vs B"
    single    = a label, an index, "top-K", "every target", "[A, B]" with a class for each image,
                region:FILE@CLASS, class:CLASS, box:X0,Y0,X1,Y1@CLASS, output:I,J,
                similarity:FILE, box:RANK, box@X,Y, text:POSITION,
                or a target in parentheses

A label or a file in double quotes is literal, with the escapes of JSON.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable

from xaimaps.errors import TargetError
from xaimaps.targets._base import TargetSpec
from xaimaps.targets._boxes import BoxAt, RankedBox
from xaimaps.targets._classes import Top
from xaimaps.targets._scores import EVERY_TARGET, EveryTarget, Output
from xaimaps.targets._spatial import (
    BoxSpec,
    PredictedSpec,
    RegionSpec,
    SimilaritySpec,
    checked_axis,
    checked_box,
)
from xaimaps.targets._spec import KINDS, ClassSpec, ContrastSpec, PerImageSpec, SeveralSpec
from xaimaps.targets._text import CharacterSpec

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_VERSUS = r"\s+vs\s+"


def parse_target(text: str) -> TargetSpec:
    """Parse a target.

    Args:
        text: such as "Egyptian cat", "285", "top-3", "A vs B", "A; B", "region:mask.png@dog",
            "class:dog", "box:0,0,8,8@dog", "output:2" or "similarity:cat.jpg".

    Raises:
        TargetError: the text is not a target.

    Example:
        >>> from xaimaps.targets import contrast, parse_target
        >>> parse_target("Egyptian cat vs tabby") == contrast("Egyptian cat", "tabby")
        True
    """
    parts = _split(text, ";")
    if len(parts) == 1:
        return _contrast(text)
    if not parts[-1].strip():
        parts.pop()
    return SeveralSpec(tuple(map(_contrast, parts)))


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside of quotes and brackets."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"{_QUOTED}|[(\[]|[)\]]|{separator}", text):
        token = match.group()
        if token in "([":
            depth += 1
        elif token in ")]":
            depth -= 1
        elif not token.startswith('"') and depth <= 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def _contrast(text: str) -> TargetSpec:
    sides = _split(text, _VERSUS)
    if len(sides) == 1:
        return _single(text.strip())
    if len(sides) > 2:
        raise TargetError(f"a contrast must have two sides, got {text!r}; write (A vs B) vs C")
    return ContrastSpec(tuple(_single(side.strip()) for side in sides))


def _single(text: str) -> TargetSpec:
    if text.startswith("(") and _closes(text):
        return parse_target(text[1:-1])
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return PerImageSpec(tuple(_class(part).name for part in _split(inner, ",") if inner))
    if re.fullmatch(_QUOTED, text):  # a label, whatever it looks like
        return _class(text)
    _refuse_description(text)
    if top := re.fullmatch(r"top-?([1-9]\d*)", text, re.ASCII):
        return Top(int(top[1]))
    if point := re.fullmatch(r"box@(\d+),(\d+)", text, re.ASCII):
        return BoxAt(int(point[1]), int(point[2]))
    if text == EVERY_TARGET:
        return EveryTarget()
    kind, colon, rest = text.partition(":")
    if colon and kind in KINDS:
        return _READERS[kind](rest)
    if colon and (near := difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.75)):
        raise TargetError(f"no kind of target is called {kind!r}; nearest: {near[0]!r}")
    return _class(text)


def _refuse_description(text: str) -> None:
    if text.startswith("<"):
        raise TargetError(
            f"{text!r} describes a target made in Python and cannot be read back; make it again"
        )


def _closes(text: str) -> bool:
    """Whether the opening bracket of a text is closed by its last character."""
    depth = 0
    for match in re.finditer(rf"{_QUOTED}|[()]", text):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth == 0:
            return match.end() == len(text)
    return False


def _class(text: str) -> ClassSpec:
    text = text.strip()
    if re.fullmatch(_QUOTED, text):
        return ClassSpec(_unquoted(text))
    return ClassSpec(int(text) if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else text)


def _file(text: str) -> str:
    """Return the path of a file, given with or without quotes."""
    _refuse_description(text)
    return _unquoted(text) if re.fullmatch(_QUOTED, text) else text


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text, strict=False))
    except json.JSONDecodeError:
        raise TargetError(f"quoted text must have JSON's escapes, got {text}") from None


def _region(text: str) -> RegionSpec:
    path, of, axis = _with_channel(text, "region:mask.png@dog")
    return RegionSpec(_file(path), of, axis)


def _box(text: str) -> TargetSpec:
    if re.fullmatch(r"[1-9]\d*", text, re.ASCII):
        return RankedBox(int(text))
    corners, of, axis = _with_channel(text, "box:x0,y0,x1,y1@dog")
    numbers = _integers(corners, "box:x0,y0,x1,y1@dog")
    if len(numbers) != 4:
        raise TargetError(f"a box must be four numbers, got {corners!r}; write box:x0,y0,x1,y1@dog")
    return BoxSpec(checked_box((numbers[0], numbers[1], numbers[2], numbers[3])), of, axis)


def _predicted(text: str) -> PredictedSpec:
    if not text:
        raise TargetError("a class must be named after 'class:', got none; write class:dog")
    return PredictedSpec(*_channel(text))


def _with_channel(text: str, like: str) -> tuple[str, ClassSpec, int | None]:
    """Split a text into the region, the class, and the axis of the classes."""
    parts = _split(text, "@")
    if len(parts) < 2 or not parts[0] or not parts[-1]:
        raise TargetError(f"a region must have a class after '@', got {text!r}; write {like}")
    return "@".join(parts[:-1]), *_channel(parts[-1])


def _channel(text: str) -> tuple[ClassSpec, int | None]:
    """Split a text into the class, and the axis of the classes."""
    name, *axis = re.split(r",axis=(-?\d+)$", text)
    return _class(name), checked_axis(int(axis[0]) if axis else None)


def _output(text: str) -> Output:
    return Output(_integers(text, "output:2"))


def _integers(text: str, like: str) -> tuple[int, ...]:
    numbers = text.split(",") if text.strip() else []
    try:
        return tuple(int(number) for number in numbers)
    except ValueError:
        raise TargetError(f"a target must have whole numbers as in {like}, got {text!r}") from None


def _similarity(text: str) -> SimilaritySpec:
    if not text:
        raise TargetError("a similarity must name a file, got none; write similarity:cat.jpg")
    return SimilaritySpec(_file(text))


def _character(text: str) -> CharacterSpec:
    if not re.fullmatch(r"[1-9]\d*", text, re.ASCII):
        raise TargetError(f"a character must have a position from 1 as in text:3, got {text!r}")
    return CharacterSpec(int(text))


_READERS: dict[str, Callable[[str], TargetSpec]] = {
    "region": _region,
    "class": _predicted,
    "box": _box,
    "output": _output,
    "similarity": _similarity,
    "similar": _similarity,
    "text": _character,
}
