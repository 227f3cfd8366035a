"""An ONNX graph as a source of nodes for `Program`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from onnxjax._ops.convolution import Kernel
from onnxjax.graph import Graph, Node, Values
from xaimaps_onnx.analysis import OnnxNetwork
from xaimaps_onnx.nodes import NodeReader

from xaimaps.backend import Array
from xaimaps.graph import Operation, as_scores

Params = dict[str, Any]


class OnnxSource:
    """The nodes of an ONNX graph."""

    def __init__(self, network: OnnxNetwork) -> None:
        self._network = network
        self._graph = replace(network.model.graph, outputs=(network.output,))
        self._reader = NodeReader({}, {})
        self.images = network.input.name
        self.fixed_batch = network.fixed_batch

    def graph(self, params: Params, images: Array) -> Graph:
        """The file's nodes, which serve every size."""
        return self._graph

    def values(self, params: Params, images: Array) -> Values:
        """The parameters by name, and the images as the graph takes them."""
        return {**params, self.images: self._network.to_graph(images)}

    def outputs(self, known: Values, graph: Graph) -> Array:
        """The output that is explained."""
        return as_scores(jnp, known[graph.outputs[0]])

    def operation(self, node: Node) -> Operation:
        """What a node is."""
        return self._reader.operation(node)

    def array(self, value: Array) -> Array:
        """A weight, also where it is kept in the order in which a convolution reads it."""
        return value.weights if isinstance(value, Kernel) else value
