"""`OnnxNetwork`: an ONNX graph as a classifier of images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from onnxjax import OnnxModel, Value
from onnxjax._passes.inline_if import likely, written_out
from onnxjax.graph import Graph as OnnxGraph
from onnxjax.graph import Node

from xaimaps._inputs import require_single
from xaimaps.errors import ArrayInputError, UnsupportedModelError, XaimapsError
from xaimaps.graph import PROBE_BATCH, SIDES, Graph, Network, Shape, axis_of, with_size
from xaimaps_onnx._aliases import aliases
from xaimaps_onnx.nodes import NodeReader, cast_type

Shapes = Mapping[str, Shape]
Statics = Mapping[str, np.ndarray[Any, Any]]
Probe = Callable[[OnnxModel, OnnxGraph, str, Shape], tuple[Shapes, Statics]]
"""A function that returns the shapes of values, and the values that are static.

Its arguments are the model, a graph of its nodes, the output and the shape of the images.
"""


REARRANGING = frozenset({"view", "transpose", "slice"})
"""Kinds of operators whose results have elements of their first input."""

IN_PLACE = frozenset({"pad", "norm", "batch_norm", "quantize", "dequantize"})
"""Kinds of operators that keep the order of axes, besides the elementwise ones."""


def layouts(rank: int) -> tuple[str, str]:
    """Return the layouts with channels first and last of a batch with a number of axes."""
    sides = SIDES[rank - 2]
    return f"NC{sides}", f"N{sides}C"


def image_layout(value: Value, graph: OnnxGraph, layout: str | None = None) -> str:
    """Return a layout such as NCHW, by the first convolution, else by the axis of size 1 or 3.

    Args:
        value: the declaration of the images.
        graph: the graph that reads them.
        layout: the user's choice, which comes first.

    Raises:
        UnsupportedModelError: the input is not a batch of images of floats.
        ArrayInputError: there is no such layout.
    """
    shape = value.shape or ()
    if len(shape) - 2 not in SIDES or value.dtype.kind != "f":
        raise UnsupportedModelError(
            f"the model's input {value.name!r} must be a batch of images of floats with four axes, "
            f"of volumes with five or of signals with three, got shape {value.shape} of "
            f"{value.dtype}; {_remedy(len(shape))}"
        )
    first, last = layouts(len(shape))
    if layout is not None:
        if layout not in (first, last):
            raise ArrayInputError(f"`layout` must be one of {first}, {last}, got {layout!r}")
        return layout
    channels = _channel_axis(value.name, graph, len(shape))
    if channels is None:
        channels = -1 if shape[1] not in (1, 3) and shape[-1] in (1, 3) else 1
    return first if channels == 1 else last


def _remedy(rank: int) -> str:
    """Return what to do about an input with another number of axes, or of another type."""
    if rank == 2:
        return (
            "put the flattening into the model, as torch.nn.Sequential(torch.nn.Flatten(), model) "
            "does, and export it with an input of images (N, 1, 28, 28)"
        )
    return "export the model with such an input"


def _channel_axis(images: str, graph: OnnxGraph, rank: int) -> int | None:
    """Return the axis of the images that the first convolution takes as channels, if it is told."""
    axes: dict[str, list[int | None]] = {images: list(range(rank))}
    for node in graph.nodes:
        known = next((axes[name] for name in node.inputs if name in axes), None)
        if known is None:
            continue
        if node.rule.kind == "conv":
            return known[1] if known[1] in (1, rank - 1) else None
        if node.rule.kind == "transpose":
            order = node.attributes.get("perm") or range(len(known))[::-1]
            axes[node.outputs[0]] = [known[axis] for axis in order]
        elif node.operator == "Unsqueeze":  # before a signal's convolution, as of one row
            axes[node.outputs[0]] = _unsqueezed(known, node, graph)
        elif node.rule.elementwise or node.rule.kind in IN_PLACE:
            axes[node.outputs[0]] = known
    return None


def _unsqueezed(known: list[int | None], node: Node, graph: OnnxGraph) -> list[int | None]:
    given = node.attributes.get("axes")
    places = graph.constants[node.inputs[1]] if given is None else given
    new = {int(place) % (len(known) + len(places)) for place in places}
    left = iter(known)
    return [None if axis in new else next(left) for axis in range(len(known) + len(new))]


class OnnxNetwork(Network):
    """The network of an ONNX model of images.

    Args:
        model: a model with one image input, whose first output is explained.
        probe: returns shapes and static values.
        layout: such as "NCHW" or "NHWC"; None to find it.
        input_size: the spatial size of the images, if the file takes any.

    Attributes:
        first_float: the value at which images of integers become floats, or the input itself.
        dequantized: the values of DequantizeLinear among those at which they become floats.
    """

    def __init__(
        self,
        model: OnnxModel,
        probe: Probe,
        layout: str | None = None,
        input_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self._probe = probe
        declared, made = _as_floats(_single_input(model), model.graph)
        self.first_float = next(iter(made), declared.name)
        self.dequantized = tuple(
            name for name in made if model.graph.producers[name].rule.kind == "dequantize"
        )
        self.input_layout = image_layout(declared, model.graph, layout)
        self.input = _with_size(declared, self.input_layout, input_size)
        self.model = replace(model, inputs=(self.input,))
        self.output = model.graph.outputs[0]
        self.nodes = model.graph.needed_for([self.output])

    @functools.cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that the file requires, or None.

        A batch that is declared free may be one image inside, as after `view(1, -1)` in PyTorch.
        """
        return self._declared_batch or (1 if self.usual.shapes[self.input.name][0] == 1 else None)

    @property
    def is_single_inside(self) -> bool:
        """Whether the file declares a free batch, but takes one image."""
        return self._declared_batch is None and self.fixed_batch == 1

    @property
    def _declared_batch(self) -> int | None:
        return (self.input.shape or (None,))[0]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return _image_shape(self.input, self.input_layout)

    @property
    def layer_weights(self) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """The weights of floats of each layer by name, in ONNX's order."""
        params = self.model.params
        floats = {name for name, array in params.items() if array.dtype.kind == "f"}
        layers = self.usual.layer_weights.items()
        return {layer: {n: params[n] for n in names if n in floats} for layer, names in layers}

    def to_graph(self, images: Any) -> Any:
        """Return images `(N, H, W, C)` in the graph's own layout."""
        return images.transpose(self.to_graph_order)

    @property
    def to_graph_order(self) -> list[int]:
        """The permutation of the axes of images with channels last to the graph's own layout."""
        last = layouts(len(self.input_layout))[1]
        return [last.index(axis) for axis in self.input_layout]

    @functools.cached_property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        graph = self.usual
        data = {name for name in graph.axes if name != self.input.name}
        return aliases(self.nodes, data, self.shapes, self.model.metadata)

    def is_named(self, value: str) -> bool:
        node = self.model.graph.producers.get(value)
        own = {node.name} if node else set()
        return bool(set(self.aliases.get(value, ())) - own)

    def values(self) -> list[str]:
        """Return the results of the file's own nodes; a branch of an If cannot be cut."""
        return [node.outputs[0] for node in self.nodes]

    def is_listed(self, value: str) -> bool:
        return self.operator(value) == "If" or super().is_listed(value)

    def operator(self, value: str) -> str:
        return self.model.graph.producers[value].operator

    def passing(self, layer: str) -> tuple[str, ...]:
        """Return the values that bypass a layer, as in a skip connection.

        The rest of the network reads them in addition to the layer, and they depend on the images.
        """
        graph = self.model.graph
        data, behind = graph.depending_on(self.input.name), graph.depending_on(layer)
        nodes = graph.needed_for([self.output], given=(layer,))
        read = [name for node in nodes if behind.intersection(node.outputs) for name in node.reads]
        return tuple(dict.fromkeys(name for name in read if name in data and name not in behind))

    def trace(self, *size: int) -> Graph:
        """Return the graph for images of this size; nothing is computed from a real image."""
        if self._declared_batch is not None:
            return self._traced(self._declared_batch, size)
        try:
            several = self._traced(PROBE_BATCH, size)
        except XaimapsError as error:
            with suppress(XaimapsError):
                return self._traced(1, size)
            raise error
        if self._rows(several) in (None, PROBE_BATCH):
            return several
        single = self._traced(1, size)
        return single if self._rows(single) == 1 else several

    def _rows(self, graph: Graph) -> int | None:
        """Return the number of rows of the output, if it is known."""
        shape = graph.shapes.get(self.output)
        if not shape:
            return None
        return 1 if graph.batch_axis is None else shape[graph.batch_axis]

    def _traced(self, batch: int, size: Shape) -> Graph:
        sides = SIDES[len(size)]
        sizes = {"N": batch, "C": 3, **dict(zip(sides, size, strict=True))}
        declared = self.input.shape or ()
        pairs = zip(self.input_layout, declared, strict=True)
        given = [(axis, sizes[axis] if axis in sides else d or sizes[axis]) for axis, d in pairs]
        graph, shapes, statics = self._probed(tuple(size for _, size in given))
        reader = NodeReader(shapes, statics)
        return Graph(
            operations=tuple(map(reader.operation, graph.needed_for([self.output]))),
            images=self.input.name,
            image_axes=tuple(axis_of(axis, size) for axis, size in given),
            output=self.output,
            shapes=shapes,
            statics=statics,
        )

    def _probed(self, shape: Shape) -> tuple[OnnxGraph, Shapes, Statics]:
        """Return the graph with the branches of If inlined, its shapes and static values."""
        graph = self.model.graph
        shapes, statics = self._probe(self.model, graph, self.output, shape)
        if any(node.operator == "If" for node in self.nodes):
            graph = written_out(graph, likely, statics)
            shapes, statics = self._probe(self.model, graph, self.output, shape)
        return graph, shapes, statics


def _single_input(model: OnnxModel) -> Value:
    require_single([(value.name, value.shape or (), value.dtype) for value in model.inputs])
    return model.inputs[0]


def _image_shape(images: Value, layout: str) -> tuple[int | None, ...]:
    """Return the declared `(*spatial, channels)`."""
    sizes = dict(zip(layout, images.shape or (), strict=True))
    return tuple(sizes[axis] for axis in layouts(len(layout))[1][1:])


def _with_size(images: Value, layout: str, input_size: Sequence[int] | None) -> Value:
    """Return the declaration with a user's spatial size for what varies."""
    shape = with_size(_image_shape(images, layout), input_size)
    whole = ((images.shape or (None,))[0], *shape)
    sizes = dict(zip(layouts(len(layout))[1], whole, strict=True))
    return replace(images, shape=tuple(sizes[axis] for axis in layout))


def _as_floats(images: Value, graph: OnnxGraph) -> tuple[Value, Collection[str]]:
    """Return the images as an input of floats, and the values at which integers become floats.

    Integers that are only rearranged before a Cast to floats or a DequantizeLinear may be given as
    floats: the Cast then has no effect, and a gradient passes both.

    Raises:
        UnsupportedModelError: an operator needs the integers themselves.
    """
    if images.dtype.kind not in "iu":
        return images, ()
    integers, made = {images.name}, dict[str, np.dtype[Any]]()
    for node in graph.nodes:
        if integers.isdisjoint(node.reads) or node.rule.kind == "size":
            continue
        to = _float_type(node, graph)
        if to is not None:
            made[node.outputs[0]] = to
        elif cast_type(node) is None and node.rule.kind in REARRANGING:
            integers.update(node.outputs)
        else:
            raise UnsupportedModelError(
                f"the model's input {images.name!r} must be floats, or integers that a Cast or a "
                f"DequantizeLinear makes floats, but the {node.operator} node {node.name!r} "
                f"computes with {images.dtype}; export the model with an input of floats"
            )
    return replace(images, dtype=next(iter(made.values()), images.dtype)), made


def _float_type(node: Node, graph: OnnxGraph) -> np.dtype[Any] | None:
    """Return the type of floats that a node makes of integers, None for any other node."""
    if node.rule.kind == "dequantize":
        scale = graph.constants.get(node.inputs[1])
        is_single = scale is not None and scale.dtype == np.float32 and scale.size == 1
        return np.dtype(np.float32) if is_single else None
    to = cast_type(node)
    return to if to is not None and to.kind in "fV" else None
