"""Control flow, which is resolved while the graph is traced if its conditions are static.

A condition that depends on the data becomes JAX's own control flow. It requires the same shapes
and types from both branches and in every iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxjax._arrays import enter, is_static
from onnxjax._jax import jax, jnp, lax
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any
Body = Callable[..., tuple[Array, ...]]
Arrays = tuple[Array, ...]

UNROLLED = 128
"""Loops with at most this many iterations are unrolled, so that shapes may change."""

MOST_TRIPS = 2**20
"""The largest fixed number of iterations: a billion of them would not end in an hour."""


@op("If", kind="control")
def if_(xp: Any, condition: Array, *, then_branch: Body, else_branch: Body) -> Arrays:
    """Return the results of one branch; only a condition that depends on the data compiles both."""
    if is_static(condition):
        return then_branch() if bool(condition) else else_branch()
    try:
        return tuple(
            lax.cond(
                jnp.reshape(condition, ()),
                lambda: tuple(map(_array, then_branch())),
                lambda: tuple(map(_array, else_branch())),
            )
        )
    except TypeError as error:
        raise UnsupportedModelError(
            "the branches of an If that depends on the data give different shapes or types "
            f"({error}); make its condition a constant"
        ) from None


@op("Loop", kind="control")
def loop(
    xp: Any, trips: Array | None, condition: Array | None, *state: Array, body: Body
) -> Arrays:
    """Repeat the body while its condition holds, at most `trips` times."""
    if is_static(trips) and is_static(condition):
        known = 2**62 if trips is None else int(trips)
        if known <= UNROLLED or trips is None:
            return _unroll(body, known, condition, state)
        if (condition is None or bool(condition)) and _always_continues(body, state):
            return _repeat(body, known, state)
    return _while(body, trips, condition, state)


def _unroll(body: Body, trips: int, condition: Array | None, state: Arrays) -> Arrays:
    """Trace each iteration separately, as long as the condition is static."""
    going, start = np.asarray(True if condition is None else bool(condition)), state
    rounds: list[Arrays] = []
    while bool(going) and len(rounds) < trips:
        if len(rounds) > UNROLLED:
            return _while(body, None, condition, start)
        going, *results = body(np.asarray(len(rounds)), going, *state)
        state, scanned = tuple(results[: len(state)]), tuple(results[len(state) :])
        rounds.append(scanned)
        if not is_static(going):  # discard the iterations so far, and start again as a JAX loop
            return _while(body, None if trips == 2**62 else trips, condition, start)
    return (*state, *map(_stacked, zip(*rounds, strict=True)))


def _stacked(parts: Arrays) -> Array:
    """Return the stacked results of all iterations, static if all of them are."""
    return np.stack(parts) if all(map(is_static, parts)) else jnp.stack(parts)


def _always_continues(body: Body, state: Arrays) -> bool:
    """Return whether the body's own condition is constant and true."""
    found = []

    def once(*values: Array) -> None:
        more, *_ = body(np.asarray(0), np.asarray(True), *values)
        found.append(is_static(more) and bool(more))

    jax.eval_shape(once, *map(_array, state))
    return found[0]


def _repeat(body: Body, trips: int, state: Arrays) -> Arrays:
    """Run a fixed number of iterations that is too large to unroll."""
    if trips > MOST_TRIPS:
        raise UnsupportedModelError(
            f"a Loop must have at most {MOST_TRIPS:,} iterations, got {trips:,}; check the model"
        )

    def step(values: Arrays, count: Array) -> tuple[Arrays, Arrays]:
        _, *results = body(count, np.asarray(True), *values)
        scanned = tuple(map(_array, results[len(values) :]))
        return _like(results[: len(values)], values), scanned

    final, stacked = lax.scan(step, tuple(map(_array, state)), jnp.arange(trips))
    return (*final, *stacked)


def _while(body: Body, trips: Any, condition: Array | None, state: Arrays) -> Arrays:
    """Run a loop that is long or ends depending on the data; its shapes must not change."""
    longest = np.iinfo(np.int32).max
    if is_static(trips):
        trips = longest if trips is None else min(int(trips), longest)
    limit = jnp.asarray(trips).reshape(())
    going = jnp.asarray(True if condition is None else condition).reshape(())

    def step(carry: Any) -> Any:
        count, on, values = carry
        more, *results = body(count, on, *values)
        if len(results) > len(values):
            raise UnsupportedModelError(
                "a Loop whose end depends on the data cannot collect an output for each round; "
                "export it with a fixed number of rounds"
            )
        return count + 1, jnp.reshape(more, ()), _like(results, values)

    start = (jnp.zeros((), limit.dtype), going, tuple(map(_array, state)))
    _, _, final = lax.while_loop(lambda c: (c[0] < limit) & c[1], step, start)
    return tuple(final)


def _like(results: Sequence[Array], values: Sequence[Array]) -> Arrays:
    """Return the results as arrays, or refuse those whose shapes or types changed."""
    arrays = tuple(map(_array, results))
    for array, value in zip(arrays, values, strict=True):
        if array.shape != value.shape or array.dtype != value.dtype:
            raise UnsupportedModelError(
                f"a value of a Loop changes from {value.dtype}{list(value.shape)} to "
                f"{array.dtype}{list(array.shape)} in a loop that is not written out; export it "
                f"with a fixed number of rounds, up to {UNROLLED}"
            )
    return arrays


@op("Scan", since=9, kind="control")
def scan(
    xp: Any,
    *inputs: Array,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> Arrays:
    """Run a body over slices of some inputs with a state, and stack its results."""
    n_states = len(inputs) - num_scan_inputs
    axes = scan_input_axes or (0,) * num_scan_inputs
    turned = scan_input_directions or (0,) * num_scan_inputs
    slices = tuple(
        _directed(jnp.moveaxis(x, axis, 0), backwards)
        for x, axis, backwards in zip(inputs[n_states:], axes, turned, strict=True)
    )

    def step(state: Arrays, taken: Arrays) -> tuple[Arrays, Arrays]:
        results = body(*state, *taken)
        return _like(results[:n_states], state), tuple(map(_array, results[n_states:]))

    state, stacked = lax.scan(step, tuple(map(_array, inputs[:n_states])), slices)
    out_axes = scan_output_axes or (0,) * len(stacked)
    out_turned = scan_output_directions or (0,) * len(stacked)
    outputs = (
        jnp.moveaxis(_directed(y, backwards), 0, axis)
        for y, axis, backwards in zip(stacked, out_axes, out_turned, strict=True)
    )
    return (*jax.tree.leaves(state), *outputs)


@op("Scan", since=8)
def scan_8(
    xp: Any,
    lengths: Array | None,
    *inputs: Array,
    body: Body,
    num_scan_inputs: int,
    directions: Sequence[int] | None = None,
) -> Arrays:
    """Run `scan` for each element of a batch; the scanned axes are always the first."""
    if lengths is not None:
        raise UnsupportedModelError("a Scan of opset 8 cannot take lengths here; use opset 9")

    def single(*parts: Array) -> Arrays:
        return scan(
            xp,
            *parts,
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
        )

    return tuple(jax.vmap(single)(*map(_array, inputs)))


def _array(value: Array) -> Array:
    return jnp.asarray(enter(value))


def _directed(x: Array, backwards: int) -> Array:
    return jnp.flip(x, 0) if backwards else x
