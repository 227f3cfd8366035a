"""The description of a model in a file next to it: `model.xaimaps.toml` for `model.onnx`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from xaimaps import zoo
from xaimaps._images.preprocess import Preprocess
from xaimaps.errors import ModelLoadError, nearest


@dataclass(frozen=True)
class Sidecar:
    """What a file next to a model says about it; None for what it does not say.

    Attributes:
        preprocess: a preset, or a table of the attributes of a `Preprocess`.
        fit: see `load`.
        window: see `load`.
        labels: a list, the name of an embedded list, or a file, relative to the folder.
        input_size: the spatial size, for a model that takes images of any size.
        layer: the default layer.
    """

    preprocess: str | Preprocess | None = None
    fit: Any = None
    window: Any = None
    labels: Any = None
    input_size: Any = None
    layer: str | None = None

    def with_arguments(self, **given: Any) -> Sidecar:
        """Replace what the arguments of `load` say; a preprocessing replaces its fit and window."""
        told = {name: value for name, value in given.items() if value is not None}
        if "preprocess" in told:
            told = {"fit": None, "window": None} | told
        return replace(self, **told)


def sidecar_path(model: Path) -> Path:
    """Return the path of the file next to a model."""
    return model.with_suffix(".xaimaps.toml")


def read_sidecar(model: Any) -> Sidecar:
    """Read the file next to a model; an empty description if there is none.

    Raises:
        ModelLoadError: the file cannot be read, or says something else.
    """
    if not isinstance(model, Path) or not sidecar_path(model).is_file():
        return Sidecar()
    path = sidecar_path(model)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_names(told)
        return Sidecar(**{name: _value(name, value, path) for name, value in told.items()})
    except (OSError, ValueError, TypeError) as error:
        raise ModelLoadError(
            f"{str(path)!r} must describe the model as TOML, got a file that cannot be used "
            f"({error}); write it with `xaimaps describe`"
        ) from None


def _check_names(told: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(Sidecar)]
    for name in told:
        if name not in known:
            raise ValueError(f"unknown name {name!r}{nearest(name, known)}")


def _value(name: str, value: Any, path: Path) -> Any:
    if name == "preprocess" and isinstance(value, dict):
        return Preprocess(**{one: _tuple(part) for one, part in value.items()})
    if name == "labels" and isinstance(value, str) and value not in zoo.LABELS:
        return str(path.parent / value)
    is_right, wanted = _WANTED.get(name, (None, ""))
    if is_right is not None and not is_right(value):
        raise ValueError(f"`{name}` must be {wanted}, got {value!r}")
    return _tuple(value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_pair(value: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    return numbers and len(value) == 2


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) and one > 0 for one in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


_WANTED = {
    "input_size": (
        _is_size,
        "whole numbers of at least 1, [height, width] or [depth, height, width]",
    ),
    "window": (_is_pair, "two values"),
    "layer": (_is_name, "a name"),
}
"""What is checked here; `load` checks the others."""


def sidecar_text(told: Sidecar) -> str:
    """Return a description as TOML."""
    pairs = ((field.name, getattr(told, field.name)) for field in fields(Sidecar))
    return "".join(f"{name} = {_toml(value)}\n" for name, value in pairs if value is not None)


def _toml(value: Any) -> str:
    """Return a value as TOML, whose text, numbers and lists are also those of JSON."""
    if isinstance(value, Preprocess):
        pairs = ((name, part) for name, part in asdict(value).items() if part is not None)
        return "{" + ", ".join(f"{name} = {_toml(part)}" for name, part in pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
