"""Find backends: the entry points `xaimaps.backends` of all installed distributions."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points, metadata
from typing import Any

from xaimaps.backend import Backend
from xaimaps.errors import BackendError, XaimapsError, nearest

GROUP = "xaimaps.backends"

SCHEMES = "xaimaps.schemes"
"""The entry point group for models by name, such as `keras:VGG16`: from scheme to backend."""


def how_to_install(extra: str = "") -> str:
    """Return a command that installs the extra `extra`, or a choice of those with a backend."""
    about = metadata("xaimaps")
    if extra in (about.get_all("Provides-Extra") or ()):
        return f"pip install 'xaimaps[{extra}]'"
    needs = (line.partition("; extra == ") for line in about.get_all("Requires-Dist") or ())
    extras = {name.strip("'\"") for package, _, name in needs if package.startswith("xaimaps-")}
    return f"pip install 'xaimaps[EXTRA]', where EXTRA is one of {', '.join(sorted(extras))}"


def import_extra(
    name: str, extra: str, needing: str, error: type[XaimapsError] = BackendError
) -> Any:
    """Import a module that only an extra installs.

    Args:
        name: the name of the module.
        extra: the extra of xaimaps.
        needing: what needs the module, for the message.
        error: the class to raise.

    Raises:
        XaimapsError: of the class `error`: the module is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise error(
            f"{needing} needs {missing.name}, which is not installed; {how_to_install(extra)}"
        ) from None


@functools.cache
def installed() -> dict[str, EntryPoint]:
    """Return the entry points of the backends by name; the first of two equal names is used."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            warnings.warn(
                f"two distributions provide a backend {entry.name!r}: {found[entry.name].value} is "
                f"used, {entry.value} is ignored",
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
    except Exception as error:  # a third party's import may raise anything
        raise BackendError(
            f"the backend {name!r} is installed but cannot be imported "
            f"({type(error).__name__}: {error}); reinstall it or its framework"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise BackendError(f"the backend {name!r} must be a Backend class, got {entry.value}")
    return backend


def _not_installed(name: str) -> str:
    have = ", ".join(installed()) or "none"
    near = nearest(name, installed())
    remedy = near or f"; {how_to_install(name)}"
    return f"`backend` must be an installed one ({have}), got {name!r}{remedy}"


def find_backend(model: object) -> type[Backend]:
    """Return the first installed backend that accepts `model`.

    Raises:
        BackendError: no backend does; the message lists backends that cannot be imported.
    """
    broken: list[str] = []
    if (name := next(takers(model, broken), None)) is not None:
        return get_backend(name)
    have = ", ".join(installed()) or "none is installed"
    what = f"no backend takes the model {_shown(model)} ({have})"
    more = f"others: {how_to_install()}" if installed() else how_to_install()
    raise BackendError("; ".join([what, *broken, more]))


def takers(model: object, broken: list[str]) -> Iterator[str]:
    """Yield the names of the backends that accept `model`; append import errors to `broken`."""
    for name in installed():
        try:
            if get_backend(name).accepts(model):
                yield name
        except BackendError as error:
            broken.append(str(error))


def _shown(model: object) -> str:
    return repr(os.fspath(model)) if isinstance(model, str | os.PathLike) else type(model).__name__


def _named_backend(name: str, model: object) -> type[Backend]:
    """Return the backend `name`, also for files with a suffix that no backend accepts.

    Raises:
        BackendError: it is not installed, or the model is for other backends.
    """
    backend = get_backend(name)
    if backend.accepts(model):
        return backend
    others = list(takers(model, []))
    if not others and isinstance(model, str | os.PathLike):
        return backend
    names = " or ".join(map(repr, others))
    remedy = f"choose {names}, which takes it" if others else "give it one of those"
    raise BackendError(f"the backend {name!r} takes {backend.takes}, got {_shown(model)}; {remedy}")


def is_named(model: str) -> bool:
    """Whether a text is `scheme:name` with the scheme of an installed backend."""
    return model.partition(":")[0] in schemes() and ":" in model


@functools.cache
def schemes() -> dict[str, EntryPoint]:
    """Return the entry points of the schemes by name."""
    return {entry.name: entry for entry in entry_points(group=SCHEMES)}


def refresh() -> None:
    """Clear the caches, to find plugins installed since the first look."""
    installed.cache_clear()
    schemes.cache_clear()
    get_backend.cache_clear()


def load_with(backend: str | None, model: Any, options: dict[str, Any]) -> Backend:
    """Load `model` with the backend of that name, or with the first that accepts it."""
    chosen = find_backend(model) if backend is None else _named_backend(backend, model)
    return chosen.load(model, **options)
