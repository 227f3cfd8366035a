"""Find how a model takes images: the axes, and the number of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from xaimaps.backend import ModelInfo
from xaimaps.errors import ModelLoadError, UnsupportedModelError
from xaimaps.graph import SIDES, with_size
from xaimaps_jax._functions import FunctionNetwork, FunctionSource
from xaimaps_jax._models._model import LAYOUTS, Array, Model, Params
from xaimaps_jax._program import Program

CHANNELS = (3, 1)
"""The numbers of channels to try for a model whose input shape is not given."""


def found(
    model: Model,
    input_shape: Sequence[int | None] | None,
    input_size: Sequence[int] | None,
    layout: str | None,
    output: str | None,
) -> tuple[Program, Params, ModelInfo]:
    """Return the program, parameters and description of a model.

    Args:
        model: the model.
        input_shape: `(*spatial, channels)`; None for the model's own, or to find the channels.
        input_size: the spatial size, for what `input_shape` does not say.
        layout: the axes of its images; None to find them.
        output: the output to explain; None for the first.

    Raises:
        UnsupportedModelError: the model runs in none of these ways.
    """
    input_shape = model.input_shape if input_shape is None else input_shape
    sides = SIDES[2] if input_shape is None else _sides(input_shape)
    known = [axes.replace(SIDES[2], sides) for axes in LAYOUTS]
    if layout is not None and layout not in known:
        raise ModelLoadError(f"`layout` must be one of {', '.join(known)}, got {layout!r}")
    errors = []
    for axes, shape in _ways(model, input_shape, input_size, layout):
        source = FunctionSource(batched(model, axes), output, model.root)
        network = FunctionNetwork(source, model.params, shape)
        try:
            network.usual  # noqa: B018  # traces the model
        except UnsupportedModelError as error:
            errors.append(error)
        else:
            return Program(network, source), model.params, _described(model, axes, network)
    raise errors[0]


def _ways(
    model: Model,
    input_shape: Sequence[int | None] | None,
    input_size: Sequence[int] | None,
    layout: str | None,
) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """Yield axes and shapes of images, most usual first."""
    given = [(None, None, channels) for channels in CHANNELS]
    shapes = [
        with_size(shape, input_size) for shape in (given if input_shape is None else [input_shape])
    ]
    for axes in model.layouts if layout is None else (layout,):
        yield from ((axes.replace(SIDES[2], _sides(shape)), shape) for shape in shapes)


def _sides(input_shape: Sequence[int | None]) -> str:
    """Return the spatial axes of images, volumes or signals of a shape."""
    if len(input_shape) - 1 not in SIDES:
        raise ModelLoadError(
            "`input_shape` must be (height, width, channels), (depth, height, width, channels) or "
            f"(length, channels), got {tuple(input_shape)}"
        )
    return SIDES[len(input_shape) - 1]


def batched(model: Model, axes: str) -> Callable[[Params, Array], Any]:
    """Return a model as a function of a batch of images with channels last.

    Args:
        model: a model of images with other axes, or of one image.
        axes: the axes of its images.
    """
    last = axes.replace("C", "") + "C"
    order = [last.index(axis) for axis in axes]

    def moved(params: Params, images: Array) -> Any:
        count = images.shape[:1] if axes.startswith("N") else ()
        others = {n: jnp.broadcast_to(v, count + v.shape) for n, v in model.inputs.items()}
        return model.fn(params, images if axes == last else jnp.transpose(images, order), **others)

    if axes.startswith("N"):
        return moved
    # normalisations over a batch name its axis, by convention "batch"
    return jax.vmap(moved, in_axes=(None, 0), axis_name="batch")


def _described(model: Model, axes: str, network: FunctionNetwork) -> ModelInfo:
    info = ModelInfo(model.name)
    info.notes += model.notes
    if not (axes.startswith("N") and axes.endswith("C")):
        info.notes.append(f"the model takes images as {axes}")
    network.note(info)
    return info
