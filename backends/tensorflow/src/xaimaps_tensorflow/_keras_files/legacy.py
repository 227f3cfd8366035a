"""The configurations in .h5 files, reworded where Keras 3 does not take their words.

Keras 3 reads the .h5 files of Keras 2 in principle. In fact it stops at options that it no longer
has, as the `groups` of a depthwise convolution, at policies of mixed precision, at slashes in
names, at the list of one axis of a batch normalisation in a nested Sequential, at every operator on
tensors, at tensors given by keyword, at initialisers of TensorFlow, and at the layers of ConvNeXt.
In files of its own it takes operators for layers of their names, and loses axes without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xaimaps_tensorflow._keras_files.call_indices import renumbered
from xaimaps_tensorflow._keras_files.configs import (
    CONVNEXT,
    INITIALIZERS,
    find_class,
    find_operator,
)
from xaimaps_tensorflow._keras_files.layer_names import is_call, renamed
from xaimaps_tensorflow._keras_files.operations import OPERATIONS

Config = dict[str, Any]

GROUPED = frozenset({"Conv1D", "Conv2D", "Conv3D"})
"""The layers that still take `groups`; in all others, it could only be 1."""

POLICIES = frozenset({"Policy", "PolicyV1"})
"""What Keras 2 called a `DTypePolicy`; Keras 3 takes its name as well."""

_RECURRENT = ("RNN", "SimpleRNN", "GRU", "LSTM", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_RANDOM = "Brightness Contrast Flip Rotation Translation Zoom".split()
"""Not Crop, which in Keras 3 does not crop but in training."""

UNUSED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("SeparableConv1D", "SeparableConv2D"),
        ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    ),
    **{f"SpatialDropout{rank}D": ("noise_shape", "trainable") for rank in (1, 2, 3)},
    **{f"Random{kind}": ("rng_type",) for kind in _RANDOM},
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape"),
}
"""Options by layer that Keras 2 wrote and did not use for an answer."""

SWITCHES: Mapping[str, str] = {
    **dict.fromkeys(_RECURRENT, "time_major"),
    "MultiHeadAttention": "softmax_robust_masking",
}
"""Options by layer that Keras 3 has no more, and that change nothing where they are off."""

CONSTANT = "_CONSTANT_VALUE"


def reworded(config: Any) -> Any:
    """Return a configuration that Keras 3 reads as Keras 2 read this one."""
    return _reworded(renamed(renumbered(config)))


def _reworded(config: Any) -> Any:
    if isinstance(config, list):
        return [_reworded(item) for item in config]
    if not isinstance(config, dict):
        return config
    part = {key: _reworded(value) for key, value in config.items()}
    if isinstance(part.get("config"), dict) and isinstance(part.get("class_name"), str):
        _reword_layer(part, part["class_name"], part["config"])
    return part


def _reword_layer(part: Config, name: str, config: Config) -> None:
    _reword_options(name, config)
    _reword_calls(part, name, config)
    _place(part, name, config)


def _reword_options(name: str, config: Config) -> None:
    for key in UNUSED.get(name, ()):
        config.pop(key, None)
    switch = SWITCHES.get(name, "")
    if config.get(switch) is False:
        del config[switch]
    if name not in GROUPED and config.get("groups") == 1:
        del config["groups"]
    axis, policy = config.get("axis"), config.get("dtype")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    if isinstance(policy, dict) and policy.get("class_name") in POLICIES:
        config["dtype"] = policy["config"]["name"]


def _reword_calls(part: Config, name: str, config: Config) -> None:
    nodes = part.get("inbound_nodes") or ()
    if name == "TFOpLambda":
        names = OPERATIONS[config["function"]].parameters
        part["inbound_nodes"] = [_reword_node(node, names) for node in nodes]
    elif any(_has_tensors_by_keyword(node) for node in nodes):
        # Unlike operators, layers take a list of one tensor for the tensor.
        part["inbound_nodes"] = [
            _reword_node(node[0] if len(node) == 1 else node, {}) for node in nodes
        ]


def _has_tensors_by_keyword(node: Any) -> bool:
    return isinstance(node, list) and any(
        is_call(value) for call in node if len(call) > 3 for value in call[3].values()
    )


def _place(part: Config, name: str, config: Config) -> None:
    """Name the module of a part that Keras 3, as it looks in the old way, mistakes or misses.

    It takes the operator `Add` for the layer, and `dot`, the way an attention scores, for the
    function; it forgets an `axis` that is a list of several.
    """
    if part.get("module") == INITIALIZERS:
        part |= {"module": "keras.initializers", "registered_name": None}
    operator = find_operator(name) if "trainable" not in config else None
    several = isinstance(config.get("axis"), list) and len(config["axis"]) > 1
    mistaken = several or "score_mode" in config
    found = operator or (find_class(None, name) if mistaken else _of_convnext(name))
    if found is not None and "module" not in part:
        part |= {"module": found.__module__, "registered_name": None}


def _of_convnext(name: str) -> type | None:
    return find_class(CONVNEXT, name) if name in ("LayerScale", "StochasticDepth") else None


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
    return _tensor(value) if is_call(value) else value


def _tensor(call: list[Any]) -> Any:
    """A layer's output; its shape is that of the layer, whatever is written here."""
    if call[0] == CONSTANT:
        return call[2]
    config = {"shape": [None], "dtype": "float32", "keras_history": call[:3]}
    return {"class_name": "__keras_tensor__", "config": config}
