"""The names by which a model's author knows its values: PyTorch modules, Keras layers, nodes."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from onnxjax.graph import Node

SCOPES = "pkg.torch.onnx.name_scopes"
"""The metadata in which PyTorch's newer exporter lists a node's modules, outermost first."""

FOLDED = "onnx::"
"""The prefix of convolution weights into which a batch normalisation is folded."""

LAYERS = "xaimaps.layers"
"""The metadata in which our converter lists the value of each layer by its path, as JSON."""

NUMBERED = re.compile(r"(.+):\d+")
"""A layer that is called several times, with the number of one call."""

COUNTED = re.compile(r"(.+)_\d+")
MADE_BY_TF2ONNX = re.compile(r"__\d+(:\d+)?$")

Named = list[tuple[str, str]]
"""Pairs of an alias and a value's own name."""


def aliases(
    nodes: Sequence[Node],
    data: Collection[str],
    values: Collection[str],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, tuple[str, ...]]:
    """Return other names of values: that of its node, and of each module or layer that it ends.

    Args:
        nodes: the nodes in the order of computation.
        data: the values that depend on the images, in floats.
        values: those of them that may have an alias.
        metadata: the file's metadata. If it lists layers, no other names are inferred.
    """
    noted = _noted_layers(metadata.get(LAYERS, ""))
    nodes = [node for node in nodes if node.outputs[0] in data]
    exact = {name for node in nodes for name in (node.name, node.outputs[0])}
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for node in nodes:
        if node.name != node.outputs[0]:
            found[node.outputs[0]][node.name] = None
    for alias, value in noted or [*_modules(nodes), *_keras_layers(nodes)]:
        if alias not in exact:
            found[value][alias] = None
    return {value: tuple(names) for value, names in found.items() if value in values}


def _noted_layers(text: str) -> Named:
    """Return the layers that a file lists: by path, without the number of the call, by last part.

    The last part of a path is a name only if no other path ends with it.
    """
    try:
        layers = json.loads(text) if text else None
    except (ValueError, RecursionError):  # the file is not trusted
        return []
    if not isinstance(layers, dict):
        return []
    paths = [(path, value) for path, value in layers.items() if isinstance(value, str)]
    lasts = Counter(path.rpartition("/")[2] for path, _ in paths)
    short = [(path.rpartition("/")[2], value) for path, value in paths]
    calls = [(call[1], value) for path, value in paths if (call := NUMBERED.fullmatch(path))]
    return [*paths, *calls, *((last, value) for last, value in short if lasts[last] == 1)]


def _modules(nodes: Sequence[Node]) -> Named:
    """Return PyTorch's modules, as written by its older or its newer exporter."""
    last = _last_values(nodes, _module_scopes)
    made_of = _contents(nodes)
    for scope, value in list(last.items()):
        counted = COUNTED.fullmatch(scope)
        if counted and made_of[scope] == made_of.get(counted[1]):  # another call of one module
            last[counted[1]] = value
    return list(last.items())


def _last_values(nodes: Sequence[Node], scopes: Callable[[Node], list[str]]) -> dict[str, str]:
    return {scope: node.outputs[0] for node in nodes for scope in scopes(node)}


def _contents(nodes: Sequence[Node]) -> dict[str, list[tuple[str, ...]]]:
    """Return, for each scope, its operators with their weights.

    A weight is an input that no node makes. Scopes with equal contents are calls of one module.
    """
    made = {name for node in nodes for name in node.outputs}
    found: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for node in nodes:
        for scope in _module_scopes(node):
            found[scope].append((node.operator, *(i for i in node.inputs[1:] if i not in made)))
    return found


def _module_scopes(node: Node) -> list[str]:
    """Return the modules around a node, such as `layer4`, `layer4.1`, `layer4.1.relu`."""
    if SCOPES in node.metadata:
        return _noted_scopes(node.metadata[SCOPES])
    if not node.name.startswith("/"):
        return []
    scopes = _traced_scopes(node.name.split("/")[1:-1])
    # its value is that of the batch normalisation, not of the convolution's own module
    is_folded = node.operator == "Conv" and node.inputs[1].startswith(FOLDED)
    return scopes[:-1] if is_folded else scopes


def _noted_scopes(text: str) -> list[str]:
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # written by another exporter
        return []
    return [str(scope) for scope in scopes[:-1] if scope] if isinstance(scopes, list) else []


def _traced_scopes(segments: Sequence[str]) -> list[str]:
    """Join `layer4`, `layer4.1`, `relu`; children of a container repeat its name."""
    scopes: list[str] = []
    before = ""
    for segment in segments:
        own = segment[len(before) + 1 :] if segment.startswith(f"{before}.") else segment
        scopes.append(f"{scopes[-1]}.{own}" if scopes else own)
        before = segment
    return scopes


def _keras_layers(nodes: Sequence[Node]) -> Named:
    """Return Keras layers by path within the model (`inner/conv1`), and by their own name."""
    paths = [path for node in nodes if (path := _path(node))]
    if not paths:
        return []
    is_counted = all(COUNTED.fullmatch(path[1]) for path in paths)
    last = _last_values(nodes, lambda node: _layer_paths(_path(node), is_counted))
    found: Named = []
    for layer, value in last.items():
        names = [COUNTED.sub(r"\1", name) if is_counted else name for name in layer.split("/")]
        found += [(alias, value) for alias in dict.fromkeys(["/".join(names), names[-1]])]
    return found


def _path(node: Node) -> list[str]:
    """Return the segments of a name by tf2onnx: the model, its layers, an operation."""
    own = [node.name, node.outputs[0], *reversed(node.inputs[1:])]
    for name in own if "__" in node.name else own[:1]:  # a fused node has its last weight's path
        segments = name.split("/")
        if len(segments) > 2 and segments[0] and not MADE_BY_TF2ONNX.search(name):
            return segments
    return []


def _layer_paths(path: Sequence[str], is_counted: bool) -> list[str]:
    """Return the nested layers of a path; only Keras 3 numbers the calls of each."""
    if not is_counted:
        return list(path[1:2])
    layers: list[str] = []
    for segment in path[1:-1]:
        if not COUNTED.fullmatch(segment):
            break
        layers.append(f"{layers[-1]}/{segment}" if layers else segment)
    return layers
