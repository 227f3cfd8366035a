"""Load one model into every installed backend that can run it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xaimaps import _exporters, _registry
from xaimaps._exporters import Exporter
from xaimaps._load import load, located
from xaimaps.backend import Backend, Precision
from xaimaps.errors import BackendError


def routes(
    model: Any,
    backends: Sequence[str] = (),
    *,
    convert: bool = True,
    precision: Precision = "float32",
    **options: Any,
) -> dict[str, Backend]:
    """Load a model into every installed backend that takes it, the reference first.

    A Keras model is also converted to ONNX, for the backends that run ONNX files.

    Args:
        model: see `xaimaps.load`.
        backends: the names of the backends to use; none for all.
        convert: whether to convert a Keras model.
        precision: that of the backends that have it; the others stay in float32.
        options: see `xaimaps.load`.

    Raises:
        XaimapsError: a backend is not installed, or the model cannot be loaded or converted.
    """
    names = sorted(backends or _registry.installed(), key=_rank)
    place = located(model)
    able = [name for name in names if _registry.get_backend(name).accepts(place)]
    if not able:
        _registry.find_backend(place)  # raises if no backend takes it
        raise BackendError(
            f"`backends` must be able to run the model {place}, got {', '.join(backends)}; omit "
            "--backend, or convert the model first"
        )
    found = {name: load(model, backend=name, **options) for name in able}
    others = [name for name in names if name not in found]
    found |= _exported(model, found, others, options) if convert else {}
    return _in_precision(found, precision)


def _in_precision(found: Mapping[str, Backend], precision: Precision) -> dict[str, Backend]:
    """Return the backends, with those that have a precision in it, and named after it.

    Raises:
        BackendError: none has it, or it does not suit the model.
    """
    able = {name for name, backend in found.items() if precision in backend.precisions}
    chosen = able or found.keys()
    return {
        f"{name} ({precision})" if name in chosen and precision != backend.precision else name: (
            backend.with_precision(precision) if name in chosen else backend
        )
        for name, backend in found.items()
    }


def _rank(name: str) -> tuple[int, str]:
    return -_registry.get_backend(name).authority, name


def _exported(
    model: Any,
    found: Mapping[str, Backend],
    others: Sequence[str],
    options: Mapping[str, Any],
) -> dict[str, Backend]:
    """Export the model of a loaded backend, and load the file into the others."""
    more: dict[str, Backend] = {}
    for exporter in _exporters.installed():
        left = [name for name in others if name not in more]
        file = Path(f"model{exporter.suffix}")
        takers = [name for name in left if _registry.get_backend(name).accepts(file)]
        if takers and exporter.backend in found:
            more |= _loaded_from(exporter, model, found[exporter.backend], takers, options)
    return more


def _loaded_from(
    exporter: Exporter,
    model: Any,
    native: Backend,
    takers: Sequence[str],
    options: Mapping[str, Any],
) -> dict[str, Backend]:
    """Export a model once, and load the temporary file into several backends."""
    exporter.require()
    with tempfile.TemporaryDirectory(prefix="xaimaps-") as folder:
        file = Path(folder) / f"model{exporter.suffix}"
        exporter.export_loaded(model, native, file, options)
        told: dict[str, Any] = {
            "inputs": options.get("inputs"),
            "preprocess": native.info.preprocess,
        }
        return {n: _like(load(file, backend=n, **told), native) for n in takers}


def _like(backend: Backend, native: Backend) -> Backend:
    """Copy the metadata of the original model to the converted one."""
    own, known = backend.info, native.info
    own.name, own.source, own.sha256 = known.name, known.source, known.sha256
    own.labels, own.preprocess = known.labels, known.preprocess
    return backend
