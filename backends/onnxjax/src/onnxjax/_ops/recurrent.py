"""Recurrent layers, as one scan over the steps of a sequence for each direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from onnxjax._jax import jax, jnp, lax
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any
State = tuple[Array, ...]
Function = Callable[[Array], Array]
Names = Sequence[str] | None
Numbers = Sequence[float] | None

Cell = Callable[[Array, State], State]
"""One step: the gates' part of the input, and the state; the new state, the output first."""

DIRECTIONS: Mapping[str, tuple[bool, ...]] = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}
"""Whether each direction of a layer runs backwards."""

ACTIVATIONS: Mapping[str, tuple[tuple[float, ...], Callable[..., Array]]] = {
    "relu": ((), lambda x: jax.nn.relu(x)),
    "tanh": ((), lambda x: jnp.tanh(x)),
    "sigmoid": ((), lambda x: jax.nn.sigmoid(x)),
    "softsign": ((), lambda x: jax.nn.soft_sign(x)),
    "softplus": ((), lambda x: jax.nn.softplus(x)),
    "elu": ((1.0,), lambda x, alpha: jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0)))),
    "leakyrelu": ((0.01,), lambda x, alpha: jnp.where(x >= 0, x, alpha * x)),
    "thresholdedrelu": ((1.0,), lambda x, alpha: jnp.where(x > alpha, x, 0)),
    "affine": ((1.0, 0.0), lambda x, alpha, beta: alpha * x + beta),
    "scaledtanh": ((1.0, 1.0), lambda x, alpha, beta: alpha * jnp.tanh(beta * x)),
    "hardsigmoid": ((0.2, 0.5), lambda x, alpha, beta: jnp.clip(alpha * x + beta, 0, 1)),
}
"""For each activation in small letters, the defaults of its alpha and beta, and its function."""


@op("RNN", since=7, kind="recurrent")
def rnn(
    xp: Any,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    *,
    activation_alpha: Numbers = None,
    activation_beta: Numbers = None,
    activations: Names = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> State:
    """Run a layer whose state is its output."""
    names, bounded = activations or ("Tanh",) * len(w), _bounded(clip)
    functions = _functions(names, activation_alpha, activation_beta)

    def cell(place: int) -> Cell:
        f = functions[place]
        return lambda gates, state: (f(bounded(gates + state[0] @ jnp.transpose(r[place]))),)

    gates = _gates(x, w, b if b is None else b[:, : r.shape[-1]] + b[:, r.shape[-1] :])
    return _run(cell, gates, (initial_h,), r, lengths, direction, layout)


@op("GRU", since=7, kind="recurrent")
def gru(
    xp: Any,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    *,
    activation_alpha: Numbers = None,
    activation_beta: Numbers = None,
    activations: Names = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> State:
    """Run a layer with an update and a reset gate."""
    names, bounded = activations or ("Sigmoid", "Tanh") * len(w), _bounded(clip)
    functions = _functions(names, activation_alpha, activation_beta)
    size = r.shape[-1]
    offsets = jnp.zeros((len(w), 6 * size), x.dtype) if b is None else b

    def cell(place: int) -> Cell:
        f, g = functions[2 * place : 2 * place + 2]
        by_gate = jnp.transpose(r[place])
        own = offsets[place, 3 * size :]

        def step(gates: Array, state: State) -> State:
            (h,) = state
            both = gates[:, : 2 * size] + h @ by_gate[:, : 2 * size] + own[: 2 * size]
            update, reset = jnp.split(f(bounded(both)), 2, axis=-1)
            if linear_before_reset:
                passed = reset * (h @ by_gate[:, 2 * size :] + own[2 * size :])
            else:
                passed = (reset * h) @ by_gate[:, 2 * size :] + own[2 * size :]
            new = g(bounded(gates[:, 2 * size :] + passed))
            return ((1 - update) * new + update * h,)

        return step

    gates = _gates(x, w, offsets[:, : 3 * size])
    return _run(cell, gates, (initial_h,), r, lengths, direction, layout)


@op("LSTM", since=7, kind="recurrent")
def lstm(
    xp: Any,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    p: Array | None = None,
    *,
    activation_alpha: Numbers = None,
    activation_beta: Numbers = None,
    activations: Names = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> State:
    """Run a layer with a cell, and with gates for its input, output and what it forgets."""
    names, bounded = activations or ("Sigmoid", "Tanh", "Tanh") * len(w), _bounded(clip)
    functions = _functions(names, activation_alpha, activation_beta)
    size = r.shape[-1]
    peepholes = jnp.zeros((len(w), 3 * size), x.dtype) if p is None else jnp.asarray(p)

    def cell(place: int) -> Cell:
        f, g, h = functions[3 * place : 3 * place + 3]
        to_input, to_output, to_forget = jnp.split(peepholes[place], 3)

        def step(gates: Array, state: State) -> State:
            before, c = state
            gates = gates + before @ jnp.transpose(r[place])
            enter, leave, forget, new = jnp.split(gates, 4, axis=-1)
            enter = f(bounded(enter + to_input * c))
            kept = 1 - enter if input_forget else f(bounded(forget + to_forget * c))
            c = kept * c + enter * g(bounded(new))
            return f(bounded(leave + to_output * c)) * h(c), c  # ONNX Runtime does not clip c

        return step

    gates = _gates(x, w, b if b is None else b[:, : 4 * size] + b[:, 4 * size :])
    return _run(cell, gates, (initial_h, initial_c), r, lengths, direction, layout)


def _functions(names: Sequence[str], alphas: Numbers, betas: Numbers) -> list[Function]:
    """Return activations; those with parameters take the next ones."""
    left = iter(alphas or ()), iter(betas or ())
    return [_function(name, left) for name in names]


def _function(name: str, left: tuple[Iterator[float], Iterator[float]]) -> Function:
    if name.lower() not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"the activation {name!r} is not supported, only {', '.join(ACTIVATIONS)}"
        )
    defaults, function = ACTIVATIONS[name.lower()]
    numbers = [next(given, default) for given, default in zip(left, defaults, strict=False)]
    return lambda x: function(x, *numbers)


def _bounded(clip: float | None) -> Function:
    return lambda x: x if clip is None else jnp.clip(x, -clip, clip)


def _gates(x: Array, w: Array, b: Array | None) -> Array:
    """Return the part of each direction's gates that comes from the input: (D, ..., gates)."""
    gates = jnp.einsum("abi,dgi->dabg", x, w)
    return gates if b is None else gates + b[:, None, None]


def _run(
    cell: Callable[[int], Cell],
    gates: Array,
    starts: State,
    r: Array,
    lengths: Array | None,
    direction: str,
    layout: int,
) -> State:
    """Run the cell of each direction over its gates.

    Args:
        cell: returns the cell of a direction.
        gates: (D, T, N, gates), or (D, N, T, gates) in layout 1.
        starts: the first state, (D, N, size) or (N, D, size); None for zeros.
        r: the recurrent weights, (D, gates, size).
        lengths: the length of each sequence, (N,); None for all steps.
        direction: the direction of the layer.
        layout: whether the batch comes first.

    Returns:
        The outputs, (T, D, N, size) or (N, T, D, size), and the last state.
    """
    gates = jnp.swapaxes(gates, 1, 2) if layout else gates
    n_steps, batch = gates.shape[1:3]
    zeros = jnp.zeros((len(r), batch, r.shape[-1]), gates.dtype)
    firsts = [zeros if s is None else jnp.swapaxes(s, 0, 1) if layout else s for s in starts]
    ends = n_steps if lengths is None else lengths
    is_inside = jnp.arange(n_steps)[:, None, None] < jnp.reshape(jnp.asarray(ends), (-1, 1))
    results = [
        _scanned(cell(i), gates[i], tuple(s[i] for s in firsts), is_inside, is_backwards)
        for i, is_backwards in enumerate(DIRECTIONS[direction])
    ]
    y, *last = (jnp.stack(parts) for parts in zip(*results, strict=True))
    if layout:
        return jnp.transpose(y, (2, 1, 0, 3)), *(jnp.swapaxes(part, 0, 1) for part in last)
    return jnp.swapaxes(y, 0, 1), *last


def _scanned(cell: Cell, gates: Array, start: State, is_inside: Array, is_backwards: bool) -> State:
    """Return the outputs, zero after the end of a sequence, and the state at its end."""

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
        gates, inside = now
        new = cell(gates, state)
        kept = tuple(jnp.where(inside, *pair) for pair in zip(new, state, strict=True))
        return kept, jnp.where(inside, new[0], 0)

    steps = (gates, jnp.broadcast_to(is_inside, (len(gates), *is_inside.shape[1:])))
    state, outputs = lax.scan(step, tuple(map(jnp.asarray, start)), steps, reverse=is_backwards)
    return outputs, *state
