"""All the ways in which the installed backends can run one model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xaimaps import _registry
from xaimaps._converter import require_converter
from xaimaps._load import load, located
from xaimaps.backend import Backend
from xaimaps.errors import BackendError

REFERENCES = ("tensorflow", "onnxruntime")
"""Whose numbers the others are held to, if there: the ones that a user has had all along."""

LOADING = ("weights", "allow_unsafe")
"""What is said to both processes that load a model."""

NATIVE = "tensorflow"
"""The backend whose models the converter takes."""

ONNX = Path("model.onnx")
"""What backends are asked about that may run a converted model."""


def routes(
    model: Any, backends: Sequence[str] = (), *, convert: bool = True, **options: Any
) -> dict[str, Backend]:
    """Load a model into every installed backend that takes it, the reference first.

    A Keras model is converted to ONNX besides, for the backends that run that.

    Args:
        model: what `xaimaps.load` takes.
        backends: the names of those wanted; none for all.
        convert: whether to convert a Keras model.
        options: see `xaimaps.load`.

    Raises:
        XaimapsError: a backend is not installed, or the model cannot be loaded or converted.
    """
    names = sorted(backends or _registry.installed(), key=_rank)
    place = located(model)
    able = [name for name in names if _registry.get_backend(name).accepts(place)]
    if not able:
        _registry.find_backend(place)  # says why, where none at all takes it
        raise BackendError(
            f"the model {place} is for other backends than {', '.join(backends)}; leave --backend "
            "out, or convert it first"
        )
    found = {name: load(model, backend=name, **options) for name in able}
    others = [name for name in names if name not in found]
    takers = [name for name in others if _registry.get_backend(name).accepts(ONNX)]
    if convert and takers and NATIVE in found:
        found |= _loaded_as_onnx(model, found[NATIVE], takers, options)
    return found


def _rank(name: str) -> tuple[int, str]:
    return (REFERENCES.index(name) if name in REFERENCES else len(REFERENCES)), name


def _loaded_as_onnx(
    model: Any, native: Backend, takers: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Backend]:
    """Convert a model once, for several backends, which need the file no more afterwards."""
    require_converter()
    with tempfile.TemporaryDirectory(prefix="xaimaps-") as folder:
        file = Path(folder) / ONNX.name
        _convert(model, native, file, options)
        return {name: _like(load(file, backend=name), native) for name in takers}


def _convert(model: Any, native: Any, file: Path, options: Mapping[str, Any]) -> None:
    """Write a model's file, in another process where that can load the same model."""
    from xaimaps_tensorflow.to_onnx._request import Job
    from xaimaps_tensorflow.to_onnx._subprocess import convert_apart, is_alike_apart

    chosen = _chosen(options)
    if is_alike_apart(model, options):
        own = {name: options[name] for name in LOADING if options.get(name) is not None}
        convert_apart(Job(source=model, file=file, **chosen, **own))
        return
    from xaimaps_tensorflow.to_onnx._convert import conversion_of

    conversion_of(native.model, **chosen).save(file)


def _chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    output = options.get("output")
    return {
        "output": 0 if output is None else output,  # as backends choose
        "input_shape": options.get("input_shape"),
    }


def _like(backend: Backend, native: Backend) -> Backend:
    """The converted model with what is known of the one that it was made of."""
    own, known = backend.info, native.info
    own.name, own.source, own.sha256 = known.name, known.source, known.sha256
    own.labels, own.preprocess = known.labels, known.preprocess
    return backend
