"""Which of a model's outputs is explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xaimaps.errors import UnsupportedModelError, nearest


def chosen_output(model: Any, value: Any, wanted: str | int | None) -> Any:
    """One tensor of what a model returns.

    Args:
        model: for the names of its outputs.
        value: a tensor, or a list or dictionary of them.
        wanted: a name or an index; None for the first.

    Raises:
        UnsupportedModelError: there is no such output.
    """
    outputs = tf.nest.flatten(value)
    if wanted is None:
        return outputs[0]
    names = _names(model, value, len(outputs))
    if isinstance(wanted, str) and wanted in names:
        return outputs[names.index(wanted)]
    if isinstance(wanted, int) and -len(outputs) <= wanted < len(outputs):
        return outputs[wanted]
    near = nearest(wanted, names) if isinstance(wanted, str) else ""
    raise UnsupportedModelError(
        f"`output` must be one of the model's {len(outputs)} outputs "
        f"({', '.join(names) or 'which have no names'}) or its index, got {wanted!r}{near}"
    )


def _names(model: Any, value: Any, count: int) -> list[str]:
    if isinstance(value, Mapping):
        return sorted(map(str, value))  # as TensorFlow flattens it
    names = list(getattr(model, "output_names", None) or ())
    return names if len(names) == count else []
