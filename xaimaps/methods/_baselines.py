"""Baselines: a colour, a blurred copy, noise, or the user's own images.

Colours are those of the picture before preprocessing: "black" is black, whether it becomes 0, -1 or
another value in the model's input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError, nearest
from xaimaps.methods._filters import blurred
from xaimaps.methods._maps import native, spatial_axes
from xaimaps.methods._noise import Floats, uniform
from xaimaps.methods._options import check_count

Baseline = str | Array | None
"""One of `NAMES`, an array, or None for `default_baseline`."""

COLOURS = {"black": 0.0, "white": 255.0, "gray": 127.5}

NAMES = (*COLOURS, "mean", "blur", "noise", "zeros")

BLUR = 0.05
"""The width (sigma) of "blur", as a fraction of the image's shorter side."""


def default_baseline(backend: Backend) -> str:
    """Return "black" where the preprocessing knows it, otherwise "zeros"."""
    return "black" if knows_colours(backend) else "zeros"


def knows_colours(backend: Backend) -> bool:
    """Whether the model's preprocessing is known, and is one of pixels from black to white."""
    return backend.info.pixels is not None and not backend.info.pixels.native


def baselines(
    backend: Backend, images: Array, baseline: Baseline, noise: Array | None = None
) -> Array:
    """Return the baselines of a batch, `(B, N, H, W, C)`; an axis of length 1 broadcasts.

    Args:
        backend: the model, whose preprocessing defines black.
        images: `(N, H, W, C)`, preprocessed for the model.
        baseline: "black", "white" or "gray"; "mean": each image's mean colour; "blur": each
            image, blurred; "noise": uniform pixels; "zeros": zeros in the model's input; a
            preprocessed array `(H, W, C)` or `(B, H, W, C)`; None for `default_baseline`.
        noise: for "noise", `(B, H, W, C)` from 0 to 1.

    Raises:
        MethodError: it is none of these, or the model's preprocessing is unknown.
    """
    name = default_baseline(backend) if baseline is None else baseline
    if not isinstance(name, str):
        return _given(backend, images, name)
    if name not in NAMES:
        raise MethodError(
            f"`baseline` must be an array or one of {', '.join(NAMES)}, got {name!r}"
            f"{nearest(name, NAMES)}"
        )
    if name == "noise":
        return _uniform(backend, images, noise)
    return _named(backend, images, name)[None, ...]


def draw_baselines(
    shape: tuple[int, ...],
    *,
    baseline: Baseline = None,
    n_baselines: int = 4,
    seed: int = 0,
    **others: object,
) -> dict[str, Floats]:
    """Draw the noise of a method, if its baseline is noise."""
    if not isinstance(baseline, str) or baseline != "noise":
        return {}
    check_count("n_baselines", n_baselines)
    return {"noise": uniform(seed, n_baselines, *shape)}


def drawn_baselines(
    backend: Backend,
    images: Array,
    baseline: Baseline,
    n_baselines: int,
    seed: int,
    noise: Array | None,
) -> Array:
    """Return `baselines`, with noise drawn from a seed if none is given."""
    if noise is None:
        shape, names = images.shape[1:], {"n_baselines": n_baselines, "seed": seed}
        noise = draw_baselines(shape, baseline=baseline, **names).get("noise")
    return baselines(backend, images, baseline, noise)


def _named(backend: Backend, images: Array, name: str) -> Array:
    """Return one baseline for each image, `(N, H, W, C)`."""
    xp = backend.xp
    zeros = xp.zeros_like(images)
    if name == "zeros":
        return zeros
    if name == "mean":
        return zeros + xp.mean(images, axis=spatial_axes(images, 1), keepdims=True)
    if name == "blur":
        return blurred(backend, images, BLUR * min(images.shape[1:-1]))
    return zeros + _colour(backend, images, COLOURS[name], name)


def _given(backend: Backend, images: Array, array: Any) -> Array:
    """Return the user's own baselines, `(B, 1, H, W, C)`."""
    shape = tuple(images.shape[1:])
    if not hasattr(array, "shape") or tuple(array.shape[-len(shape) :]) != shape:
        raise MethodError(
            f"`baseline` must be a name or an array of shape {shape}, alone or "
            f"several, got {getattr(array, 'shape', array)!r}; preprocess it like the images"
        )
    whole = backend.xp.reshape(native(backend, array, images), (-1, 1, *images.shape[1:]))
    if not whole.shape[0]:
        raise MethodError("`baseline` must be at least one image, got none")
    return whole


def _uniform(backend: Backend, images: Array, noise: Array | None) -> Array:
    """Return pixels between black and white, `(B, 1, H, W, C)`."""
    if noise is None:
        raise MethodError(
            "`baseline` must not be 'noise' for this method, which draws no samples; choose another"
        )
    black, white = (_colour(backend, images, value, "noise") for value in (0.0, 255.0))
    return (black + (white - black) * native(backend, noise, images))[:, None, ...]


def _colour(backend: Backend, images: Array, value: float, name: str) -> Array:
    """Preprocess a grey pixel, `(C,)`."""
    prepare = backend.info.pixels
    if prepare is None or prepare.native:
        raise MethodError(
            f"the baseline {name!r} needs the model's preprocessing of pixels, which is unknown; "
            "give load(preprocess=...), or use the baseline 'zeros'"
        )
    return native(backend, prepare.values(np.full(images.shape[-1], value)), images)
