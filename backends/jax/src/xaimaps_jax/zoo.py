"""The embedded network as a Flax module, with the weights of the embedded ONNX file.

Its layers have the names that they have in the file, so that each framework's maps can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import onnx
from flax import linen
from onnx import numpy_helper

from xaimaps import zoo

Array = Any


class Stage(NamedTuple):
    """Blocks of one width.

    Attributes:
        kernel: the size of the depthwise kernels.
        stride: the stride of the first block.
        expansion: the factor by which each block widens its input.
        channels: the number of channels of the results.
        blocks: the number of blocks.
    """

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)

SUFFIXES = {
    "scale": ("params", "scale"),
    "bias": ("params", "bias"),
    "mean": ("batch_stats", "mean"),
    "var": ("batch_stats", "var"),
    "weight": ("params", "kernel"),
}
"""The collection and the name in Flax of each kind of weight in the file."""


class ReLU6(linen.Module):
    """A rectifier that is a layer."""

    @linen.compact
    def __call__(self, x: Array) -> Array:
        return jax.nn.relu6(x)


class Block(linen.Module):
    """An inverted residual: expand, filter each channel, project.

    Attributes:
        stage: the stage that it is a part of.
        stride: the stride of the depthwise convolution.
    """

    stage: Stage
    stride: int

    @linen.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        x, width = images, images.shape[-1] * self.stage.expansion
        if self.stage.expansion > 1:
            x = _convolved(x, "expand", width, 1, train=train)
            x = ReLU6(name="expand_relu6")(x)
        size, groups = self.stage.kernel, width
        x = _convolved(x, "depthwise", width, size, self.stride, groups, train=train)
        x = ReLU6(name="depthwise_relu6")(x)
        x = _convolved(x, "project", self.stage.channels, 1, train=train)
        is_residual = self.stride == 1 and images.shape[-1] == self.stage.channels
        return x + images if is_residual else x


class Ends(linen.Module):
    """The convolution before the first block, or behind the last."""

    channels: int
    kernel: int
    stride: int

    @linen.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = _convolved(x, "conv", self.channels, self.kernel, self.stride, norm="bn", train=train)
        return ReLU6(name="relu6")(x)


class EfficientNetLite0(linen.Module):
    """EfficientNet-Lite0 over images `(N, 224, 224, 3)`; its outputs are logits `(N, 1000)`."""

    @linen.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        x = Ends(32, 3, 2, name="stem")(images, train)
        for number, stage in enumerate(STAGES):
            for index in range(stage.blocks):
                stride = 1 if index else stage.stride
                x = Block(stage, stride, name=f"blocks.{number}.{index}")(x, train)
        x = Ends(1280, 1, 1, name="head")(x, train)
        return linen.Dense(1000, name="classifier")(x.mean((1, 2)))


def _convolved(
    x: Array,
    name: str,
    channels: int,
    size: int,
    stride: int = 1,
    groups: int = 1,
    *,
    norm: str | None = None,
    train: bool,
) -> Array:
    """Add a convolution and its normalisation to the module that is called."""
    conv = linen.Conv(
        channels,
        (size, size),
        (stride, stride),
        feature_group_count=groups,
        use_bias=False,
        name=name,
    )
    norm = norm or f"{name}_bn"
    return linen.BatchNorm(use_running_average=not train, epsilon=1e-3, name=norm)(conv(x))


def flax_model() -> tuple[EfficientNetLite0, Mapping[str, Any]]:
    """Return the embedded network as a Flax module, and its variables.

    Example:
        >>> import xaimaps
        >>> from xaimaps_jax.zoo import flax_model
        >>> options = {"labels": "imagenet-1k", "preprocess": "tf", "input_shape": (224, 224, 3)}
        >>> model = xaimaps.load(*flax_model(), **options)
        >>> model.default_layer().name
        'head'
    """
    proto = onnx.load_model(str(zoo.MODELS["default"]))
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for tensor in proto.graph.initializer:
        *path, suffix = tensor.name.split("/")
        if suffix in SUFFIXES:
            collection, name = SUFFIXES[suffix]
            place = variables[collection]
            for part in path:
                place = place.setdefault(part, {})
            place[name] = _in_order(numpy_helper.to_array(tensor))
    return EfficientNetLite0(), variables


def _in_order(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return weights in Flax's order: kernels as HWIO, and dense weights as `(ins, outs)`."""
    orders = {4: (2, 3, 1, 0), 2: (1, 0)}
    return weights.transpose(orders.get(weights.ndim, (0,)))
