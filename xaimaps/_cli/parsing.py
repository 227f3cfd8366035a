"""Parsers of the values that options take."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaimaps._attribute import Layers
    from xaimaps.targets import TargetSpec

TAKEN = {"model", "pictures", "images", "method", "target", "layer"}
TAKEN |= {"input_size", "max_pixels", "batch_size"}
"""Names that are not options of a method: they have their own command-line option, or none."""


def import_class(text: str) -> tuple[str, type]:
    """Import MODULE:CLASS, also from the current folder, and return its name and itself."""
    from xaimaps._references import imported
    from xaimaps.errors import ModelLoadError

    wanted = "--custom must be MODULE:CLASS"
    found = imported(text, wanted)
    if not isinstance(found, type):
        raise ModelLoadError(f"{wanted}, got {text!r}, which is no class")
    return text.rpartition(":")[2], found


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """Replace Python names of options in errors by those of the command line."""
    from xaimaps.errors import XaimapsError

    try:
        yield
    except XaimapsError as error:
        text = functools.reduce(lambda text, pair: text.replace(*pair), words.items(), str(error))
        raise type(error)(text) from error


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs; a value is a Python literal, otherwise text."""
    from xaimaps.errors import MethodError

    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise MethodError(f"an option must be NAME=VALUE, got {pair!r}")
        found[name] = _literal(text)
    return found


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs as options of a method."""
    from xaimaps.errors import MethodError

    found = parse_pairs(pairs)
    for name in found:
        if name in TAKEN:
            raise MethodError(
                f"an option must be one of a method, got {name!r}; see `xaimaps explain --help`"
            )
    return found


def _literal(text: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # deeply nested
        return text


def parse_targets(texts: Sequence[str]) -> TargetSpec | None:
    """Parse the values of `--target`; several become one target."""
    from xaimaps.targets import parse_target, several

    targets = [parse_target(text) for text in texts]
    if not targets:
        return None
    return targets[0] if len(targets) == 1 else several(*targets)


def parse_methods(texts: Sequence[str]) -> list[str]:
    """Parse the values of `--method`, each a comma-separated list."""
    names = [name.strip() for text in texts for name in text.split(",")]
    return list(dict.fromkeys(names))


def parse_layer(names: tuple[str, ...]) -> Layers:
    """Parse the values of `--layer`: none, one, or several to fuse.

    Negative numbers count from the last layer; others are names, as in many ONNX files.
    """
    layers = tuple(int(name) if re.fullmatch(r"-\d{1,9}", name) else name for name in names)
    return layers[0] if len(layers) == 1 else layers or None
