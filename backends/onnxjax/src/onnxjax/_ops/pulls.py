"""Convolutions with an input gradient of their own, which JAX transposes for tangents."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from onnxjax._jax import custom_jvp, jax, jnp, traced_once
from onnxjax._ops.memory import kept

Array = Any
Steps = tuple[int, ...]
Borders = tuple[tuple[int, int], ...]
Convolution = Callable[[Array, Array, Steps, Borders, Steps], Array]


def with_pull(pull: Callable[..., Array]) -> Callable[[Convolution], Convolution]:
    """Give a convolution of `x` (N, *spatial, C) with `w` another derivative by `x`.

    Args:
        pull: returns the input gradient for `(g, *, w, sizes, strides, pads, dilations)`, where `g`
            is the gradient of the result, and `sizes` are the spatial ones of `x`.
    """

    def decorate(fn: Convolution) -> Convolution:
        def jvp(
            strides: Steps,
            pads: Borders,
            dilations: Steps,
            primals: tuple[Array, Array],
            tangents: tuple[Array, Array],
        ) -> tuple[Array, Array]:
            (x, w), (dx, dw), zero = primals, tangents, jax.custom_derivatives.SymbolicZero
            y = kept(run(x, w, strides, pads, dilations))
            back = functools.partial(
                pull, w=w, sizes=x.shape[1:-1], strides=strides, pads=pads, dilations=dilations
            )
            dy = [] if isinstance(dx, zero) else [*jax.linear_transpose(back, y)(dx)]
            if not isinstance(dw, zero):
                dy.append(fn(x, dw, strides, pads, dilations))
            return y, functools.reduce(jnp.add, dy)

        differentiable = custom_jvp(jvp, nondiff_argnums=(2, 3, 4), symbolic_zeros=True)(fn)
        run = traced_once(static_argnums=(2, 3, 4))(differentiable)
        return run

    return decorate


def pull_borders(
    kernel: Sequence[int],
    sizes: Steps,
    found: Steps,
    strides: Steps,
    pads: Borders,
    dilations: Steps,
) -> Borders:
    """Return the borders of the dilated gradient, of which the flipped kernel makes the input's.

    Args:
        kernel: the spatial sizes of the kernel.
        sizes: those of the input.
        found: those of the result.
        strides: of the convolution.
        pads: of the convolution.
        dilations: of the convolution.
    """
    return tuple(
        ((k - 1) * d - lo, size + lo - 1 - (n - 1) * s)
        for k, d, (lo, _), size, n, s in zip(
            kernel, dilations, pads, sizes, found, strides, strict=True
        )
    )


def phases(
    kernel: Sequence[int], sizes: Steps, found: Steps, strides: Steps, pads: Borders
) -> tuple[Steps, Steps, Borders]:
    """Return how the input gradient divides into the phases of the strides.

    A position `s a + r` of the padded input, with stride s and phase r, gets `w[s q + r] g[a - q]`
    for every q.

    Args:
        kernel: the spatial sizes of the kernel.
        sizes: those of the input.
        found: those of the result.
        strides: of the convolution.
        pads: of the convolution.

    Returns:
        The number of q and of a along each axis, and the borders of g that hold every `a - q`.
    """
    counts = tuple(-(-k // s) for k, s in zip(kernel, strides, strict=True))
    lengths = tuple(-(-(n + sum(pad)) // s) for n, s, pad in zip(sizes, strides, pads, strict=True))
    borders = tuple((q - 1, n - m) for q, n, m in zip(counts, lengths, found, strict=True))
    return counts, lengths, borders


def without_pads(x: Array, sizes: Steps, pads: Borders) -> Array:
    """Return the positions of the input itself of a padded one, `(N, *spatial, C)`."""
    inside = (slice(low, low + n) for (low, _), n in zip(pads, sizes, strict=True))
    return x[(slice(None), *inside)]
