"""The methods by name: those of this package and those of installed plugins."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar

from xaimaps.backend import Backend, Capability
from xaimaps.errors import MethodError, nearest
from xaimaps.methods._maps import Maps
from xaimaps.methods._method import FAMILIES, Family, Method
from xaimaps.methods._row import spelled

GROUP = "xaimaps.methods"
"""The entry point group; each entry point names a decorated function or a `Method`."""

Function = TypeVar("Function", bound=Callable[..., Maps])

ROWS: dict[str, Method] = {}
"""The registered methods in the order of registration; `METHODS` also loads plugins."""


def method(
    *,
    family: Family,
    needs: Iterable[Capability],
    paper: str,
    cost: str,
    draws: Callable[..., dict[str, Any]] | None = None,
    defaults: Callable[[Backend], dict[str, object]] | None = None,
    uses_target: bool = True,
    only_classes: bool = False,
    suits: Callable[[Backend], bool] | None = None,
    is_relative: bool = False,
    is_sensitive: bool = False,
    tolerance: float | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function under its own name; see `Method` for the arguments."""

    def register(fn: Function) -> Function:
        register_method(
            Method(
                fn,
                family=family,
                needs=frozenset(needs),
                paper=paper,
                cost=cost,
                draws=draws,
                defaults=defaults,
                uses_target=uses_target,
                only_classes=only_classes,
                suits=suits,
                is_relative=is_relative,
                is_sensitive=is_sensitive,
                tolerance=tolerance,
            )
        )
        return fn

    return register


def register_method(method: Method) -> Method:
    """Add a method to the table, so that it can be called by its name.

    Raises:
        MethodError: another method has this name.
    """
    known = ROWS.setdefault(method.name, method)
    if known.fn is not method.fn:
        raise MethodError(
            f"a method {method.name!r} is already registered by {known.fn.__module__}; rename "
            f"the one of {method.fn.__module__}"
        )
    return known


class _Methods(Mapping[str, Method]):
    """The table, by family and then by name."""

    def __getitem__(self, name: str) -> Method:
        return _all_rows()[name]

    def __iter__(self) -> Iterator[str]:
        rows = _all_rows().values()
        return iter([row.name for row in sorted(rows, key=_position)])

    def __len__(self) -> int:
        return len(_all_rows())

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.values()))


def _position(row: Method) -> tuple[int, str]:
    return FAMILIES.index(row.family), row.name


METHODS: Mapping[str, Method] = _Methods()


def _all_rows() -> dict[str, Method]:
    _load_plugins()
    return ROWS


@functools.cache
def _load_plugins() -> None:
    """Import the methods of other distributions; a broken one does not hide the others."""
    for entry in entry_points(group=GROUP):
        try:
            found = entry.load()
            if isinstance(found, Method):
                register_method(found)
        except Exception as error:  # a third party's import may raise anything
            warnings.warn(
                f"the method {entry.name!r} of {entry.value} cannot be loaded "
                f"({type(error).__name__}: {error})",
                RuntimeWarning,
                stacklevel=2,
            )


def refresh() -> None:
    """Look for plugins again, for those installed since the first look."""
    _load_plugins.cache_clear()


def get_method(method: str | Method | Callable[..., Maps]) -> Method:
    """Return the row for a name or a function; a row is returned unchanged.

    Names are read without regard to case and punctuation: "Grad-CAM++" is grad_cam_plusplus. A
    function takes `(backend, images, target, ...)` and returns `Maps`. It need not be
    registered.

    Raises:
        MethodError: there is no such method.
    """
    if isinstance(method, Method):
        return method
    if callable(method):
        return _row_of(method)
    rows = _all_rows()
    name = spelled(method, rows) if isinstance(method, str) else None
    if name is None:
        raise MethodError(
            f"`method` must be one of {', '.join(METHODS)}, or a function, got {method!r}"
            f"{nearest(str(method), METHODS)}"
        )
    return rows[name]


def _row_of(fn: Callable[..., Maps]) -> Method:
    """Return the registered row of a function, or make one."""
    row = next((row for row in METHODS.values() if row.fn is fn), None)
    if row is not None:
        return row
    parameters = list(inspect.signature(fn).parameters)
    if len(parameters) < 3:
        raise MethodError(
            f"`method` must be a function of (backend, images, target, ...), got one of "
            f"({', '.join(parameters)})"
        )
    return Method(fn, family="custom", needs=frozenset(), paper="", cost="")
