"""The conversion of a checked model's protobuf to a graph whose nodes have rules."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto

from onnxjax import _ops  # noqa: F401  (registers the rules)
from onnxjax._arrays import STATIC_SIZE
from onnxjax._jax import jax
from onnxjax._passes.channels_last import channels_last
from onnxjax._passes.function_bodies import body_rule
from onnxjax._passes.integer_kernels import on_integers
from onnxjax.errors import UnsupportedModelError
from onnxjax.graph import Graph, Node
from onnxjax.read._nodes import all_nodes, reads
from onnxjax.read._tensors import TensorReader
from onnxjax.registry import Rule, find_rule, find_traits

Arrays = dict[str, np.ndarray[Any, Any]]
Opsets = Mapping[str, int]

IN_PLACE = "consumed_inputs"
"""An attribute that any operator may have below opset 6; it only concerns memory."""


def build_graph(
    proto: onnx.GraphProto, opsets: Opsets, tensors: TensorReader | None = None
) -> tuple[Graph, Arrays]:
    """Resolve the operators of a graph, fold its constants and separate its weights.

    Args:
        proto: the graph, without calls of model-local functions.
        opsets: the version of each operator domain.
        tensors: the reader of its weights; None if all of them are in the graph itself.

    Returns:
        The graph, and its parameters by name.

    Raises:
        UnsupportedModelError: operators have no rule; the message names all of them.
    """
    _require_rules(proto, opsets)
    resolver = _Resolver(opsets, tensors or TensorReader(), build_graph, _known_rule)
    return _without_weights(_fold(channels_last(on_integers(resolver.graph(proto)))))


def read_graph(
    proto: onnx.GraphProto, opsets: Opsets, tensors: TensorReader
) -> tuple[Graph, Arrays]:
    """Resolve the operators of a graph, without any rewrite or folding; see `build_graph`.

    A node whose operator has no rule gets one that has its traits but cannot compute it.
    """
    resolver = _Resolver(opsets, tensors, read_graph, _any_rule)
    return _without_weights(resolver.graph(proto))


def _without_weights(graph: Graph) -> tuple[Graph, Arrays]:
    """Return the graph without its parameters, and the parameters."""
    read = {name for node in graph.nodes for name in node.reads} | set(graph.outputs)
    constants = {name: array for name, array in graph.constants.items() if name in read}
    params = {name: array for name, array in constants.items() if _is_weight(array)}
    kept = {name: array for name, array in constants.items() if name not in params}
    return replace(graph, constants=kept), params


def _is_weight(array: np.ndarray[Any, Any]) -> bool:
    """Return whether an array is a parameter: large, and not integers that count or index."""
    return array.size > STATIC_SIZE and array.dtype not in (np.int64, np.int32, np.bool_)


def _require_rules(proto: onnx.GraphProto, opsets: Opsets) -> None:
    """Refuse a graph with operators that have no rule, and name all of them."""
    missing: dict[str, list[str]] = {}
    for node in all_nodes(proto.node):
        domain = _domain(node)
        if not _has_rule(node, opsets):
            label = f"{domain or 'ai.onnx'}.{node.op_type} (opset {opsets.get(domain, '?')})"
            missing.setdefault(label, []).append(_name_of(node))
    if missing:
        listed = "; ".join(f"{label} at {_some(names)}" for label, names in sorted(missing.items()))
        before = " or ".join(map(repr, _computed_before(proto, opsets)))
        raise UnsupportedModelError(
            f"no rule for {len(missing)} of the model's operators: {listed}; choose an output "
            f"before them with `output=`{before and f', such as {before}'}, run the model in ONNX "
            "Runtime, or register a rule with onnxjax.op"
        )


def _has_rule(node: NodeProto, opsets: Opsets) -> bool:
    is_constant = node.op_type == "Constant"
    return is_constant or _rule_for(_domain(node), node.op_type, opsets) is not None


def _computed_before(proto: onnx.GraphProto, opsets: Opsets) -> list[str]:
    """Return what the first node without a rule reads that depends on the graph's inputs."""
    weights = {tensor.name for tensor in proto.initializer}
    data = {value.name for value in proto.input} - weights
    computed: set[str] = set()
    for node in proto.node:
        read = {*reads(node)}
        if not all(_has_rule(one, opsets) for one in all_nodes([node])):
            return [name for name in dict.fromkeys(reads(node)) if name in computed]
        if read & (data | computed):
            computed.update(node.output)
    return []


def _rule_for(domain: str, operator: str, opsets: Opsets) -> Rule | None:
    """Return the operator's own rule, or one that runs the function body of its schema."""
    opset = opsets.get(domain, 1)
    own = find_rule(domain, operator, opset)
    return own or body_rule(domain, operator, opset, build_graph, _rule_for)


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _domain(node: NodeProto) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def _known_rule(node: NodeProto, opsets: Opsets) -> Rule:
    rule = _rule_for(_domain(node), node.op_type, opsets)
    assert rule is not None, "_require_rules comes first"
    _check_attributes(node, rule)
    return rule


def _any_rule(node: NodeProto, opsets: Opsets) -> Rule:
    domain, operator = _domain(node), node.op_type
    rule = _rule_for(domain, operator, opsets)
    return rule or Rule.of(_no_rule, **find_traits(domain, operator))


def _no_rule(xp: Any, *inputs: Any, **attributes: Any) -> Any:
    raise UnsupportedModelError("there is no rule for it; register one with onnxjax.op")


@dataclass(frozen=True)
class _Resolver:
    """The conversion of nodes and initialisers from protobuf.

    Attributes:
        opsets: the version of each operator domain.
        tensors: the reader of weights.
        build: converts the body of a node to a graph.
        rule_of: returns the rule of a node.
    """

    opsets: Opsets
    tensors: TensorReader
    build: Callable[[onnx.GraphProto, Opsets, TensorReader], tuple[Graph, Arrays]]
    rule_of: Callable[[NodeProto, Opsets], Rule]

    def graph(self, proto: onnx.GraphProto) -> Graph:
        """Return the graph, in which Constant nodes are constants."""
        constants = {tensor.name: self.tensors.array(tensor) for tensor in proto.initializer}
        for sparse in proto.sparse_initializer:
            constants[sparse.values.name] = self.tensors.dense(sparse)
        nodes = []
        for node in proto.node:
            if node.op_type == "Constant" and not _domain(node):
                constants[node.output[0]] = _constant_value(node, self.tensors)
            else:
                nodes.append(self._node(node))
        inputs = tuple(value.name for value in proto.input if value.name not in constants)
        return Graph(tuple(nodes), constants, inputs, tuple(value.name for value in proto.output))

    def _node(self, node: NodeProto) -> Node:
        bodies = {a.name: a.g for a in node.attribute if a.type == AttributeProto.GRAPH}
        return Node(
            name=_name_of(node),
            operator=node.op_type,
            rule=self.rule_of(node, self.opsets),
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={
                a.name: _attribute_value(a, self.tensors)
                for a in node.attribute
                if a.name not in {IN_PLACE, *bodies}
            },
            subgraphs={key: self._body(body) for key, body in bodies.items()},
            metadata={entry.key: entry.value for entry in node.metadata_props},
        )

    def _body(self, proto: onnx.GraphProto) -> Graph:
        """Return a subgraph with its weights as constants, because it has no parameters."""
        graph, params = self.build(proto, self.opsets, self.tensors)
        return replace(graph, constants={**graph.constants, **params})


def _name_of(node: NodeProto) -> str:
    return node.name or next(filter(None, node.output), node.op_type)


def _check_attributes(node: NodeProto, rule: Rule) -> None:
    unknown = {a.name for a in node.attribute} - rule.attributes - {IN_PLACE}
    if unknown:
        known = ", ".join(sorted(rule.attributes)) or "none"
        raise UnsupportedModelError(
            f"{node.op_type} node {_name_of(node)!r} has an attribute {min(unknown)!r} that its "
            f"rule does not know (it knows {known}); export the model again"
        )


def _attribute_value(attribute: AttributeProto, tensors: TensorReader) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return tensors.array(value)
    if attribute.type == AttributeProto.STRINGS:
        return [item.decode("utf-8", "replace") for item in value]
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _constant_value(node: NodeProto, tensors: TensorReader) -> np.ndarray[Any, Any]:
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    match attribute.name:
        case "value":
            return tensors.array(value)
        case "sparse_value":
            return tensors.dense(value)
        case "value_int" | "value_ints":
            return np.asarray(value, np.int64)
        case "value_float" | "value_floats":
            return np.asarray(value, np.float32)
        case _:
            raise UnsupportedModelError(
                f"Constant node {node.name!r} holds {attribute.name!r}, which is no number"
            )


def _fold(graph: Graph) -> Graph:
    """Compute every node that depends on constants alone, once, instead of in every call."""
    computed: Arrays = {}
    known = ChainMap(computed, dict(graph.constants))
    left = []
    for node in graph.nodes:
        results = _computed(node, known) if all(name in known for name in node.reads) else None
        if results is None:
            left.append(node)
        else:
            computed.update(results)
    return replace(graph, nodes=tuple(left), constants={**graph.constants, **computed})


def _computed(node: Node, known: Mapping[str, np.ndarray[Any, Any]]) -> Arrays | None:
    """Return the results of a node that depends on constants alone.

    None if only JAX can compute them, in a loop that may never end; the node is then kept.
    """
    values = {name: known[name] for name in node.reads}
    if node.subgraphs:
        jax.eval_shape(lambda: node(values))
    else:
        node(values)
    results = {name: values[name] for name in node.outputs if name}
    if any(isinstance(value, jax.core.Tracer) for value in results.values()):
        return None
    return {name: np.asarray(value) for name, value in results.items()}
