"""The choice of the model's output to explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xaimaps.errors import UnsupportedModelError, nearest


def named_outputs(model: Any, value: Any) -> dict[str, Any]:
    """Return a model's outputs by name, in the order of their indices.

    Args:
        model: the model. If it does not name its outputs, they are `output`, or `output_0` and so
            on.
        value: the returned tensor, list or dictionary; the order of a dictionary is that of its
            sorted keys.
    """
    outputs = tf.nest.flatten(value)
    return dict(zip(_names(model, value, len(outputs)), outputs, strict=True))


def chosen_output(outputs: Mapping[str, Any], wanted: str | int | None) -> tuple[str, Any]:
    """Return the name of an output, and the output.

    Args:
        outputs: all of them.
        wanted: a name or an index; None for the first.

    Raises:
        UnsupportedModelError: there is no such output.
    """
    names = list(outputs)
    name = names[0] if wanted is None else wanted
    if isinstance(name, int) and -len(names) <= name < len(names):
        name = names[name]
    if isinstance(name, str) and name in outputs:
        return name, outputs[name]
    near = nearest(wanted, names) if isinstance(wanted, str) else ""
    raise UnsupportedModelError(
        f"`output` must be one of the model's {len(names)} outputs ({', '.join(names)}) or its "
        f"index, got {wanted!r}{near}"
    )


def _names(model: Any, value: Any, count: int) -> list[str]:
    is_named = isinstance(value, Mapping)
    own = sorted(value) if is_named else getattr(model, "output_names", None) or ()
    names = [str(name) for name in own]
    if len(names) == len(set(names)) == count:
        return names
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
