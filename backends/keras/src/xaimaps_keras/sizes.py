"""The largest value of a model, which a line of a configuration can make larger than any memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from xaimaps.errors import ModelLoadError

MOST_ELEMENTS = 2**31
"""The most elements of a value for one image; TensorFlow ends the process for some larger ones."""


def require_possible_sizes(model: Any, name: str) -> None:
    """Refuse a model whose values no memory would hold.

    Raises:
        ModelLoadError: a layer's result has too many elements.
    """
    for layer, shape in _results(model):
        if math.prod(size for size in shape if size is not None) > MOST_ELEMENTS:
            raise ModelLoadError(
                f"the layer {layer!r} of {name} has a result of shape {shape}, more than "
                f"{MOST_ELEMENTS:,} elements for one image; save the model again for smaller images"
            )


def _results(model: Any) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """Yield the name and the shapes of each layer's results, if Keras knows them."""
    for layer in model._flatten_layers():
        for node in layer._inbound_nodes:
            for tensor in node.output_tensors:
                yield layer.name, tuple(tensor.shape)
