"""Translation of the configurations in .h5 files for Keras 3.

In principle, Keras 3 reads the .h5 files of Keras 2. In fact, it fails at options that it no longer
has, such as the `groups` of a depthwise convolution; at policies of mixed precision; at slashes in
names; at a batch normalisation in a nested Sequential whose axis is a list; at every operator on
tensors; at tensors given by keyword; at initialisers of TensorFlow; and at the layers of ConvNeXt.
In its own files it confuses operators with layers of the same name, and silently loses axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xaimaps_keras.call_indices import renumbered
from xaimaps_keras.configs import (
    CONVNEXT,
    INITIALIZERS,
    find_class,
    find_operator,
)
from xaimaps_keras.layer_names import is_call, renamed
from xaimaps_keras.operations import OPERATIONS

Config = dict[str, Any]

GROUPED = frozenset({"Conv1D", "Conv2D", "Conv3D"})
"""The layers that still have the option `groups`; in all others it could only be 1."""

POLICIES = frozenset({"Policy", "PolicyV1"})
"""The names of `DTypePolicy` in Keras 2; Keras 3 also accepts the name of a policy."""

_RECURRENT = ("RNN", "SimpleRNN", "GRU", "LSTM", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_RANDOM = "Brightness Contrast Flip Rotation Translation Zoom".split()
"""Random layers without Crop, which in Keras 3 crops only in training."""

UNUSED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("SeparableConv1D", "SeparableConv2D"),
        ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    ),
    **{f"SpatialDropout{rank}D": ("noise_shape", "trainable") for rank in (1, 2, 3)},
    **{f"Random{kind}": ("rng_type",) for kind in _RANDOM},
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape"),
}
"""Options by layer that Keras 2 wrote, and that do not change its outputs."""

SWITCHES: Mapping[str, str] = {
    **dict.fromkeys(_RECURRENT, "time_major"),
    "MultiHeadAttention": "softmax_robust_masking",
}
"""Options by layer that Keras 3 no longer has, and that have no effect if they are false."""

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
        # Layers accept a list of one tensor instead of the tensor; operators do not.
        part["inbound_nodes"] = [
            _reword_node(node[0] if len(node) == 1 else node, {}) for node in nodes
        ]


def _has_tensors_by_keyword(node: Any) -> bool:
    return isinstance(node, list) and any(
        is_call(value) for call in node if len(call) > 3 for value in call[3].values()
    )


def _place(part: Config, name: str, config: Config) -> None:
    """Add the module to a part that Keras 3 does not find, or confuses with another, by its name.

    Keras 3 confuses the operator `Add` with the layer, and `dot`, the score mode of an attention,
    with the function. It also loses an `axis` that is a list of several.
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
    """Return a call in the form of Keras 3, which ignores tensors among the old keywords."""
    if isinstance(node, dict):
        return node
    several = isinstance(node[0], list)
    first = [_tensor(call) for call in node] if several else _tensor(node)
    keywords = node[0][3] if several else node[3]
    given = {key: _value(value) for key, value in keywords.items() if key != "name"}
    if isinstance(first, dict | list):
        return {"args": [first], "kwargs": given}
    # A constant is the first operand, as in `1 - x`. In Keras 3, positional arguments are tensors.
    key = next(key for key, value in given.items() if isinstance(value, dict))
    return {"args": [given.pop(key)], "kwargs": {next(iter(names)): first, **given}}


def _value(value: Any) -> Any:
    return _tensor(value) if is_call(value) else value


def _tensor(call: list[Any]) -> Any:
    """Return a reference to a layer's output; Keras ignores the shape here and uses the layer's."""
    if call[0] == CONSTANT:
        return call[2]
    config = {"shape": [None], "dtype": "float32", "keras_history": call[:3]}
    return {"class_name": "__keras_tensor__", "config": config}
