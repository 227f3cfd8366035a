"""JAX, imported on first use, so that a graph can be read without JAX."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    from jax import lax
    from jax.experimental import xla_metadata
    from jax.scipy import special

__all__ = [
    "custom_jvp",
    "jax",
    "jnp",
    "lax",
    "require_jax",
    "special",
    "traced_once",
    "xla_metadata",
]

Array = Any


class _Lazy:
    """A module that is imported when one of its attributes is first used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: ModuleType | None = None

    def __getattr__(self, name: str) -> Any:
        if self._module is None:
            require_jax()
            self._module = importlib.import_module(self._name)
        return getattr(self._module, name)


if not TYPE_CHECKING:
    jax = _Lazy("jax")
    jnp = _Lazy("jax.numpy")
    lax = _Lazy("jax.lax")
    special = _Lazy("jax.scipy.special")
    xla_metadata = _Lazy("jax.experimental.xla_metadata")


def require_jax() -> None:
    """Refuse to continue if JAX is not installed.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        importlib.import_module("jax")
    except ModuleNotFoundError as error:
        if error.name != "jax":
            raise
        raise ModuleNotFoundError(
            "onnxjax computes with JAX, which is not installed here; "
            "install it with: pip install 'onnxjax[cpu]', or [cuda12], or [tpu]",
            name="jax",
        ) from None


def custom_jvp(
    jvp: Callable[..., tuple[Array, Array]],
    *,
    nondiff_argnums: tuple[int, ...] = (),
    symbolic_zeros: bool = False,
) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Replace the derivative of the decorated function, as `jax.custom_jvp` does.

    Args:
        jvp: the argument of `jax.custom_jvp.defjvp`.
        nondiff_argnums: the positions of arguments that are not arrays.
        symbolic_zeros: whether `jvp` receives zero tangents as `SymbolicZero`.
    """

    def decorate(fn: Callable[..., Array]) -> Callable[..., Array]:
        def with_jvp() -> Callable[..., Array]:
            made = jax.custom_jvp(fn, nondiff_argnums=nondiff_argnums)
            made.defjvp(jvp, symbolic_zeros=symbolic_zeros)
            return made

        return _made_on_first_call(fn, with_jvp)

    return decorate


def traced_once(
    *, static_argnums: tuple[int, ...] = ()
) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Trace the decorated function once for each shape, as `jax.jit` does, in all programs.

    Args:
        static_argnums: the positions of arguments that are not arrays.
    """

    def decorate(fn: Callable[..., Array]) -> Callable[..., Array]:
        return _made_on_first_call(fn, lambda: jax.jit(fn, static_argnums=static_argnums))

    return decorate


def _made_on_first_call(
    fn: Callable[..., Array], make: Callable[[], Callable[..., Array]]
) -> Callable[..., Array]:
    """Return what `make` makes of `fn`; JAX may not be installed when a module is imported."""
    made = functools.cache(make)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Array:
        return made()(*args, **kwargs)

    return call
