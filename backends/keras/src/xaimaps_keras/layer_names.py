"""Layer names with a slash, such as `Conv/BatchNorm` in the MobileNetV3 of Keras 2.

Keras 3 reserves the slash for paths and refuses such a name. It is replaced by an underscore, as in
most names of Keras 3's own MobileNetV3. The names of weights are unchanged, because Keras reads
weights in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def renamed(config: Any) -> Any:
    """Return a configuration with underscores instead of slashes in layer names."""
    names = _new_names(config)
    return _replaced(config, names) if names else config


def is_call(value: Any) -> bool:
    """Return whether a value is a reference to a layer's output: name, number of the call, ..."""
    return (
        isinstance(value, list)
        and len(value) >= 3
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def _new_names(config: Any) -> dict[str, str]:
    names = list(dict.fromkeys(_layer_names(config)))
    taken, new = set(names), {}
    for name in names:
        if "/" in name:
            new[name] = _free(name.replace("/", "_"), taken)
            taken.add(new[name])
    return new


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _layer_names(config: Any) -> Iterator[str]:
    if isinstance(config, list):
        for item in config:
            yield from _layer_names(item)
    elif isinstance(config, dict):
        own = config.get("config")
        if "class_name" in config and isinstance(own, dict) and isinstance(own.get("name"), str):
            yield own["name"]
        for value in config.values():
            yield from _layer_names(value)


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        first = [names.get(value[0], value[0])] if is_call(value) else []
        return first + [_replaced(item, names) for item in value[len(first) :]]
    if not isinstance(value, dict):
        return value
    new = {key: _replaced(item, names) for key, item in value.items()}
    if isinstance(new.get("name"), str):
        new["name"] = names.get(new["name"], new["name"])
    return new
