"""The manifest: all that it takes to reproduce the maps of one image, as JSON values."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps import _registry, zoo
from xaimaps.backend import ModelInfo
from xaimaps.errors import MethodError
from xaimaps.methods import Method, get_method

if TYPE_CHECKING:
    from xaimaps._results.attribution import Attribution


def manifest(found: Attribution, index: int, files: list[Path]) -> dict[str, Any]:
    """Describe how the maps of one image were made.

    Args:
        found: the attribution.
        index: which image.
        files: what was written, to be listed by name.
    """
    model, target = found.model, found.target.for_image(index)
    return {
        "xaimaps": version("xaimaps"),
        "method": found.method,
        "options": {name: _recorded(value) for name, value in found.options.items()},
        "layer": list(found.layers) if len(found.layers) > 1 else found.layer,
        "target": str(target),
        "target_files": {file: digest(file) for file in target.files},
        "targets": targets_of(found, index),
        "backend": found.backend,
        "backend_version": _backend_version(found.backend),
        "versions": found.versions,
        "model": _model(model),
        "preprocess": asdict(model.preprocess) if model.preprocess else None,
        "input_size": list(found.input_size),
        "picture": _picture(found, index),
        "display": found.display[index]._asdict(),
        "maps": {"shape": list(found.maps.shape[1:]), "dtype": str(found.maps.dtype)},
        "seconds": found.seconds._asdict(),
        "notes": list(model.notes),
        "files": [path.name for path in files],
        "not_recorded": list(_not_recorded(found, index)),
    }


def digest(file: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, empty where it is gone."""
    try:
        with Path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def labels_digest(labels: tuple[str, ...] | None) -> str:
    """Return the SHA-256 of class names, empty where they are not known."""
    if labels is None:
        return ""
    return hashlib.sha256("\n".join(labels).encode("utf-8", "surrogatepass")).hexdigest()


def _model(model: ModelInfo) -> dict[str, Any]:
    return {
        "name": model.name,
        "file": Path(model.source).name,
        "source": _model_source(model),
        "sha256": model.sha256,
        "load": {n: v for n, v in model.loading.items() if n != "model" and _is_json(v)},
        "labels_sha256": labels_digest(model.labels),
    }


def _model_source(model: ModelInfo) -> str:
    """What `load` takes: a name such as keras:VGG16, that of an embedded model, or the path."""
    named: str | None = model.loading.get("model")
    embedded = (name for name, path in zoo.MODELS.items() if str(path) == model.source)
    return named or next(embedded, model.source)


def _not_recorded(found: Attribution, index: int) -> Iterator[str]:
    """What the maps depend on and this manifest does not hold, in words."""
    yield from found.target.for_image(index).unrecorded
    if not found.pictures:
        yield "an array was explained, not a picture"
    elif not found.pictures[index].sha256:
        yield "the picture did not come from a file"
    if not found.model.source:
        yield "the model did not come from a file"
    yield from (
        f"the model was loaded with {name!r} from Python"
        for name, value in found.model.loading.items()
        if not _is_json(value)
    )
    yield from (
        f"the option {name!r} is an array or a Python object"
        for name, value in found.options.items()
        if not _is_json(value)
    )
    if not _is_in_table(found.row):
        yield f"the method is the Python function {found.method!r}"


def _is_in_table(row: Method) -> bool:
    try:
        return get_method(row.name) is row
    except MethodError:
        return False


def _is_json(value: Any) -> bool:
    """Whether JSON holds a value; tuples become lists, and are made tuples again."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, Mapping)


def _recorded(value: Any) -> Any:
    """An option as a JSON value; an array by its shape and digest."""
    if isinstance(value, np.ndarray):
        sha256 = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": sha256}
    return value if _is_json(value) else repr(value)


def _backend_version(name: str) -> str | None:
    """The version of the distribution that brings a backend; None for one that is no plugin."""
    entry = _registry.installed().get(name)
    return entry.dist.version if entry is not None and entry.dist is not None else None


def _picture(found: Attribution, index: int) -> dict[str, Any] | None:
    if not found.pictures:
        return None
    picture = found.pictures[index]
    return {
        "source": picture.source,
        "sha256": picture.sha256,
        "mode": picture.mode,
        "size": list(picture.pixels.shape[:2]),
        "notes": list(picture.notes),
    }


def targets_of(found: Attribution, index: int) -> list[dict[str, Any]]:
    """What each map explains, with its score; the class and its label where it is one."""
    return [_target(found, index, k) for k in range(found.count)]


def _target(found: Attribution, index: int, k: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"target": found.target_name(index, k)}
    if found.classes is not None:
        entry["class"] = int(np.atleast_1d(found.classes[index])[k])
        entry["label"] = found.label(entry["class"])
    if found.target_scores is not None:
        entry["score"] = float(np.atleast_1d(found.target_scores[index])[k])
    return entry
