"""Finding backends: every installed distribution with an entry point in `xaimaps.backends`."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from xaimaps.backend import Backend
from xaimaps.errors import BackendError, nearest

GROUP = "xaimaps.backends"

KNOWN = {
    "jax": "xaimaps-jax",
    "onnxruntime": "xaimaps-onnx",
    "tensorflow": "'xaimaps-tensorflow[cpu]'",
}
"""The distribution that brings each of our own backends, for the remedy in a message."""


@functools.cache
def installed() -> dict[str, EntryPoint]:
    """The entry point of each backend by name; of two with one name, the first counts."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            warnings.warn(
                f"two distributions offer a backend {entry.name!r}: {found[entry.name].value} is "
                f"used, {entry.value} is not",
                RuntimeWarning,
                stacklevel=2,
            )
        found.setdefault(entry.name, entry)
    return dict(sorted(found.items()))


@functools.cache
def get_backend(name: str) -> type[Backend]:
    """Import the backend `name`.

    Raises:
        BackendError: it is not installed, or its import fails.
    """
    entry = installed().get(name)
    if entry is None:
        raise BackendError(_not_installed(name))
    try:
        backend = entry.load()
    except Exception as error:  # whatever a third party's import may raise
        raise BackendError(
            f"the backend {name!r} is installed but does not import "
            f"({type(error).__name__}: {error}); reinstall it or its framework"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise BackendError(f"the backend {name!r} must be a Backend class, got {entry.value}")
    return backend


def _not_installed(name: str) -> str:
    if name in KNOWN:
        return f"the backend {name!r} is not installed; pip install {KNOWN[name]}"
    have = ", ".join(installed()) or "none: pip install 'xaimaps[jax]'"
    return f"`backend` must be an installed one ({have}), got {name!r}{nearest(name, installed())}"


def find_backend(model: object) -> type[Backend]:
    """The first installed backend that accepts `model`.

    Raises:
        BackendError: none does; the message tells of those that do not import.
    """
    broken: list[str] = []
    if (name := next(_takers(model, broken), None)) is not None:
        return get_backend(name)
    have = ", ".join(installed()) or "no backend is installed; pip install 'xaimaps[jax]'"
    raise BackendError("; ".join([f"no backend takes the model {_shown(model)} ({have})", *broken]))


def _takers(model: object, broken: list[str]) -> Iterator[str]:
    """The names of the backends that accept `model`; `broken` gets what is wrong with others."""
    for name in installed():
        try:
            if get_backend(name).accepts(model):
                yield name
        except BackendError as error:
            broken.append(str(error))


def _shown(model: object) -> str:
    return repr(os.fspath(model)) if isinstance(model, str | os.PathLike) else type(model).__name__


def _named_backend(name: str, model: object) -> type[Backend]:
    """The backend `name`, which also tries files with a suffix that is nobody's.

    Raises:
        BackendError: it is not installed, or the model is for others.
    """
    backend = get_backend(name)
    if backend.accepts(model):
        return backend
    others = list(_takers(model, []))
    if not others and isinstance(model, str | os.PathLike):
        return backend
    names = " or ".join(map(repr, others))
    remedy = f"choose {names}, which takes it" if others else "give it one of those"
    raise BackendError(f"the backend {name!r} takes {backend.takes}, got {_shown(model)}; {remedy}")


def refresh() -> None:
    """Forget what is installed, for a plugin that came after the first look."""
    installed.cache_clear()
    get_backend.cache_clear()


def load_with(backend: str | None, model: Any, options: dict[str, Any]) -> Backend:
    """Load `model` with the backend of that name, or with the first that accepts it."""
    chosen = find_backend(model) if backend is None else _named_backend(backend, model)
    return chosen.load(model, **options)
