"""Run many variants of the same images through a network, in chunks that fit into memory.

A method that needs V variants of N images (points on a path, noisy or masked copies) makes them
chunk by chunk inside a scan, so that its memory does not grow with V.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._options import check_memory
from xaimaps.targets import Target

MEMORY = 600
"""MB for the values of one pass through the network, unless the device has its own memory."""

SHARE = 0.25
"""The share of a device's own memory for them; convolutions and copies need more besides."""

_BYTES = 4  # float32

_MOST = 64
"""The most variants of a layer at a time; more do not fit into a CPU's caches and are slower."""


def memory_of(backend: Backend, memory: float | None) -> float:
    """Return the limit in MB for the values of one pass: the user's, or one for the device.

    Raises:
        MethodError: `memory` is not a positive number.
    """
    own = backend.device.memory
    if memory is None:
        return MEMORY if own is None else SHARE * own / 1e6
    check_memory(memory)
    return memory


def images_within(
    backend: Backend,
    image_shape: tuple[int, ...],
    memory: float | None,
    *,
    gradient: bool = True,
) -> int:
    """Return how many images can pass through the network at a time, at least one.

    Every layer is counted as kept, as it is for a gradient; a forward pass alone needs less.

    Args:
        backend: the model; an unknown height or width of a layer is taken to be the image's.
        image_shape: `(H, W, C)`.
        memory: in MB (10^6 bytes); None for what suits the device.
        gradient: count every value twice, once for its gradient.

    Raises:
        MethodError: `memory` is not a positive number.
    """
    allowed = memory_of(backend, memory)
    shapes = [layer.shape[1:] for layer in backend.layers()]
    values = math.prod(image_shape) + sum(_size(shape, image_shape) for shape in shapes)
    most = int(allowed * 1e6 // (_BYTES * values * (2 if gradient else 1)))
    return max(most, 1)


def images_in_place(backend: Backend, image_shape: tuple[int, ...], wanted: int) -> int:
    """Return how many images to run at a time so that values take no new memory in each pass.

    Each device's share of `wanted` is halved until the value of every layer is as small as
    `Device.reused` asks.

    Args:
        backend: the model; an unknown height or width of a layer is taken to be the image's.
        image_shape: `(H, W, C)`.
        wanted: the most images.
    """
    if wanted == 1 or (reused := backend.device.reused) is None:
        return wanted
    largest = max((_size(layer.shape[1:], image_shape) for layer in backend.layers()), default=1)
    most = max(1, reused // (_BYTES * max(1, largest)))
    share = -(-wanted // backend.devices)
    while share > most:
        share = -(-share // 2)
    return min(wanted, share * backend.devices)


def chunk_size(count: int, most: int) -> int:
    """Return the size of chunks with the least padding in the last one.

    It is at most `most`, and more than half of it: 8 are 4 and 4 rather than 7 and 1.
    """
    most = min(count, most)
    return min(range(most, most // 2, -1), key=lambda size: -count % size)


def _size(shape: tuple[int | None, ...], image_shape: tuple[int, ...]) -> int:
    """Count the values of a layer for one image; unknown sizes are the image's."""
    unknown = sum(size is None for size in shape[:-1])
    known = math.prod(size for size in shape if size is not None)
    return known * math.prod(image_shape[:unknown])


def variants_within(
    backend: Backend, images: Array, memory: float | None, *, gradient: bool = True
) -> int:
    """Return how many variants of a batch `(N, H, W, C)` can run at a time, at least one."""
    most = images_within(backend, tuple(images.shape[1:]), memory, gradient=gradient)
    batch: int = images.shape[0]
    return max(1, most // max(1, batch))


def variants_behind(backend: Backend, name: str, images: Array, memory: float | None) -> int:
    """Return how many variants of a layer's values can run through the rest of the network.

    Raises:
        MethodError: `memory` is not a positive number.
    """
    allowed = memory_of(backend, memory)
    layers = backend.layers()
    names = [layer.name for layer in layers]
    behind = layers[names.index(name) :] if name in names else layers
    # An unknown size is taken to be the image's.
    values = sum(math.prod(n or images.shape[1] for n in layer.shape[1:]) for layer in behind)
    most = max(1, int(allowed * 1e6 // (_BYTES * values * max(1, images.shape[0]))))
    return min(most, _MOST) if backend.device.memory is None else most


def weighted_sum(
    backend: Backend,
    fn: Callable[..., Array],
    weights: Array,
    xs: tuple[Array, ...],
    most: int,
    start: Array,
) -> Array:
    r"""$\text{start} + \sum_v w_v f(x_v)$ over variants, `most` at a time.

    Args:
        backend: provides the scan.
        fn: takes one array `(m, ...)` for each of `xs` and returns `(m, *start.shape)`; its result
            must be finite for zeros, as the last chunk is padded with them.
        weights: `(V,)`.
        xs: arrays `(V, ...)`, one entry for each variant.
        most: the largest m.
        start: the initial value, usually zeros.
    """
    xp = backend.xp

    def step(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        # Flat, because a loop over arrays of seven axes crashes jaxlib 0.10.2.
        values = xp.reshape(fn(*chunk[1:]), (chunk[0].shape[0], -1))
        return total + xp.sum(chunk[0][:, None] * values, axis=0), None

    chunks = tuple(_chunked(xp, x, most) for x in (weights, *xs))
    total, _ = backend.scan(step, xp.reshape(start, (-1,)), chunks)
    return xp.reshape(total, start.shape)


def map_chunks(
    backend: Backend, fn: Callable[..., Array], xs: tuple[Array, ...], most: int
) -> Array:
    """Apply `fn` to all variants, `(V, ...)`, `most` at a time; see `weighted_sum`."""
    xp = backend.xp
    chunks = tuple(_chunked(xp, x, most) for x in xs)
    _, found = backend.scan(lambda carry, x: (carry, fn(*x)), xp.zeros((1,)), chunks)
    return xp.reshape(found, (-1, *found.shape[2:]))[: xs[0].shape[0], ...]


def map_varied(
    backend: Backend,
    fn: Callable[[Array], Array],
    x: Array,
    varies: Array,
    like: Array,
    most: int,
) -> Array:
    """Apply `fn` to all variants as `map_chunks`, but to those like zeros only once.

    A chunk in which no variant varies is not run, so these should be next to each other.

    Args:
        backend: provides the scan, and its condition.
        fn: takes `(m, N, ...)` and returns `(m, ..., N)`.
        x: `(V, N, ...)`.
        varies: whether `fn` makes something else of a variant of an image than of zeros, `(V, N)`.
        like: an array of the shape and type of the results of one variant, `(..., N)`.
        most: the largest m.
    """
    xp = backend.xp
    blank, run = xp.zeros_like(x[:1, ...]), xp.ones_like(varies[:1, ...])

    def needed(chunk: Array, runs: Array) -> Array:
        none = xp.zeros((chunk.shape[0], *like.shape), dtype=like.dtype)
        return backend.cond(xp.any(runs), fn, chunk, none)

    xs = (xp.concat([blank, x], axis=0), xp.concat([run, varies], axis=0))
    found = map_chunks(backend, needed, xs, most)
    own = xp.reshape(varies, (varies.shape[0], *(1,) * (len(like.shape) - 1), varies.shape[1]))
    return xp.where(own, found[1:, ...], found[:1, ...])


def _chunked(xp: Any, x: Array, most: int) -> Array:
    """Reshape `(V, ...)` to equal chunks `(chunks, m, ...)`; the last is padded with zeros."""
    count = x.shape[0]
    size = -(-count // -(-count // most))
    padding = xp.zeros((-count % size, *x.shape[1:]), dtype=x.dtype)
    return xp.reshape(xp.concat([x, padding], axis=0), (-1, size, *x.shape[1:]))


def flatten_batch(xp: Any, variants: Array) -> Array:
    """Reshape variants of a batch `(m, N, ...)` to one batch `(m * N, ...)`."""
    return xp.reshape(variants, (-1, *variants.shape[2:]))


def unflatten_batch(xp: Any, values: Array, count: int, trailing: int) -> Array:
    """Undo `flatten_batch` for results: `(..., m * N, *t)` becomes `(m, ..., N, *t)`.

    Args:
        xp: the namespace.
        values: of `count` variants; an axis before the batch is that of K targets.
        count: m.
        trailing: the number of axes after the batch.
    """
    axis = len(values.shape) - trailing - 1
    shape = values.shape
    whole = (*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])
    return xp.moveaxis(xp.reshape(values, whole), axis, 0)


def tile_target(backend: Backend, target: Target, count: int) -> Target:
    """Repeat a batch's target for `count` variants, in the order of `flatten_batch`."""

    def tiled(array: Array) -> Array:
        native = backend.asarray(array) if isinstance(array, np.ndarray) else array
        return backend.xp.concat([native] * count, axis=-1)

    return target.with_arrays(tuple(map(tiled, target.arrays)))


def zero_maps(xp: Any, images: Array, target: Target, outputs: Array) -> Array:
    """Return zeros to accumulate maps in: `(N, H, W, C)`, or `(K, N, H, W, C)`."""
    scores = target.scores(xp, outputs)
    return xp.zeros((*scores.shape, *images.shape[1:]), dtype=images.dtype)


def gradients_of(backend: Backend, variants: Array, target: Target) -> Array:
    """Return the gradients at variants `(m, N, H, W, C)`: that shape, or `(m, K, N, ...)`."""
    xp, count = backend.xp, variants.shape[0]
    found = backend.grad(flatten_batch(xp, variants), tile_target(backend, target, count))
    return unflatten_batch(xp, found.gradients, count, len(variants.shape) - 2)


def align_targets(gradients: Array, ways: Array) -> Array:
    """Broadcast `ways`, `(m, N, H, W, C)`, to gradients `(m, N, ...)` or `(m, K, N, ...)`."""
    return ways if len(gradients.shape) == len(ways.shape) else ways[:, None, ...]
