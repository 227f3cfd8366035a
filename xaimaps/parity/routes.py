"""All the ways in which the installed backends can run one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xaimaps import plugins
from xaimaps.backend import Backend
from xaimaps.errors import BackendError
from xaimaps.loading import load, located

REFERENCES = ("tensorflow", "onnxruntime")
"""Whose numbers the others are held to, if there: the ones that a user has had all along."""


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
    names = sorted(backends or plugins.installed(), key=_rank)
    place = located(model)
    able = [name for name in names if plugins.get_backend(name).accepts(place)]
    if not able:
        plugins.find_backend(place)  # says why, where none at all takes it
        raise BackendError(
            f"the model {place} is for other backends than {', '.join(backends)}; leave --backend "
            "out, or convert it first"
        )
    found = {name: load(model, backend=name, **options) for name in able}
    native: Any = found.get("tensorflow")
    if convert and native is not None and not _takes_onnx(found):
        proto = _converted(native.model, options.get("output"))
        takers = [name for name in names if plugins.get_backend(name).accepts(proto)]
        found |= {name: _like(load(proto, backend=name), native) for name in takers}
    return found


def _takes_onnx(found: dict[str, Backend]) -> bool:
    """Whether the model is an ONNX file already, as for the embedded one."""
    return bool(found.keys() & {"jax", "onnxruntime"})


def _rank(name: str) -> tuple[int, str]:
    return (REFERENCES.index(name) if name in REFERENCES else len(REFERENCES)), name


def _converted(model: Any, output: Any) -> Any:
    try:
        from xaimaps_onnx import convert
    except ImportError:
        raise BackendError(
            "a Keras model is compared with itself as ONNX, but the converter is not installed; "
            "pip install 'xaimaps[convert]'"
        ) from None
    return convert(model, output=0 if output is None else output)


def _like(backend: Backend, native: Backend) -> Backend:
    """The converted model with what is known of the one that it was made of."""
    backend.info.name = native.info.name
    backend.info.labels = native.info.labels
    backend.info.preprocess = native.info.preprocess
    return backend
