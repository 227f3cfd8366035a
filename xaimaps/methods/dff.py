"""DFF: deep feature factorisation, the concepts that a layer's activations are made of."""

from __future__ import annotations

from typing import Any

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._maps import Maps, feature_maps, native
from xaimaps.methods._noise import uniform
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method

MOST = 64
"""The most concepts; each is a part of the compiled program."""


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Collins, Achanta, Süsstrunk 2018, arXiv:1806.10206",
    cost="1 F",
    uses_target=False,
)
def dff(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    n_components: int = 4,
    component: int = 0,
    n_steps: int = 100,
    seed: int = 0,
) -> Maps:
    r"""The positions of one of the concepts whose sums are a layer's activations, for every target.

    The activations $A$, each channel minus its least value, are a product of non-negative matrices:

    $$A_{ijc} \approx \sum_k H_{ijk} W_{kc}, \qquad M_{ij} = H_{ijk}, \quad |W_k| = 1$$

    The squared error is reduced from random factors by coordinate descent, as in scikit-learn.
    Concepts are in order of their share of the activations. Each image has concepts of its own; the
    authors also factorise several images together.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: not used.
        layer: the layer's name; None for the last one with a spatial extent.
        n_components: the number of concepts.
        component: the concept k to show, from 0, the largest.
        n_steps: the number of updates.
        seed: of the factors that the updates start from.

    Returns:
        Maps of shape `(N, h, w)`, in units of the activations. `details["concepts"]` has those of
        all concepts, `(N, K, h, w)`, `details["vectors"]` their channels, `(N, K, c)`, and
        `details["explained"]` the share of the squares of A that the product explains.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: a number is too small, or there is no such component.

    References:
        Collins, Achanta, Süsstrunk 2018, https://arxiv.org/abs/1806.10206

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import dff
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> dff(backend, images, n_components=2).details["concepts"].shape
        (1, 2, 5, 5)
    """
    check_count("n_components", n_components, most=MOST)
    check_count("component", component, least=0)
    check_count("n_steps", n_steps)
    if component >= n_components:
        raise MethodError(f"`component` must be below {n_components}, got {component}")
    xp = backend.xp
    values, outputs = feature_maps(backend, images, layer)
    rows = xp.reshape(values, (values.shape[0], -1, values.shape[-1]))
    rows = rows - xp.min(rows, axis=-2, keepdims=True)
    heat, vectors = _in_order(xp, *_factors(backend, rows, n_components, n_steps, seed))
    error = xp.sum((rows - xp.matmul(heat, vectors)) ** 2, axis=(-2, -1))
    whole = xp.sum(rows**2, axis=(-2, -1))
    concepts = xp.moveaxis(xp.reshape(heat, (*values.shape[:-1], n_components)), -1, 1)
    explained = xp.where(whole > 0, 1 - divided(xp, error, whole), xp.zeros_like(whole))
    details = {"concepts": concepts, "vectors": vectors, "explained": explained}
    return Maps(concepts[:, component, ...], outputs, details)


def _factors(
    backend: Backend, rows: Array, count: int, n_steps: int, seed: int
) -> tuple[Array, Array]:
    """Factorise `(N, P, C)` into non-negative `(N, P, K)` and `(N, K, C)`."""
    xp, (_, positions, channels) = backend.xp, rows.shape
    drawn = uniform(seed, positions + channels, count)
    parts = drawn[:positions], drawn[positions:].T
    size = xp.sqrt(xp.mean(rows, axis=(-2, -1), keepdims=True) / count)
    start = tuple(size * native(backend, part, rows) for part in parts)

    def step(factors: tuple[Array, Array], _: Array) -> tuple[tuple[Array, Array], None]:
        heat, vectors = factors
        vectors = _updated(xp, rows, heat, vectors)
        turned = map(xp.matrix_transpose, (rows, vectors, heat))
        return (xp.matrix_transpose(_updated(xp, *turned)), vectors), None

    (heat, vectors), _ = backend.scan(step, start, xp.zeros((n_steps,)))
    length = xp.sqrt(xp.sum(vectors**2, axis=-1, keepdims=True))
    return heat * xp.matrix_transpose(length), divided(xp, vectors, length)


def _updated(xp: Any, rows: Array, heat: Array, vectors: Array) -> Array:
    """Fit each of the vectors in turn, with the factor `heat` and the other vectors fixed."""
    turned = xp.matrix_transpose(heat)
    gram, cross = xp.matmul(turned, heat), xp.matmul(turned, rows)
    for k in range(vectors.shape[-2]):
        slope = cross[:, k, :] - xp.matmul(gram[:, k : k + 1, :], vectors)[:, 0, :]
        moved = vectors[:, k, :] + divided(xp, slope, gram[:, k, k : k + 1])
        fitted = xp.maximum(moved, xp.zeros_like(moved))[:, None, :]
        vectors = xp.concat([vectors[:, :k, :], fitted, vectors[:, k + 1 :, :]], axis=1)
    return vectors


def _in_order(xp: Any, heat: Array, vectors: Array) -> tuple[Array, Array]:
    """Put the concepts in order of the sum of their part of the activations."""
    share = xp.sum(heat, axis=-2) * xp.sum(vectors, axis=-1)
    order = xp.argsort(-share, axis=-1)
    heat = xp.take_along_axis(heat, xp.broadcast_to(order[:, None, :], heat.shape), axis=-1)
    places = xp.broadcast_to(order[..., None], vectors.shape)
    return heat, xp.take_along_axis(vectors, places, axis=-2)
