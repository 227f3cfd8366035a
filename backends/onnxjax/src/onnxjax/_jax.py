"""JAX, imported when it is first used: a graph can be read where JAX is not installed."""

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
    from jax.scipy import special

__all__ = ["custom_jvp", "jax", "jnp", "lax", "require_jax", "special"]

Array = Any


class _Lazy:
    """A module that is imported when something in it is first used."""

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


def require_jax() -> None:
    """Make sure that JAX is there.

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
    """Give the decorated function another derivative, as `jax.custom_jvp` does.

    Args:
        jvp: what `jax.custom_jvp.defjvp` takes.
        nondiff_argnums: the positions of arguments that are no arrays.
        symbolic_zeros: whether `jvp` is told which tangents are zero.
    """

    def decorate(fn: Callable[..., Array]) -> Callable[..., Array]:
        @functools.cache
        def made() -> Callable[..., Array]:
            with_jvp = jax.custom_jvp(fn, nondiff_argnums=nondiff_argnums)
            with_jvp.defjvp(jvp, symbolic_zeros=symbolic_zeros)
            return with_jvp

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Array:
            return made()(*args, **kwargs)

        return call

    return decorate
