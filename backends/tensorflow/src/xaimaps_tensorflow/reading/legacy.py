"""The configurations in .h5 files, reworded where Keras 3 does not take their words.

Keras 3 reads the .h5 files of Keras 2 in principle. In fact it stops at the `groups` of a depthwise
convolution, at the list of one axis of a batch normalisation in a nested Sequential, and at every
operator on tensors. In files of its own it takes operators for layers of their names, and loses
axes without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xaimaps_tensorflow.reading.configs import find_class, find_operator
from xaimaps_tensorflow.reading.operations import OPERATIONS

Config = dict[str, Any]

GROUPED = frozenset({"Conv1D", "Conv2D", "Conv3D"})
"""The layers that still take `groups`; in all others, it could only be 1."""

CONSTANT = "_CONSTANT_VALUE"


def reworded(config: Any) -> Any:
    """Return a configuration that Keras 3 reads as Keras 2 read this one."""
    if isinstance(config, list):
        return [reworded(item) for item in config]
    if not isinstance(config, dict):
        return config
    part = {key: reworded(value) for key, value in config.items()}
    if isinstance(part.get("config"), dict) and isinstance(part.get("class_name"), str):
        _reword_layer(part, part["class_name"], part["config"])
    return part


def _reword_layer(part: Config, name: str, config: Config) -> None:
    if name not in GROUPED and config.get("groups") == 1:
        del config["groups"]
    axis = config.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    if name == "TFOpLambda":
        names = OPERATIONS[config["function"]].parameters
        part["inbound_nodes"] = [
            _reword_node(node, names) for node in part.get("inbound_nodes", ())
        ]
    _place(part, name, config)


def _place(part: Config, name: str, config: Config) -> None:
    """Name the module of a part that Keras 3, as it looks in the old way, mistakes.

    It takes the operator `Add` for the layer, and forgets an `axis` that is a list of several.
    """
    operator = find_operator(name) if "trainable" not in config else None
    several = isinstance(config.get("axis"), list) and len(config["axis"]) > 1
    found = operator or (find_class(None, name) if several else None)
    if found is not None and "module" not in part:
        part |= {"module": found.__module__, "registered_name": None}


def _reword_node(node: list[Any] | Config, names: Mapping[str, str]) -> Config:
    """A call as Keras 3 writes it: Keras 3 finds no tensors among the old keywords."""
    if isinstance(node, dict):
        return node
    several = isinstance(node[0], list)
    first = [_tensor(call) for call in node] if several else _tensor(node)
    keywords = node[0][3] if several else node[3]
    given = {key: _value(value) for key, value in keywords.items() if key != "name"}
    if isinstance(first, dict | list):
        return {"args": [first], "kwargs": given}
    # A constant comes first, as in `1 - x`: Keras 3 takes only tensors by their position.
    key = next(key for key, value in given.items() if isinstance(value, dict))
    return {"args": [given.pop(key)], "kwargs": {next(iter(names)): first, **given}}


def _value(value: Any) -> Any:
    is_call = isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str)
    return _tensor(value) if is_call else value


def _tensor(call: list[Any]) -> Any:
    """A layer's output; its shape is that of the layer, whatever is written here."""
    if call[0] == CONSTANT:
        return call[2]
    config = {"shape": [None], "dtype": "float32", "keras_history": call[:3]}
    return {"class_name": "__keras_tensor__", "config": config}
