"""An ONNX graph as a source of nodes for `Program`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from onnxjax import OnnxModel
from onnxjax._ops.convolution import Kernel
from onnxjax._ops.reduction import REDUCTIONS
from onnxjax.graph import Graph, Node, Values
from onnxjax.precision import with_rounded_factors
from xaimaps_onnx.analysis import OnnxNetwork
from xaimaps_onnx.errors import onnxjax_errors
from xaimaps_onnx.nodes import LAYER_NORMS, NodeReader

from xaimaps.backend import Array
from xaimaps.graph import Operation, Shape, as_scores

Params = dict[str, Any]

SEPARABLE = frozenset(
    "MatMul Gemm Softmax LogSoftmax GlobalAveragePool GlobalMaxPool BiasGelu FastGelu "
    "QuickGelu".split()
).union(LAYER_NORMS, REDUCTIONS)
"""The operators, apart from elementwise ones, that run on parts of their inputs alike."""

FOLLOWED = frozenset(
    "Reshape Squeeze Unsqueeze Flatten Cast CastLike Dropout Transpose Slice Gather Split "
    "Concat".split()
)
"""The operators whose own sizes are fixed, and of which it is known what a part depends on."""


@onnxjax_errors()
def traced(
    model: OnnxModel, graph: Graph, output: str, shape: Shape
) -> tuple[dict[str, Shape], dict[str, np.ndarray[Any, Any]]]:
    """Return the shapes of the float values for images of a shape, and the static values.

    JAX traces the graph, and nothing is computed from an image.
    """
    shapes: dict[str, Shape] = {}
    statics: dict[str, np.ndarray[Any, Any]] = {}
    (images,) = model.inputs

    def trace(params: Params, array: Array) -> None:
        known = graph.run({**params, images.name: array}, [output])
        for name, value in known.items():
            if isinstance(value, np.ndarray):
                statics[name] = value
            elif jnp.issubdtype(value.dtype, jnp.floating):
                shapes[name] = value.shape

    jax.eval_shape(trace, model.params, jax.ShapeDtypeStruct(shape, images.dtype))
    return shapes, statics


class OnnxSource:
    """The nodes of an ONNX graph."""

    def __init__(self, network: OnnxNetwork) -> None:
        self._network = network
        self._graph = replace(network.model.graph, outputs=(network.output,))
        self._reader = NodeReader({}, {})
        self.images = network.input.name
        self.fixed_batch = network.fixed_batch
        self.output_names = tuple(value.name for value in network.model.outputs)

    def graph(self, params: Params, images: Array, wanted: Collection[str] | None) -> Graph:
        """Return the file's nodes, which are the same for every image size and value."""
        return self._graph

    def values(self, params: Params, images: Array) -> Values:
        """Return the parameters by name, and the images in the graph's own layout and type.

        Images for a graph of floats in 32 bits keep their type, so that it can run in float64.
        """
        declared = self._network.input.dtype
        images = images.astype(declared) if declared.itemsize < 4 else images
        return {**params, self.images: self._network.to_graph(images)}

    def outputs(self, known: Values, graph: Graph) -> Array:
        """Return the output to explain."""
        return as_scores(jnp, known[graph.outputs[0]], self._network.usual.batch_axis)

    def named(self, params: Params) -> Values:
        """Return the parameters by name, kernels in ONNX's order."""
        return {name: self.array(value) for name, value in params.items()}

    def with_named(self, params: Params, weights: Values) -> Params:
        """Return the parameters, with some replaced by others in ONNX's order, by name."""
        kernels = {n for n in weights if isinstance(params[n], Kernel)}
        own = {n: Kernel.of(w) if n in kernels else w for n, w in weights.items()}
        return {**params, **own}

    def operation(self, node: Node) -> Operation:
        """Return the operation of a node."""
        return self._reader.operation(node)

    def is_separable(self, node: Node) -> bool:
        """Return whether a node can run on arrays of other sizes, as on fewer tokens."""
        return node.rule.elementwise or node.operator in SEPARABLE

    def is_exact(self, node: Node, operation: Operation) -> bool:
        """Return whether an operation's flow gives all that a part of its result depends on."""
        return self.is_separable(node) or node.operator in FOLLOWED

    def array(self, value: Array) -> Array:
        """Return a weight in ONNX's order, even if it is stored in another order."""
        return value.weights if isinstance(value, Kernel) else value

    def rounded(self, params: Params) -> Params:
        """Return the parameters, with those that products read in bfloat16."""
        return with_rounded_factors(self._graph, params)
