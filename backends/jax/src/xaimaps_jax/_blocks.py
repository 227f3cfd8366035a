"""The blocks of a transformer, whose attention matrices can be read and differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from onnxjax.graph import Graph, Step, Values
from onnxjax.hooks import tapping

from xaimaps.backend import Array, Blocks
from xaimaps_jax._program import Program, without

Run = tuple[Graph, Step, Values]
"""The nodes, the step that runs one of them, and all values."""


def blocks(program: Program, params: Any, images: Array) -> Blocks:
    """Return the blocks of a network; see `Backend.blocks`."""
    run = _BlockRun(program, params, images)
    outputs, weights, streams = program.per_image(run.values)(images)
    return Blocks(run.attention, outputs, tuple(weights), tuple(streams), run.pull, run.resume)


class _BlockRun:
    """A network on a batch of images; a graph of one image runs again in each call, mapped."""

    def __init__(self, program: Program, params: Any, images: Array) -> None:
        self.attention = program.description(images).attention
        self._program, self._params, self._images = program, params, images
        self._shared = None if program.source.fixed_batch == 1 else self._run(images)

    def _run(self, images: Array) -> Run:
        program, names = self._program, (*self.attention.weights, *self.attention.streams)
        graph = program.graph(self._params, images, names, ())
        step = program.step(images, graph)
        values = program.source.values(self._params, images)
        return graph, step, graph.run(values, [*graph.outputs, *names], step)

    def values(self, images: Array) -> tuple[Array, list[Array], list[Array]]:
        """Return the outputs, the attention matrices and the residual streams."""
        graph, _, known = self._shared or self._run(images)
        weights, streams = (
            [self._program.flat(name, known[name], images).astype(images.dtype) for name in names]
            for names in (self.attention.weights, self.attention.streams)
        )
        return self._outputs(known, graph, images), weights, streams

    def _outputs(self, known: Values, graph: Graph, images: Array) -> Array:
        return self._program.source.outputs(known, graph).astype(images.dtype)

    def pull(self, end: int | None, seeds: Array, starts: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients by attention matrices; see `Blocks.pull`."""
        names = [self.attention.weights[start] for start in starts]
        stream = None if end is None else self.attention.streams[end]

        def pulled(images: Array, seeds: Array) -> list[Array]:
            return self._pulled(images, seeds, stream, names)

        found = self._program.per_image(pulled)(self._images, seeds)
        return tuple(one.astype(self._images.dtype) for one in found)

    def _pulled(
        self, images: Array, seeds: Array, stream: str | None, names: Sequence[str]
    ) -> list[Array]:
        program, (graph, step, known) = self._program, self._shared or self._run(images)
        before = without(graph, known, names)

        def after(taps: list[Array]) -> Array:
            shaped = (
                program.shaped(name, tap, images, known[name].shape)
                for name, tap in zip(names, taps, strict=True)
            )
            tapped = tapping(dict(zip(names, shaped, strict=True)), step)
            found = graph.run(before, graph.outputs if stream is None else [stream], tapped)
            if stream is None:
                return self._outputs(found, graph, images)
            return program.flat(stream, found[stream], images)

        zeros = [jnp.zeros_like(program.flat(name, known[name], images)) for name in names]
        value, back = jax.vjp(after, zeros)
        (gradients,) = back(seeds.astype(value.dtype))
        return list(gradients)

    def resume(self, value: Array) -> Array:
        """Return the outputs for another value of the last stream."""
        result: Array = self._program.per_image(self._resumed)(self._images, value)
        return result

    def _resumed(self, images: Array, value: Array) -> Array:
        graph, step, known = self._shared or self._run(images)
        name = self.attention.streams[-1]
        value = value.astype(known[name].dtype)
        shaped = self._program.shaped(name, value, images, known[name].shape)
        cut = {**without(graph, known, [name]), name: shaped}
        return self._outputs(graph.run(cut, graph.outputs, step), graph, images)
