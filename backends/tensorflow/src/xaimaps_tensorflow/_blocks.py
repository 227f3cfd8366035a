"""The blocks of a transformer in a traced graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xaimaps.backend import Blocks
from xaimaps_tensorflow._graph import again, depending_on, described, needed_for

Tensor = Any


def blocks(images: Tensor, output: Tensor, outputs: Tensor) -> Blocks:
    """Return the blocks of a network; see `Backend.blocks`.

    Args:
        images: the images on which the model ran.
        output: the output to explain.
        outputs: the scores that are made of it.
    """
    graph, needed = output.graph, needed_for([output])
    operations = [one for one in graph.get_operations() if one in needed]
    attention = described(operations, images, output).attention
    weights, streams = (
        [graph.get_tensor_by_name(name) for name in names]
        for names in (attention.weights, attention.streams)
    )

    def flat(value: Tensor) -> Tensor:
        return tf.cast(tf.reshape(value, (images.shape[0], -1)), images.dtype)

    def pull(end: int | None, seeds: Tensor, starts: tuple[int, ...]) -> tuple[Tensor, ...]:
        last = outputs if end is None else streams[end]
        seeds = tf.cast(tf.reshape(seeds, last.shape), last.dtype)
        found = tf.gradients(last, [weights[start] for start in starts], seeds)
        pairs = zip(found, starts, strict=True)
        return tuple(
            tf.zeros_like(flat(weights[start])) if one is None else flat(one)
            for one, start in pairs
        )

    def resume(value: Tensor) -> Tensor:
        return _resumed(streams[-1], value, outputs)

    matrices, tokens = tuple(map(flat, weights)), tuple(map(flat, streams))
    return Blocks(attention, outputs, matrices, tokens, pull, resume)


def _resumed(start: Tensor, value: Tensor, outputs: Tensor) -> Tensor:
    """Return the outputs for another value of a tensor that they depend on."""
    needed = needed_for([outputs]) & depending_on([start])
    known = {start.ref(): tf.cast(tf.reshape(value, start.shape), start.dtype)}
    for operation in [one for one in start.graph.get_operations() if one in needed]:
        results = again(operation, [known.get(x.ref(), x) for x in operation.inputs])
        several = results if len(operation.outputs) > 1 else [results]
        known.update((x.ref(), y) for x, y in zip(operation.outputs, several, strict=True))
    return known[outputs.ref()]
