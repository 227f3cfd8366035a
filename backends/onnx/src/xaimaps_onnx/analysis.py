"""Reading a graph as a classifier: layouts, useful layers, logits, and the pooling head."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from onnxjax._model import OnnxModel, Params, Value
from onnxjax._passes.inline_if import likely, written_out
from onnxjax.graph import Graph, Node

from xaimaps.backend import Layer
from xaimaps.errors import LayerError, UnsupportedModelError
from xaimaps_onnx._aliases import aliases
from xaimaps_onnx._axes import Axes, Shape, axis_of
from xaimaps_onnx._axis_rules import read_axes
from xaimaps_onnx._heads import VIEWS, Head, HeadFinder, last_activation
from xaimaps_onnx._tokens import ALL, token_demands
from xaimaps_onnx.errors import onnxjax_errors
from xaimaps_onnx.layouts import Layout, layout_of

Shapes = dict[str, Shape]
Statics = dict[str, np.ndarray[Any, Any]]

PROBE_BATCH = 2
PROBE_SIZES = (224, 256)

UNLISTED = VIEWS | frozenset({"Transpose", "Pad", "Slice", "Split", "Gather", "QuantizeLinear"})
"""Operators whose results say nothing new."""

ARITHMETIC = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Neg", "Exp", "Erf", "Abs"),
        *("Log", "Expand", "ReduceMean"),
    )
)
"""Operators that are a layer only where they join two values, or end a layer that has a name."""


@dataclass(frozen=True)
class Probe:
    """One trace of the graph, for images of one size.

    Attributes:
        shapes: of the values of floats that depend on the images, and of the weights.
        statics: the values that do not, in numpy.
        axes: what each axis of a value means.
        layouts: how those values are shown that can be.
    """

    shapes: Shapes
    statics: Statics
    axes: dict[str, Axes]
    layouts: dict[str, Layout]

    def shown(self, name: str) -> tuple[int, ...]:
        """The shape of a value with channels last."""
        return self.layouts[name].shape(self.shapes[name])


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
        self.activation, self.bypassed = last_activation(model.graph, self.output)
        self._probes: dict[tuple[int, int], Probe] = {}

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file insists on."""
        return (self.input.shape or (None,))[0]

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """`(height, width, channels)` of an image, None where any size will do."""
        sizes = dict(zip(self.input_layout, self.input.shape or (), strict=True))
        return sizes["H"], sizes["W"], sizes["C"]

    def to_graph(self, images: Any) -> Any:
        """Images `(N, H, W, C)` as the graph takes them."""
        return images.transpose(["NHWC".index(axis) for axis in self.input_layout])

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Every value that can be shown, with its shape then; None where a size varies."""
        small, large = (self.probe(*self._image_size(size)) for size in PROBE_SIZES)
        return {
            name: (None, *_merge(small.shown(name)[1:], large.shown(name)[1:]))
            for name in small.layouts
            if name in large.layouts
        }

    def _image_size(self, size: int) -> tuple[int, int]:
        declared = dict(zip(self.input_layout, self.input.shape or (), strict=True))
        return declared["H"] or size, declared["W"] or size

    def layout(self, name: str, height: int, width: int) -> Layout | None:
        """How a value is shown for images of that size."""
        return self.probe(height, width).layouts.get(name)

    def probe(self, height: int, width: int) -> Probe:
        """Trace the graph for images of that size, without computing anything."""
        if (height, width) not in self._probes:
            self._probes[height, width] = self._traced(height, width)
        return self._probes[height, width]

    @property
    def _usual(self) -> Probe:
        return self.probe(*self._image_size(PROBE_SIZES[0]))

    def _traced(self, height: int, width: int) -> Probe:
        sizes = {"N": self.fixed_batch or PROBE_BATCH, "C": 3, "H": height, "W": width}
        declared = self.input.shape or ()
        pairs = zip(self.input_layout, declared, strict=True)
        given = [(axis, sizes[axis] if axis in "HW" else d or sizes[axis]) for axis, d in pairs]
        nodes, shapes, statics = self._looked_into(tuple(size for _, size in given))
        start = {self.input.name: tuple(axis_of(axis, size) for axis, size in given)}
        axes = read_axes(nodes, start, shapes, statics)
        del axes[self.input.name]
        layouts = {
            name: layout
            for name, a in axes.items()
            if name in self.model.graph.producers and (layout := layout_of(a))
        }
        return Probe(shapes, statics, axes, layouts)

    def _looked_into(self, shape: Shape) -> tuple[tuple[Node, ...], Shapes, Statics]:
        """The nodes with those of branches among them, and what is known of their values."""
        graph = self.model.graph
        shapes, statics = self._run_abstractly(graph, shape)
        if any(node.operator == "If" for node in self.nodes):
            graph = written_out(graph, likely, statics)
            shapes, statics = self._run_abstractly(graph, shape)
        return graph.needed_for([self.output]), shapes, statics

    @onnxjax_errors()
    def _run_abstractly(self, graph: Graph, shape: Shape) -> tuple[Shapes, Statics]:
        """The shapes of the floats for images of that shape, and the values that are static."""
        shapes: Shapes = {}
        statics: Statics = {}

        def trace(params: Params, images: Any) -> None:
            known = graph.run({**params, self.input.name: images}, [self.output])
            for name, value in known.items():
                if isinstance(value, np.ndarray):
                    statics[name] = value
                elif jnp.issubdtype(value.dtype, jnp.floating):
                    shapes[name] = value.shape

        jax.eval_shape(trace, self.model.params, jax.ShapeDtypeStruct(shape, self.input.dtype))
        return shapes, statics

    def layers(self) -> tuple[Layer, ...]:
        """The values worth naming to a user, in order: no views, no arithmetic on the way."""
        default = self._default
        return tuple(
            self._layer(node.outputs[0])
            for node in self.nodes
            if node.outputs[0] in self.shapes
            and (self._is_listed(node) or node.outputs[0] == default)
        )

    def _is_listed(self, node: Node) -> bool:
        if node.operator in UNLISTED:
            return False
        joins = sum(name in self._usual.axes for name in node.inputs) > 1
        known_as = set(self._aliases.get(node.outputs[0], ())) - {node.name}
        return node.operator not in ARITHMETIC or joins or bool(known_as)

    @functools.cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        return aliases(self.nodes, self._usual.axes, self.shapes, self.model.metadata)

    def _layer(self, name: str) -> Layer:
        return Layer(
            name=name,
            shape=self.shapes[name],
            operator=self.model.graph.producers[name].operator,
            aliases=self._aliases.get(name, ()),
        )

    def unlisted(self, name: str) -> Layer | None:
        """A layer that `layers` leaves out, by the value's own name or an alias."""
        if name in self.shapes:
            return self._layer(name)
        known = [value for value, names in self._aliases.items() if name in names]
        return self._layer(known[0]) if len(known) == 1 else None

    def default_layer(self) -> Layer:
        """The last layer with more than one place that the output depends on.

        Raises:
            LayerError: no layer has.
        """
        if self._default is None:
            raise LayerError("no layer of this model has a spatial extent; use a gradient method")
        return self._layer(self._default)

    @functools.cached_property
    def _default(self) -> str | None:
        candidates = [
            node.outputs[0]
            for node in self.nodes
            if node.outputs[0] in self.shapes
            and node.operator not in UNLISTED
            and self._layer(node.outputs[0]).is_spatial
        ]
        return self._last_read(candidates) if candidates else None

    def _last_read(self, candidates: list[str]) -> str:
        """The last candidate whose places are still read.

        Behind the last attention, a transformer that ends in a class token reads that token
        alone, and the gradient at all others is zero. What is right before is read both as
        that token and as a whole, by the queries and by the keys of the attention.
        """
        probe = self._usual
        demands = token_demands(self.nodes, self.output, probe.axes, probe.statics)
        whole = [name for name in candidates if ALL in demands.get(name, ())]
        if len(whole) == len(candidates) or not whole:
            return candidates[-1]
        width = self.shapes[candidates[-1]][-1]
        both = [name for name in whole if len(demands[name]) > 1 and self.shapes[name][-1] == width]
        return both[-1] if both else whole[-1]

    def head(self) -> Head:
        """The pooled layer and the dense weights.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
        """
        weights = {**self._usual.statics, **self.model.params}
        finder = HeadFinder(self.model.graph, weights, self._usual.axes, self._usual.shapes)
        return finder.find(self.activation.inputs[0] if self.activation else self.output)


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


def _merge(small: Shape, large: Shape) -> tuple[int | None, ...]:
    """A size that differs between two image sizes is one that varies."""
    return tuple(a if a == b else None for a, b in zip(small, large, strict=True))
