"""The numbers of calls of a model inside a graph, such as a base or augmentation.

Keras 2 counted these calls from one, because the model was also called when it was built. Keras 3
accounts for that only in the outputs of a graph, and only if they are those of a functional model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xaimaps_keras.layer_names import is_call

Config = dict[str, Any]

FUNCTIONAL = ("Functional", "Model")


def renumbered(config: Any) -> Any:
    """Return a configuration in which calls of inner models are numbered as in Keras 3."""
    if isinstance(config, list):
        return [renumbered(item) for item in config]
    if not isinstance(config, dict):
        return config
    new = {key: renumbered(value) for key, value in config.items()}
    if isinstance(new.get("layers"), list) and "output_layers" in new:
        _renumber(new)
    return new


def _renumber(graph: Config) -> None:
    layers, outputs = graph["layers"], graph["output_layers"]
    called = [layer for layer in layers if layer.get("inbound_nodes")]
    inside = [layer["inbound_nodes"] for layer in called]
    sequential = _late(called, ("Sequential",), [*inside, outputs])
    late = sequential | _late(called, FUNCTIONAL, inside)
    for layer in called:
        layer["inbound_nodes"] = _shifted(layer["inbound_nodes"], late)
    graph["output_layers"] = _shifted(outputs, sequential)


def _late(called: list[Config], kinds: tuple[str, ...], references: list[Any]) -> set[str]:
    """Return the models of these kinds whose last call has the number of all calls."""
    calls = {
        layer.get("name"): len(layer["inbound_nodes"])
        for layer in called
        if layer.get("class_name") in kinds
    }
    return {name for name, number in _references(references) if calls.get(name) == number}


def _references(value: Any) -> Iterator[tuple[str, int]]:
    if is_call(value):
        yield value[0], value[1]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        yield from _references(item)


def _shifted(value: Any, late: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _shifted(item, late) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if is_call(value) and value[0] in late:
        return [value[0], value[1] - 1, *(_shifted(item, late) for item in value[2:])]
    return [_shifted(item, late) for item in value]
