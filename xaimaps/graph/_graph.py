"""`Graph`: a network at one image size, and the analyses of it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps.graph._attention import Attention, find_attention
from xaimaps.graph._axes import Axes, Part, Shape, kind_of, unknown
from xaimaps.graph._default_layer import LayerChoice
from xaimaps.graph._demands import OPAQUE, Demands, demands_of
from xaimaps.graph._flow import Region, View
from xaimaps.graph._gradients import require_gradient
from xaimaps.graph._head import Ending, Head, HeadFinder, find_ending
from xaimaps.graph._layer_groups import Group, layer_groups
from xaimaps.graph._layout import Layout, layout_of
from xaimaps.graph._operation import Operation, Value
from xaimaps.graph._weights import layer_weights

UNLISTED = frozenset({"view", "transpose", "pad", "slice", "quantize"})
"""Kinds whose results have the values of their input, so that no list shows them."""

ARITHMETIC = frozenset({"sum", "product", "quotient", "exp", "arithmetic", "expand", "reduce"})
"""Kinds that are a layer only if they join two values, or end a layer that has a name."""


FRONT = frozenset({"view", "transpose", "slice", "concat", "resize", "pad", "size"})
"""Kinds that may come before a rescaling of the images."""


@dataclass(frozen=True, eq=False)
class Graph:
    """The operations of a network for images of one size; no value is computed.

    Attributes:
        operations: the operations that the output depends on, in the order of computation.
        images: the name of the images' value.
        image_axes: the meaning of the axes of the images.
        output: the value to explain.
        shapes: the shapes of the weights and of the values that depend on the images.
        statics: the values that are known without any image.
    """

    operations: Sequence[Operation]
    images: Value
    image_axes: Axes
    output: Value
    shapes: Mapping[Value, Shape]
    statics: Mapping[Value, np.ndarray[Any, Any]]

    @functools.cached_property
    def producers(self) -> Mapping[Value, Operation]:
        """The operation that makes each value."""
        return {value: one for one in self.operations for value in one.makes}

    @functools.cached_property
    def axes(self) -> Mapping[Value, Axes]:
        """The meaning of the axes of every value that depends on the images."""
        found: dict[Value, Axes] = {self.images: self.image_axes}
        for one in (one for one in self.operations if one.kind != "size"):
            axes = [found.get(value) for value in _sources(one)]
            if any(known is not None for known in axes):
                for value in one.makes:
                    if value in self.shapes:
                        found[value] = one.flow.result(self._view(one, value, axes))
        return found

    def _view(self, operation: Operation, value: Value, axes: Sequence[Axes | None]) -> View:
        shapes = [self._shape(one) for one in _sources(operation)]
        return View(self.shapes[value], axes, shapes)

    def _shape(self, value: Value) -> Shape | None:
        if value in self.shapes:
            return self.shapes[value]
        return self.statics[value].shape if value in self.statics else None

    @functools.cached_property
    def layouts(self) -> Mapping[Value, Layout]:
        """The layouts that show values with channels last, for all values that have one."""
        found = (
            (value, layout_of(axes, is_single=self.is_single)) for value, axes in self.axes.items()
        )
        return {value: layout for value, layout in found if layout and value in self.producers}

    def shown(self, value: Value) -> Shape:
        """Return the shape of a value with channels last, or its own shape if it has no layout."""
        layout = self.layouts.get(value)
        return layout.shape(self.shapes[value]) if layout else self.shapes[value]

    @functools.cached_property
    def is_single(self) -> bool:
        """Whether the images are a batch of one."""
        return Part.whole("N", 1) in itertools.chain(*self.image_axes)

    @functools.cached_property
    def batch_axis(self) -> int | None:
        """The axis of the output that is the batch: the first, unless it is known to be another.

        All outputs for a single image are of that image, so that any axis with one position is the
        batch; None if there is none.
        """
        kinds = [kind_of(axis) for axis in self.axes.get(self.output, ())]
        if self.is_single and kinds:
            return next((kinds.index(kind) for kind in ("N", "1") if kind in kinds), None)
        return kinds.index("N") if "N" in kinds else 0

    @functools.cached_property
    def ending(self) -> Ending | None:
        """The softmax or sigmoid at the end of the model."""
        return find_ending(self.producers, self.output, self.operations)

    def head(self) -> Head:
        """Return the pooled value and the dense weights after it.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
        """
        finder = HeadFinder(self.producers, self.axes, self.axes, self.shapes, self.statics)
        return finder.find(self.ending.logits if self.ending else self.output)

    @functools.cached_property
    def has_rectifiers(self) -> bool:
        """Whether a rectifier rule changes any derivative."""
        return any(one.kind == "relu" for one in self.operations)

    @property
    def step(self) -> Operation | None:
        """The operation that makes the output, if its result jumps, as an index of ArgMax does."""
        last = self.producers.get(self.output)
        return None if last is None or last.is_differentiable else last

    @functools.cached_property
    def random(self) -> Operation | None:
        """The first operation that draws other numbers in each run, None if there is none."""
        return next((one for one in self.operations if one.kind == "random"), None)

    @functools.cached_property
    def rescaling(self) -> Operation | None:
        """The first operation that rescales or shifts the images before any layer, or None."""
        front = {self.images}
        for one in self.operations:
            if not front.intersection(one.needs):
                continue
            if one.kind in ("product", "quotient", "sum"):
                return one if sum(value in self.axes for value in one.needs) == 1 else None
            if one.kind not in FRONT:
                return None
            front.update(one.makes)
        return None

    def require_gradient(self, start: Value) -> None:
        """Refuse a network in which no gradient passes from the output back to a value.

        Raises:
            UnsupportedModelError: every path has an operation whose derivative is zero.
        """
        require_gradient(self.operations, start, self.output)

    @functools.cached_property
    def data(self) -> frozenset[Value]:
        """The values that depend on the images, and not on their size alone."""
        found = {self.images}
        for one in self.operations:
            if one.kind != "size" and found.intersection(one.needs):
                found.update(one.makes)
        return frozenset(found)

    @functools.cached_property
    def layer_weights(self) -> Mapping[Value, tuple[Value, ...]]:
        """The constants that each layer reads: its weights, and also shapes and the like."""
        return layer_weights(self.operations, self.data)

    @functools.cached_property
    def demands(self) -> Demands:
        """The parts of each value on which the output depends."""
        return self.demands_for([self.output], lambda one: one.kind in OPAQUE)

    def demands_for(
        self, values: Collection[Value], is_opaque: Callable[[Operation], bool]
    ) -> Demands:
        """Return the parts of each value on which some values depend.

        Args:
            values: the values all of which is read.
            is_opaque: whether any part of an operation's result may depend on all of its inputs.
        """

        def view(operation: Operation, value: Value) -> View:
            return self._view(operation, value, [self.axes.get(one) for one in _sources(operation)])

        return demands_of(self.operations, values, self.data, self.shapes, view, is_opaque)

    def inputs_for(self, operation: Operation, region: Region) -> Sequence[Region] | None:
        """Return the part of each input from which a part of the result can be computed alone.

        None if the operation mixes the positions of an axis of that part, or a shape is unknown.
        """
        shapes = [self._shape(one) if one else () for one in operation.reads]
        known = [shape for shape in shapes if shape is not None]
        if len(known) < len(shapes):
            return None
        # a constant that has a position for each token is read in part too
        named = zip(operation.reads, known, strict=True)
        axes = [self.axes.get(one, unknown(shape)) for one, shape in named]
        view, flow = View(self.shapes[operation.makes[0]], axes, shapes), operation.flow
        parts = [flow.read(position, region, view) or {} for position in range(len(shapes))]
        kept = {
            axis
            for axis in region
            for position, part in enumerate(parts)
            if flow.source(axis, position, view) in part
        }
        return parts if kept == set(region) else None

    @functools.cached_property
    def attention(self) -> Attention:
        """The attention matrices of a transformer.

        Raises:
            UnsupportedModelError: there are none over a grid of tokens.
        """
        return find_attention(self)

    def best_layer(self, candidates: Sequence[Value]) -> Value | None:
        """Return the layer that explains the output best, None if none is known.

        Args:
            candidates: the layers with several spatial positions, in the order of computation.
        """
        choice = LayerChoice(
            self.operations,
            self.producers,
            self.output,
            self.axes,
            self.layouts,
            self.shown,
            self.demands,
        )
        return choice.best(candidates)

    def is_layer(self, value: Value) -> bool:
        """Return whether a value is more than an intermediate result, as of a normalisation."""
        operation = self.producers[value]
        joins = sum(one in self.axes for one in operation.reads) > 1
        return joins or operation.kind not in ARITHMETIC


def smooth_values(
    operations: Iterable[Operation], images: Value, is_float: Callable[[Value], bool]
) -> frozenset[Value]:
    """Return the values that depend on the images as floats.

    Shapes and masks are constant to first order, so they do not count.
    """
    found = {images}
    for one in operations:
        if found.intersection(one.needs):
            found.update(value for value in one.makes if is_float(value))
    return frozenset(found)


def groups_of(operations: Sequence[Operation], data: Collection[Value]) -> tuple[Group, ...]:
    """Return the groups of operations whose last value is in `data`."""
    return tuple(g for g in layer_groups(operations, data) if g[-1].makes[0] in data)


def _sources(operation: Operation) -> Sequence[Value]:
    """Return the values that the axes of a result may come from, those of bodies included."""
    return operation.needs if operation.captured else operation.reads
