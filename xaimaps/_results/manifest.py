"""The manifest: the settings that reproduce the maps of one image, as JSON values."""

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
from xaimaps._digest import digest
from xaimaps.backend import ModelInfo
from xaimaps.errors import MethodError
from xaimaps.methods import Method, get_method
from xaimaps.targets import Detection

if TYPE_CHECKING:
    from xaimaps._results.attribution import Attribution


def manifest(found: Attribution, index: int, files: list[Path]) -> dict[str, Any]:
    """Describe how the maps of one image were made.

    Args:
        found: the attribution.
        index: which image.
        files: the files that were written, which the manifest lists by name.
    """
    model, target = found.model, found.target.for_image(index)
    inputs = found.inputs[index] if found.inputs else model.inputs
    return {
        "xaimaps": version("xaimaps"),
        "method": found.method,
        "options": {name: recorded(value) for name, value in found.options.items()},
        "layer": list(found.layers) if len(found.layers) > 1 else found.layer,
        "target": str(target),
        "target_files": {file: file_digest(file) for file in target.files},
        "targets": targets_of(found, index),
        "backend": found.backend,
        "backend_version": backend_version(found.backend),
        "precision": found.precision,
        "versions": found.versions,
        "model": model_record(model),
        "explained": model.input,
        "inputs": inputs,
        "input_files": {v: file_digest(v) for v in inputs.values() if isinstance(v, str)},
        "preprocess": asdict(model.preprocess) if model.preprocess else None,
        "input_size": list(found.input_size),
        "picture": _picture(found, index),
        "vector": vector_of(found, index),
        "display": found.display[index]._asdict(),
        "maps": {
            "shape": list(found.maps.shape[1:]),
            "dtype": str(found.maps.dtype),
            "several": found.is_several,
        },
        "top": [asdict(one) for one in found.top(index=index)] if found.has_classes else [],
        "seconds": found.seconds._asdict(),
        "notes": found.notes(index),
        "files": [path.name for path in files],
        "not_recorded": list(_not_recorded(found, index)),
    }


def file_digest(file: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, or an empty text if it cannot be read."""
    try:
        return digest(file)
    except OSError:
        return ""


def labels_digest(labels: tuple[str, ...] | None) -> str:
    """Return the SHA-256 of class names, or an empty text if they are unknown."""
    if labels is None:
        return ""
    return hashlib.sha256("\n".join(labels).encode("utf-8", "surrogatepass")).hexdigest()


def model_record(model: ModelInfo) -> dict[str, Any]:
    """Describe the model by its file and how it was loaded."""
    return {
        "name": model.name,
        "file": Path(model.source).name,
        "source": _model_source(model),
        "sha256": model.sha256,
        "load": {n: v for n, v in model.loading.items() if n != "model" and _is_json(v)},
        "ending": model.ending,
        "labels_name": model.labels_name,
        "labels_sha256": labels_digest(model.labels),
    }


def _model_source(model: ModelInfo) -> str:
    """Return the argument of `load`: a name such as keras:VGG16 or default, or a path."""
    named: str | None = model.loading.get("model")
    embedded = (name for name, path in zoo.MODELS.items() if str(path) == model.source)
    return named or next(embedded, model.source)


def _not_recorded(found: Attribution, index: int) -> Iterator[str]:
    """Describe everything that the maps depend on and the manifest does not hold."""
    yield from found.target.for_image(index).unrecorded
    if not found.pictures and found.vectors is None:
        yield "an array was explained, not a picture"
    elif found.pictures and not found.pictures[index].sha256:
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
    """Whether JSON can hold a value; tuples become lists, which `reproduce` converts back."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, Mapping)


def recorded(value: Any) -> Any:
    """Convert an option to a JSON value; an array becomes its shape and digest."""
    if isinstance(value, np.ndarray):
        sha256 = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": sha256}
    return value if _is_json(value) else repr(value)


def backend_version(name: str) -> str | None:
    """Return the version of a backend's distribution, or None if it is not a plugin."""
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
        "size": list(picture.size),
        "range": picture.range,
        "notes": list(picture.notes),
    }


def vector_of(found: Attribution, index: int) -> dict[str, Any] | None:
    """Return the numbers of an explained vector, and their attributions for each target."""
    if found.vectors is None:
        return None
    attributions = found.maps[index].reshape(found.count, -1)
    return {"values": found.vectors[index].tolist(), "attributions": attributions.tolist()}


def targets_of(found: Attribution, index: int) -> list[dict[str, Any]]:
    """Return the target and the score of each map, and the class and label if it has one."""
    return [_target(found, index, k) for k in range(found.count)]


def box_record(label: str, box: Detection) -> dict[str, Any]:
    """Describe a box as JSON values; the corners are x0, y0, x1, y1 in pixels of the input."""
    return {
        "class": box.category,
        "label": label,
        "score": box.score,
        "corners": list(box.corners),
    }


def _target(found: Attribution, index: int, k: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"target": found.target_name(index, k)}
    if found.classes is not None:
        entry["class"] = int(np.atleast_1d(found.classes[index])[k])
        entry["label"] = found.label(entry["class"])
    if (box := found.explained_box(index, k)) is not None:
        entry["box"] = box_record(found.label(box.category), box)
    if found.target_scores is not None:
        entry["score"] = float(np.atleast_1d(found.target_scores[index])[k])
    return entry
