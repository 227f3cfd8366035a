"""The same images through the Keras model and through its graph, with every value in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from xaimaps_onnx.runtime._sessions import Sessions

from xaimaps_tensorflow.to_onnx._fold import with_weights_as_inputs
from xaimaps_tensorflow.to_onnx._layer_outputs import by_name, recording
from xaimaps_tensorflow.to_onnx._model import Subject

Array = np.ndarray[Any, Any]

SIZE = 96
"""Of images for a model that takes any; small, but with a place left behind five strides."""


@dataclass(frozen=True)
class Probe:
    """What a Keras model makes of some images.

    Attributes:
        images: the images.
        output: its output.
        layers: the value of each layer, by path and with the number of the call if there are
            several.
        owners: these layers.
    """

    images: Array
    output: Array
    layers: Mapping[str, Array]
    owners: Mapping[str, Any]


def probe_keras(subject: Subject) -> Probe:
    """Run a Keras model as it is on random images."""
    images = probe_images(subject.image_shape)
    with recording(subject.model) as calls:
        _, output = subject(images)
    kept = {path: call for path, call in by_name(calls).items() if len(call.value.shape) > 1}
    return Probe(
        images=images,
        output=np.asarray(output),
        layers={path: np.asarray(call.value) for path, call in kept.items()},
        owners={path: call.layer for path, call in kept.items()},
    )


def probe_images(shape: tuple[int | None, ...]) -> Array:
    """Noise around a gradient: as numbers from -1 to 1, and as pixels.

    One of the two is what the model was made for, and differs from place to place enough to tell
    layers from each other.
    """
    batch, height, width, channels = shape
    size = (2 if batch is None else batch, height or SIZE, width or SIZE, channels or 3)
    rng = np.random.default_rng(0)
    ramp = np.linspace(-0.5, 0.5, size[2])[:, None]
    images = np.clip(ramp + 0.3 * rng.normal(size=size), -1, 1).astype(np.float32)
    images[1::2] = (images[1::2] + 1) * 127.5
    return images


def probe_onnx(
    proto: onnx.ModelProto, weights: Mapping[str, Array], images: Array
) -> dict[str, Array]:
    """All values of a graph that depend on the images."""
    source = proto.graph.input[0].name
    sessions = Sessions(with_weights_as_inputs(proto), {})  # which copies no input
    values = sessions.run({source: images, **weights}, _depending(proto.graph, source))
    return {name: value for name, value in values.items() if name not in weights}


def _depending(graph: onnx.GraphProto, source: str) -> list[str]:
    known = {source}
    for node in graph.node:
        if known.intersection(node.input):
            known.update(filter(None, node.output))
    return [name for node in graph.node for name in node.output if name in known]
