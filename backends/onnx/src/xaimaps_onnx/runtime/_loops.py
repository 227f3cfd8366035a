"""The limit on the iterations of a Loop, which ONNX Runtime does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnxjax._ops.control import MOST_TRIPS
from onnxjax.errors import UnsupportedModelError
from onnxjax.read._nodes import all_nodes


def require_short_loops(model: onnx.ModelProto, known: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Refuse a fixed number of iterations that would not end in an hour.

    Args:
        model: the graph.
        known: the weights and constants by name.

    Raises:
        UnsupportedModelError: a Loop has too many iterations.
    """
    for node in all_nodes(model.graph.node):
        if node.op_type != "Loop" or node.input[0] not in known:
            continue
        trips = int(known[node.input[0]].reshape(-1)[0])
        if trips > MOST_TRIPS:
            raise UnsupportedModelError(
                f"a Loop must have at most {MOST_TRIPS:,} iterations, got {trips:,}; check the "
                "model"
            )
