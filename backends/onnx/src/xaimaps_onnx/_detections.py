"""Files that return boxes, scores and classes in three outputs, which become one output of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxjax.read import Source

DETECTIONS = "detections"
"""The name of the output of rows: corners, score and class, as YOLOv10 returns them."""

PREFIX = "detection_"
"""The prefix of the names of TensorFlow's detection API, whose corners are y0, x0, y1, x1."""

RANK = 3
"""The number of axes of boxes `(N, A, 4)`; those of one image may lack the first."""

CLASSES = ("labels", "classes")
INTEGERS = frozenset({TensorProto.INT64, TensorProto.INT32})


def with_detections(source: Source) -> Source:
    """Make boxes, scores and classes one output `(N, A + 2, 6)`, in place, if a file returns them.

    The boxes are best first, so that a box of a changed image is in another row, and can only be
    found with its score and its class. Two last rows of zeros are no boxes: an image may have none,
    and a single row would be a vector of scores.

    Args:
        source: the model; its other outputs follow.
    """
    graph = source.proto.graph
    found = _by_name(graph) or _by_type(graph)
    if found is None or any(value.name == DETECTIONS for value in graph.output):
        return source
    _add_rows(graph, found)
    made = helper.make_tensor_value_info(DETECTIONS, TensorProto.FLOAT, [None, None, 6])
    graph.output.insert(0, made)
    return source


def _by_name(graph: onnx.GraphProto) -> Mapping[str, onnx.ValueInfoProto] | None:
    """Return the outputs called boxes, scores and labels or classes, with or without a prefix."""
    named = {value.name.removeprefix(PREFIX): value for value in graph.output}
    classes = next((named[name] for name in CLASSES if name in named), None)
    if classes is None or not {"boxes", "scores"} <= named.keys():
        return None
    found = {"boxes": named["boxes"], "scores": named["scores"], "classes": classes}
    rank, *others = (len(value.type.tensor_type.shape.dim) for value in found.values())
    return found if rank in (RANK - 1, RANK) and others == [rank - 1] * 2 else None


def _by_type(graph: onnx.GraphProto) -> Mapping[str, onnx.ValueInfoProto] | None:
    """Return the outputs of torchvision, which its exporter gives numbers as names."""
    if len(graph.output) != 3 or any(value.name.isalpha() for value in graph.output):
        return None
    boxes, classes, scores = graph.output
    sizes = boxes.type.tensor_type.shape.dim
    is_known = len(sizes) == 2 and sizes[-1].dim_value == 4
    if not is_known or classes.type.tensor_type.elem_type not in INTEGERS:
        return None
    return {"boxes": boxes, "scores": scores, "classes": classes}


def _add_rows(graph: onnx.GraphProto, found: Mapping[str, onnx.ValueInfoProto]) -> None:
    """Add the nodes that join the outputs."""
    boxes, scores, classes = (found[part].name for part in ("boxes", "scores", "classes"))
    images = 0 if len(found["boxes"].type.tensor_type.shape.dim) == RANK else 1
    constants = {
        "order": [1, 0, 3, 2] if boxes.startswith(PREFIX) else [0, 1, 2, 3],
        "four": [images, -1, 4],
        "column": [images, -1, 1],
        "pads": [0, 0, 0, 0, 2, 0],
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.array(numbers), _inner(name))
        for name, numbers in constants.items()
    )
    columns = [_inner("corners"), _inner("scores"), _inner("classes")]
    nodes: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Reshape", [boxes, _inner("four")], _inner("boxes"), {}),
        ("Gather", [_inner("boxes"), _inner("order")], columns[0], {"axis": RANK - 1}),
        ("Cast", [classes], _inner("floats"), {"to": TensorProto.FLOAT}),
        ("Reshape", [scores, _inner("column")], columns[1], {}),
        ("Reshape", [_inner("floats"), _inner("column")], columns[2], {}),
        ("Concat", columns, _inner("rows"), {"axis": RANK - 1}),
        ("Pad", [_inner("rows"), _inner("pads")], DETECTIONS, {}),
    )
    graph.node.extend(helper.make_node(kind, reads, [to], **own) for kind, reads, to, own in nodes)


def _inner(name: str) -> str:
    return f"{DETECTIONS}/{name}"
