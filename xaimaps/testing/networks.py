"""Chains of a few layers in numpy, each with its derivative.

Values have channels last. A network defines its weights once. A backend under test builds a
native copy with the same weights, and both must give the same maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Operation(Protocol):
    """One layer of a chain."""

    def __call__(self, x: Array) -> Array:
        """Return the layer's value for a batch."""

    def pull(self, x: Array, g: Array) -> Array:
        """Return the gradient by `x`, given the gradient by the layer's value."""


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation without padding, stride 1; `kernel` is (*spatial, in, out)."""

    kernel: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        sizes = self.kernel.shape[:-2]
        axes = tuple(range(1, x.ndim - 1))
        windows = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=axes)
        kernel = np.moveaxis(self.kernel, -2, 0)
        result: Array = np.tensordot(windows, kernel, len(sizes) + 1) + self.bias
        return result

    def pull(self, x: Array, g: Array) -> Array:
        result = np.zeros_like(x)
        for place in np.ndindex(self.kernel.shape[:-2]):
            pairs = zip(place, g.shape[1:-1], strict=True)
            part = result[(slice(None), *(slice(i, i + size) for i, size in pairs))]
            part += g @ self.kernel[place].T
        return result


class ReLU:
    """max(x, 0), with slope 0 at 0."""

    def __call__(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def pull(self, x: Array, g: Array) -> Array:
        return np.where(x > 0, g, 0)


class GlobalAveragePool:
    """The mean over all spatial positions: (N, *spatial, C) to (N, C)."""

    def __call__(self, x: Array) -> Array:
        result: Array = x.mean(axis=tuple(range(1, x.ndim - 1)))
        return result

    def pull(self, x: Array, g: Array) -> Array:
        places = x[0, ..., 0].size
        return np.broadcast_to(np.expand_dims(g / places, tuple(range(1, x.ndim - 1))), x.shape)


class Flatten:
    """(N, H, W, C) to vectors in the order channel, row, column, as in an NCHW framework."""

    def __call__(self, x: Array) -> Array:
        return np.moveaxis(x, -1, 1).reshape(len(x), -1)

    def pull(self, x: Array, g: Array) -> Array:
        n, h, w, c = x.shape
        return np.moveaxis(g.reshape(n, c, h, w), 1, -1)


class Cells:
    """(N, H, W, C) to a row for each spatial position, (N, H * W, C), as of a detector."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __call__(self, x: Array) -> Array:
        return x.reshape(len(x), -1, self.channels)

    def pull(self, x: Array, g: Array) -> Array:
        return g.reshape(x.shape)


@dataclass(frozen=True, eq=False)
class Dense:
    """x @ weights + bias; `weights` is (in, out)."""

    weights: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        result: Array = x @ self.weights + self.bias
        return result

    def pull(self, x: Array, g: Array) -> Array:
        result: Array = g @ self.weights.T
        return result


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of named layers.

    Attributes:
        layers: the operations by name, in order.
        input_shape: `(*spatial, C)`.
    """

    layers: dict[str, Operation]
    input_shape: tuple[int, ...]

    def values(self, images: Array) -> dict[str, Array]:
        """Return every layer's value, by name."""
        found = {}
        for name, layer in self.layers.items():
            images = found[name] = layer(images)
        return found


def one_conv_network() -> Network:
    """Return Captum's network with one convolution, whose maps are computed by hand.

    A 3 x 3 convolution of ones from 1 to 2 channels with biases -50 and -75, ReLU, flatten, a
    dense layer whose rows are five ones and three minus ones, ReLU. Its Grad-CAM for class 0
    on 0..15 as 4 x 4 is [[11.25, 13.5], [20.25, 22.5]] at the convolution.
    """
    row = np.array([1.0] * 5 + [-1.0] * 3, np.float32)
    return Network(
        {
            "conv": Conv(np.ones((3, 3, 1, 2), np.float32), np.array([-50, -75], np.float32)),
            "relu1": ReLU(),
            "flatten": Flatten(),
            "fc": Dense(np.stack([row] * 4, axis=1), np.zeros(4, np.float32)),
            "relu2": ReLU(),
        },
        (4, 4, 1),
    )


def pooled_network(
    seed: int = 0, *, size: int = 9, channels: int = 6, classes: int = 5, rank: int = 2
) -> Network:
    """Return a network that CAM applies to: two convolutions, pooling, a dense layer.

    Args:
        seed: of the weights.
        size: the size of the images on each spatial axis.
        channels: the number of channels of the layers.
        classes: the number of classes.
        rank: the number of spatial axes.
    """
    draw = np.random.default_rng(seed).normal

    def weights(*shape: int) -> Array:
        return draw(size=shape, scale=np.prod(shape[:-1]) ** -0.5).astype(np.float32)

    return Network(
        {
            "conv1": Conv(weights(*(3,) * rank, 3, channels), weights(1, channels)[0]),
            "relu1": ReLU(),
            "conv2": Conv(weights(*(3,) * rank, channels, channels), weights(1, channels)[0]),
            "relu2": ReLU(),
            "pool": GlobalAveragePool(),
            "fc": Dense(weights(channels, classes), weights(1, classes)[0]),
        },
        (*(size,) * rank, 3),
    )


def detector_network(seed: int = 0, *, size: int = 9, classes: int = 2) -> Network:
    """Return a detector as YOLOv5: a box, an objectness and classes, as logits, at each position.

    Args:
        seed: of the weights.
        size: the size of the images on each spatial axis.
        classes: the number of classes.
    """
    draw = np.random.default_rng(seed).normal
    kernel = draw(size=(3, 3, 3, 5 + classes), scale=0.2)
    bias = np.array([size / 2, size / 2, size / 2, size / 2, *[0.0] * (1 + classes)])
    layers: dict[str, Operation] = {
        "boxes": Conv(kernel.astype(np.float32), bias.astype(np.float32)),
        "rows": Cells(5 + classes),
    }
    return Network(layers, (size, size, 3))
