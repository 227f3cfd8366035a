"""Rules for operators that are defined by a function body in their ONNX schema.

A body may depend on the types of the inputs. Therefore it is built while the graph is traced, when
the types are known, and cached for later calls with the same types.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, helper

from onnxjax.errors import UnsupportedModelError
from onnxjax.graph import Graph
from onnxjax.registry import Rule, find_traits

Array = Any
Schema = Any  # onnx.defs.OpSchema; its type stubs lack some methods
Build = Callable[[onnx.GraphProto, Mapping[str, int]], tuple[Graph, dict[str, Array]]]
Resolve = Callable[[str, str, Mapping[str, int]], Rule | None]


def body_rule(domain: str, name: str, opset: int, build: Build, resolve: Resolve) -> Rule | None:
    """Return a rule that runs the operator's function body, or None if it has no usable one.

    Args:
        domain: the operator set.
        name: the operator.
        opset: the version of the operator set.
        build: converts the body to a graph.
        resolve: returns the rules of the operators in the body.
    """
    try:
        schema: Schema = onnx.defs.get_schema(name, opset, domain)
    except onnx.defs.SchemaError:
        return None
    versions = {*schema.function_opset_versions, *schema.context_dependent_function_opset_versions}
    version = max((v for v in versions if v <= opset), default=None)
    if schema.deprecated or version is None or not _all_resolved(schema, version, resolve):
        return None

    def run(xp: Any, *inputs: Array, n_outputs: int, **attributes: Any) -> tuple[Array, ...]:
        call = _call(schema, inputs, attributes, n_outputs)
        types = tuple(_type_of(x) for x in inputs if x is not None)
        graph = _graph(domain, name, opset, version, call.SerializeToString(), types, build)
        padded = (*inputs, *(None,) * (len(graph.inputs) - len(inputs)))
        known = graph.run(dict(zip(graph.inputs, padded, strict=True)), graph.outputs[:n_outputs])
        return tuple(known[output] for output in graph.outputs[:n_outputs])

    attributes, traits = frozenset(schema.attributes), find_traits(domain, name)
    return Rule(run, schema.since_version, frozenset(), attributes, True, **traits)


def _all_resolved(schema: Schema, version: int, resolve: Resolve) -> bool:
    """Return whether every operator of the body has a rule.

    True for a body that depends on the types of the inputs, because it is not known yet.
    """
    if version not in schema.function_opset_versions:
        return True
    body = FunctionProto.FromString(schema.get_function_with_opset_version(version))
    opsets = _opsets(body, version)
    operators = {(node.domain, node.op_type) for node in body.node} - {("", "Constant")}
    return all(resolve(domain, operator, opsets) for domain, operator in operators)


def _opsets(body: FunctionProto, version: int) -> Mapping[str, int]:
    return {"": version} | {entry.domain: entry.version for entry in body.opset_import}


def _call(
    schema: Schema,
    inputs: Iterable[Array],
    attributes: Mapping[str, Any],
    n_outputs: int,
) -> NodeProto:
    """Return the node with all default attributes, as ONNX's body builders expect it."""
    names = ["" if x is None else f"i{position}" for position, x in enumerate(inputs)]
    call = helper.make_node(
        schema.name, names, [f"o{i}" for i in range(n_outputs)], domain=schema.domain
    )
    for name, attribute in sorted(schema.attributes.items()):
        if name in attributes:
            call.attribute.append(_attribute(name, attributes[name]))
        elif attribute.default_value.name:
            call.attribute.append(attribute.default_value)
    return call


def _attribute(name: str, value: Any) -> AttributeProto:
    if isinstance(value, np.ndarray):
        value = onnx.numpy_helper.from_array(value)
    return helper.make_attribute(name, value)


def _type_of(x: Array) -> bytes:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(x.dtype))
    proto: bytes = helper.make_tensor_type_proto(number, x.shape).SerializeToString()
    return proto


@functools.lru_cache(maxsize=1024)
def _graph(
    domain: str,
    name: str,
    opset: int,
    version: int,
    call: bytes,
    types: tuple[bytes, ...],
    build: Build,
) -> Graph:
    """Return the body as a graph that keeps its weights as constants."""
    schema: Schema = onnx.defs.get_schema(name, opset, domain)
    if version in schema.function_opset_versions:
        body = schema.get_function_with_opset_version(version)
    else:
        body = schema.get_context_dependent_function_with_opset_version(version, call, types)
    function = FunctionProto.FromString(body)
    if not function.node:
        raise UnsupportedModelError(f"ONNX has no function body for {name} with these inputs")
    attributes = {a.name: a for a in NodeProto.FromString(call).attribute}
    proto = helper.make_graph(
        list(_filled(function.node, attributes)),
        function.name or name,
        [helper.make_empty_tensor_value_info(value) for value in function.input],
        [helper.make_empty_tensor_value_info(value) for value in function.output],
    )
    graph, weights = build(proto, _opsets(function, version))
    return Graph(graph.nodes, {**graph.constants, **weights}, graph.inputs, graph.outputs)


def _filled(
    nodes: Iterable[NodeProto], attributes: Mapping[str, AttributeProto]
) -> Iterable[NodeProto]:
    """Yield the nodes with the call's attribute values instead of references to them."""
    for node in nodes:
        filled = NodeProto()
        filled.CopyFrom(node)
        del filled.attribute[:]
        filled.attribute.extend(
            _with_values(a, attributes)
            for a in node.attribute
            if not a.ref_attr_name or a.ref_attr_name in attributes
        )
        yield filled


def _with_values(
    attribute: AttributeProto, attributes: Mapping[str, AttributeProto]
) -> AttributeProto:
    result = AttributeProto()
    result.CopyFrom(attributes.get(attribute.ref_attr_name, attribute))
    result.name = attribute.name
    if result.type == AttributeProto.GRAPH:
        nodes = list(_filled(attribute.g.node, attributes))
        del result.g.node[:]
        result.g.node.extend(nodes)
    return result
