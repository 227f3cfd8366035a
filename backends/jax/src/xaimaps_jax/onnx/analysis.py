"""Reading a graph as a classifier: layouts, useful layers, logits, and the pooling head."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from xaimaps.backend import Layer
from xaimaps.errors import LayerError, UnsupportedModelError
from xaimaps_jax.onnx.graph import Node
from xaimaps_jax.onnx.model import OnnxModel, Params, Value

VIEWS = frozenset({"Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators that hand their first input on, in another shape at most."""

PLANAR = frozenset(
    "Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool BatchNormalization "
    "InstanceNormalization GroupNormalization LRN DepthToSpace SpaceToDepth QLinearConv "
    "FusedConv DeformConv".split()
)
"""Operators whose result is (batch, channels, rows, columns), whatever came before."""

PROBE_BATCH = 2
PROBE_SIZES = (224, 256)


@dataclass(frozen=True)
class Shaped:
    """What is known of a value that depends on the images.

    Attributes:
        shape: as the graph has it, None where it follows the image's size.
        layout: which axis is which, such as "NCHW".
    """

    shape: tuple[int | None, ...]
    layout: str

    @property
    def to_channels_last(self) -> tuple[int, ...]:
        """The permutation that makes it (batch, *spatial, channels)."""
        spatial = [axis for axis in self.layout if axis not in "NC"]
        return tuple(self.layout.index(axis) for axis in ["N", *sorted(spatial), "C"])


def image_layout(value: Value) -> str:
    """Whether an image input is NCHW or NHWC, by where it has its one or three channels.

    Raises:
        UnsupportedModelError: it is not a batch of images of floats.
    """
    shape = value.shape or ()
    if len(shape) != 4 or value.dtype.kind != "f":
        raise UnsupportedModelError(
            f"the model's input {value.name!r} must be a batch of images of floats with four axes, "
            f"got shape {value.shape} of {value.dtype}"
        )
    return "NHWC" if shape[1] not in (1, 3) and shape[3] in (1, 3) else "NCHW"


class Analysis:
    """What the graph of an image model says about itself.

    Args:
        model: a model with one image input.
        output: the name of the output to explain; None for the first.
    """

    def __init__(self, model: OnnxModel, output: str | None = None) -> None:
        self.model = model
        self.input = _single_input(model)
        self.input_layout = image_layout(self.input)
        self.output = _chosen_output(model, output)
        self.nodes = model.graph.needed_for([self.output])

    @functools.cached_property
    def activation(self) -> Node | None:
        """The softmax or sigmoid that the model ends in."""
        node = self.model.graph.producers.get(self._behind_views(self.output))
        ends = node is not None and node.operator in ("Softmax", "LogSoftmax", "Sigmoid")
        return node if ends else None

    @functools.cached_property
    def shapes(self) -> dict[str, Shaped]:
        """Every value that has the batch as its first axis, with its layout where it is known."""
        small, large = (self._probe(size) for size in PROBE_SIZES)
        layouts = self._layouts({name: len(shape) for name, shape in small.items()})
        return {
            name: Shaped(_merge(shape, large.get(name, shape)), layouts[name])
            for name, shape in small.items()
            if name in layouts and shape[0] == self.probe_batch
        }

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file insists on."""
        return (self.input.shape or (None,))[0]

    @property
    def probe_batch(self) -> int:
        """A batch size that the graph accepts."""
        return self.fixed_batch or PROBE_BATCH

    def _probe(self, size: int) -> dict[str, tuple[int, ...]]:
        """The shape of every value for images of that size, without computing any."""
        sizes = {"N": self.probe_batch, "C": 3, "H": size, "W": size}
        declared = self.input.shape or ()
        shape = [d or sizes[axis] for d, axis in zip(declared, self.input_layout, strict=True)]
        shape[0] = self.probe_batch
        found: dict[str, tuple[int, ...]] = {}

        def trace(params: Params, images: Any) -> None:
            known = self.model.graph.run({**params, self.input.name: images}, [self.output])
            for name, value in known.items():
                floating = isinstance(value, jax.core.Tracer) and jnp.issubdtype(
                    value.dtype, jnp.floating
                )
                if floating and value.ndim and name not in params:
                    found[name] = value.shape

        jax.eval_shape(
            trace, self.model.params, jax.ShapeDtypeStruct(tuple(shape), self.input.dtype)
        )
        return found

    def _layouts(self, ranks: dict[str, int]) -> dict[str, str]:
        """Follow the layout of the input through the graph; matrices are (batch, channels)."""
        layouts = {self.input.name: self.input_layout}
        for node in self.nodes:
            rank = ranks.get(node.outputs[0], 0)
            layout = "NC" if rank == 2 else _planar_layout(node, rank, layouts)
            if layout is not None:
                layouts[node.outputs[0]] = layout
        return layouts

    def layers(self) -> tuple[Layer, ...]:
        """The values worth naming to a user, in order: no views, no arithmetic on shapes."""
        return tuple(
            self._layer(node)
            for node in self.nodes
            if node.outputs[0] in self.shapes and not _is_view(node)
        )

    def _layer(self, node: Node) -> Layer:
        value = self.shapes[node.outputs[0]]
        shape = tuple(value.shape[axis] for axis in value.to_channels_last)
        return Layer(
            name=node.outputs[0],
            shape=(None, *shape[1:]),
            operator=node.operator,
            aliases=tuple({node.name} - {node.outputs[0]}),
        )

    def default_layer(self) -> Layer:
        """The last layer with more than one place.

        Raises:
            LayerError: no layer has.
        """
        spatial = [layer for layer in self.layers() if layer.is_spatial]
        if not spatial:
            raise LayerError("no layer of this model has a spatial extent; use a gradient method")
        return spatial[-1]

    def head(self) -> tuple[str, str, bool]:
        """The pooled layer, the dense weights, and whether these are (classes, channels).

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
        """
        dense = self._dense()
        pool = self.model.graph.producers.get(self._behind_views(dense.inputs[0]))
        if pool is None or not self._pools_globally(pool):
            raise LayerError(
                _no_head(f"{dense.operator} {dense.name!r} does not follow the pooling")
            )
        pooled = self._behind_views(pool.inputs[0], VIEWS | {"Transpose"})
        return pooled, dense.inputs[1], bool(dense.attributes.get("transB", 0))

    def _dense(self) -> Node:
        """The dense layer that makes the logits."""
        start = self.activation.inputs[0] if self.activation else self.output
        for node in self._back_from(start):
            if node.operator in ("Gemm", "MatMul") and node.inputs[1] in self.model.params:
                return node
            if node.operator not in VIEWS | {"Add"}:
                raise LayerError(_no_head(f"the logits come from {node.operator} {node.name!r}"))
        raise LayerError(_no_head("the logits are the input"))

    def _back_from(self, name: str) -> Iterator[Node]:
        """The producers of a value, of its data input, and so on."""
        while node := self.model.graph.producers.get(name):
            yield node
            name = next(i for i in node.inputs if i not in self.model.params)

    def _behind_views(self, name: str, views: frozenset[str] = VIEWS) -> str:
        while (node := self.model.graph.producers.get(name)) and node.operator in views:
            name = node.inputs[0]
        return name

    def _pools_globally(self, node: Node) -> bool:
        before = self.shapes.get(node.inputs[0])
        if before is None or len(before.layout) != 4:
            return False
        if node.operator == "ReduceMean":
            return _reduced_axes(self.model, node) == {before.layout.index(a) for a in "HW"}
        after = self.shapes.get(node.outputs[0])
        flat = after is not None and after.shape[2:] == (1, 1)
        return node.operator == "GlobalAveragePool" or (node.operator == "AveragePool" and flat)


def _single_input(model: OnnxModel) -> Value:
    if len(model.inputs) != 1:
        raise UnsupportedModelError(
            f"an image model must have one input, got {len(model.inputs)}: "
            f"{', '.join(value.name for value in model.inputs)}"
        )
    return model.inputs[0]


def _chosen_output(model: OnnxModel, output: str | None) -> str:
    names = [value.name for value in model.outputs]
    if output is None:
        return names[0]
    if output not in names:
        raise UnsupportedModelError(f"`output` must be one of {', '.join(names)}, got {output!r}")
    return output


def _merge(small: tuple[int, ...], large: tuple[int, ...]) -> tuple[int | None, ...]:
    """A size that differs between two image sizes is one that varies."""
    return tuple(a if a == b else None for a, b in zip(small, large, strict=True))


def _planar_layout(node: Node, rank: int, layouts: dict[str, str]) -> str | None:
    if rank != 4:
        return None
    if node.operator in PLANAR:
        return "NCHW"
    known = [layouts[name] for name in node.inputs if len(layouts.get(name, "")) == 4]
    if not known or node.operator == "Reshape":
        return None
    if node.operator == "Transpose":
        return "".join(known[0][axis] for axis in node.attributes["perm"])
    return known[0]


def _is_view(node: Node) -> bool:
    return node.operator in VIEWS | {"Transpose", "Pad"}


def _reduced_axes(model: OnnxModel, node: Node) -> set[int]:
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1:
        axes = model.graph.constants.get(node.inputs[1])
    return {int(axis) % 4 for axis in axes} if axes is not None else set()


def _no_head(found: str) -> str:
    return (
        "CAM needs a model that ends in global average pooling and one dense layer, but here "
        f"{found}; use grad_cam"
    )
