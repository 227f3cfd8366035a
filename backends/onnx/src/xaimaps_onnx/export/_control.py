"""A scan as a Loop in the file, and a condition as an If."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnxjax.read import needed

from xaimaps_onnx.export._traced import Recorder, Traced

Step = Callable[[Any, Any], tuple[Any, Any]]


def looped(outer: Recorder, step: Step, carry: Any, xs: Any) -> tuple[Any, Any]:
    """Write `step(carry, x) -> (carry, y)`, over the first axis of `xs`, as a Loop.

    Args:
        outer: the outermost recorder of the file.
        step: the function of one turn.
        carry: an array, or a tuple of arrays.
        xs: an array, or a tuple of arrays of equal length.
    """
    arrays, starts = _parts(xs), [outer.constant(one) for one in _parts(carry)]
    length = arrays[0].shape[0]
    if length == 1:
        found, y = step(carry, _as_given(xs, [one[0, ...] for one in arrays]))
        return found, None if y is None else _as_given(y, [one[None] for one in _parts(y)])
    at = outer.current
    with outer.body() as body:
        turn, goes_on = (Traced(body, body.name(), (), kind) for kind in (np.int64, np.bool_))
        state = [Traced(body, body.name(), one.shape, one.dtype) for one in starts]
        now = [body.emit("Gather", [one, turn], axis=0) for one in arrays]
        found, y = step(_as_given(carry, state), _as_given(xs, now))
    ys = [] if y is None else _parts(y)
    results = [body.emit_here("Identity", [one], body) for one in (goes_on, *_parts(found), *ys)]
    graph = _graph(body, [turn, goes_on, *state], results)
    made = [at.name() for _ in results[1:]]
    read = [at.constant(np.int64(length)).name, "", *(one.name for one in starts)]
    at.nodes.append(helper.make_node("Loop", read, made, f"{made[0]}/loop", body=graph))
    ends = [Traced(at, n, one.shape, one.dtype) for n, one in zip(made, starts, strict=False)]
    stacks = zip(made[len(starts) :], results[1 + len(starts) :], strict=True)
    stacked = [Traced(at, name, (length, *one.shape), one.dtype) for name, one in stacks]
    return _as_given(carry, ends), _as_given(y, stacked) if stacked else None


def branched(
    outer: Recorder, predicate: Any, fn: Callable[[Any], Any], x: Any, otherwise: Any
) -> Traced:
    """Write `fn(x)` if a predicate is true, and else `otherwise`, as an If.

    Args:
        outer: the outermost recorder of the file.
        predicate: a boolean of shape `()`.
        fn: what is in the branch, as far as it depends on `x`.
        x: an array.
        otherwise: an array of the shape and type of the result.
    """
    with outer.body() as yes:
        found = fn(yes.emit_here("Identity", [x], yes))
    with outer.body() as no:
        pass
    results = [r.emit_here("Identity", [one], r) for r, one in ((yes, found), (no, otherwise))]
    branches = [_graph(one.recorder, [], [one]) for one in results]
    at, made = outer.current, outer.name()
    node = helper.make_node(
        "If",
        [predicate.name],
        [made],
        f"{made}/if",
        then_branch=branches[0],
        else_branch=branches[1],
    )
    at.nodes.append(node)
    return Traced(at, made, otherwise.shape, otherwise.dtype)


def _graph(body: Recorder, inputs: Sequence[Traced], outputs: Sequence[Traced]) -> onnx.GraphProto:
    nodes, _ = needed(body.nodes, (), [one.name for one in outputs])
    return helper.make_graph(
        nodes,
        f"{outputs[0].name}/body",
        list(map(_declared, inputs)),
        list(map(_declared, outputs)),
    )


def _declared(one: Traced) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(one.dtype)
    return helper.make_tensor_value_info(one.name, kind, [None] * one.ndim)


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def _as_given(like: Any, parts: Sequence[Any]) -> Any:
    """Return parts as a tuple if `like` is one, and else the only part."""
    return tuple(parts) if isinstance(like, tuple) else parts[0]
