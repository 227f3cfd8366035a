"""A run of the same images through the Keras model and its graph, with all intermediate values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
"""The size of images for a model without a fixed size: small, but large enough that spatial
positions remain after five strides of 2."""


@dataclass(frozen=True)
class Probe:
    """The values of a Keras model for some images.

    Attributes:
        inputs: the values of the inputs by name, the images first.
        output: the model's output.
        layers: the value of each layer, by its path, followed by the number of the call if there
            are several.
        owners: the layer of each value.
    """

    inputs: Mapping[str, Array]
    output: Array
    layers: Mapping[str, Array]
    owners: Mapping[str, Any]


def probe_keras(subject: Subject) -> Probe:
    """Run a Keras model on random images, and random values of its other inputs."""
    inputs = probe_inputs(subject)
    with recording(subject.model) as calls:
        _, output = subject(*inputs.values())
    kept = {path: call for path, call in by_name(calls).items() if len(call.value.shape) > 1}
    return Probe(
        inputs=inputs,
        output=np.asarray(output),
        layers={path: np.asarray(call.value) for path, call in kept.items()},
        owners={path: call.layer for path, call in kept.items()},
    )


def probe_inputs(subject: Subject) -> dict[str, Array]:
    """Return values of the inputs by name; those of other inputs than the images are 0 or 1."""
    images, *others = subject.specs
    batch = probe_images(subject.image_shape)
    rng = np.random.default_rng(1)
    shapes = ((len(batch), *(size or 1 for size in one.shape[1:])) for one in others)
    values = (rng.integers(0, 2, shape) for shape in shapes)
    typed = {
        one.name: value.astype(one.dtype.as_numpy_dtype)
        for one, value in zip(others, values, strict=True)
    }
    return {images.name: batch, **typed}


def probe_images(shape: tuple[int | None, ...]) -> Array:
    """Return noise around a gradient of brightness, once from -1 to 1 and once as pixels.

    One of the two is in the range for which the model was made, and its positions differ enough to
    distinguish layers.
    """
    batch, *sides, channels = shape
    size = (2 if batch is None else batch, *(side or SIZE for side in sides), channels or 3)
    rng = np.random.default_rng(0)
    ramp = np.linspace(-0.5, 0.5, size[-2])[:, None]
    images = np.clip(ramp + 0.3 * rng.normal(size=size), -1, 1).astype(np.float32)
    images[1::2] = (images[1::2] + 1) * 127.5
    return images


def probe_onnx(
    proto: onnx.ModelProto, weights: Mapping[str, Array], inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Return all values of a graph that depend on its inputs."""
    sessions = Sessions(with_weights_as_inputs(proto), {})  # inputs are not copied
    values = sessions.run({**inputs, **weights}, _depending(proto.graph, inputs))
    return {name: value for name, value in values.items() if name not in weights}


def _depending(graph: onnx.GraphProto, inputs: Iterable[str]) -> list[str]:
    known = set(inputs)
    for node in graph.node:
        if known.intersection(node.input):
            known.update(filter(None, node.output))
    return [name for node in graph.node for name in node.output if name in known]
