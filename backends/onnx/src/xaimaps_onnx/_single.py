"""Files of several inputs, or of one image, as files of one batch of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxjax.read import Source

from xaimaps_onnx._inputs import own_inputs, sizes_of, with_inputs, with_vector

COLOURS = 3
BATCH = "/batch"
"""The end of the name of an input that has got a batch axis."""

WITHOUT_BATCH = ("CHW", "HWC")
"""The layouts of one image."""


def with_images(
    source: Source, inputs: Mapping[str, Any] | None, layout: str | None
) -> tuple[Source, str | None]:
    """Return a model, in place, with the explained input alone, as a batch, and its layout.

    Args:
        source: the model.
        inputs: the values of its other inputs. Only a model that has some is explained by a
            vector; a flat input alone is one of pixels.
        layout: the user's choice.
    """
    single = with_inputs(source, inputs)
    return with_batch(*(with_vector(single, layout) if inputs else (single, layout)))


def with_batch(source: Source, layout: str | None) -> tuple[Source, str | None]:
    """Give the images a batch axis of size 1, in place, if the file declares one image.

    An input `(3, H, W)` or `(H, W, 3)` is one image, and not a batch of signals; a layout such as
    NCL says that it is.

    Args:
        source: the model.
        layout: the user's choice, which may be CHW or HWC.

    Returns:
        The model, and the layout with a batch axis, if there is one.
    """
    inputs = list(own_inputs(source.proto.graph).values())
    if len(inputs) != 1 or not (layout in WITHOUT_BATCH or layout is None):
        return source, layout
    sizes = sizes_of(inputs[0])
    found = layout or _layout(sizes)
    if len(sizes) != len(WITHOUT_BATCH[0]) or found is None:
        return source, layout
    _add_axis(source.proto.graph, inputs[0], sizes)
    return source, f"N{found}"


def _layout(sizes: tuple[int | None, ...]) -> str | None:
    """Return the layout of one colour image; no batch of signals has three of them."""
    if len(sizes) != len(WITHOUT_BATCH[0]):
        return None
    if sizes[0] == COLOURS:
        return "CHW"
    return "HWC" if sizes[-1] == COLOURS and (sizes[0] or 1) > 1 else None


def _add_axis(
    graph: onnx.GraphProto, images: onnx.ValueInfoProto, sizes: tuple[int | None, ...]
) -> None:
    """Add an input of a batch of one, and a node that takes its image."""
    name, kind = images.name, images.type.tensor_type.elem_type
    batch, first = f"{name}{BATCH}", f"{name}/first"
    graph.input.remove(images)
    graph.input.insert(0, helper.make_tensor_value_info(batch, kind, [1, *sizes]))
    graph.initializer.append(numpy_helper.from_array(np.array(0), first))
    graph.node.insert(0, helper.make_node("Gather", [batch, first], [name], axis=0))
