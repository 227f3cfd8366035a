"""The functions that an equation of a traced function calls, and the iterations of its scans."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

MAX_ITERATIONS = 128
"""The most iterations of a scan whose values are layers; longer scans go over time, not blocks."""

ITERATION = "xaimaps iteration "
"""The start of the name of the function that computes one iteration."""


def closed(body: Any) -> Any:
    """Return a function's equations with their constants."""
    return body if isinstance(body, core.ClosedJaxpr) else core.ClosedJaxpr(body, ())


def bodies(equation: Any) -> Iterator[Any]:
    """Yield the functions that an equation calls."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.Jaxpr | core.ClosedJaxpr):
                yield closed(one)


def equations_in(body: Any) -> Iterator[Any]:
    """Yield the equations of a function and of all functions that it calls."""
    for equation in body.jaxpr.eqns:
        yield equation
        for inner in bodies(equation):
            yield from equations_in(inner)


def peeled(equation: Any, opened: Collection[int]) -> Any:
    """Return a scan as equations, with some of its iterations as calls of their own.

    The iterations before, between and after them stay scans, so that the program grows by the
    iterations `opened` alone.

    Args:
        equation: the scan.
        opened: the iterations to take out, counted along the arrays that it scans over.
    """
    params = equation.params
    body, length = params["jaxpr"], params["length"]
    step = core.jaxpr_as_fun(body)
    n_constants, n_carries = params["num_consts"], params["num_carry"]

    def iteration(index: int, constants: Any, carry: Any, xs: Any) -> Any:
        def call(*arguments: Any) -> Any:
            return step(*arguments)

        call.__name__ = f"{ITERATION}{index}"
        results = jax.jit(call)(*constants, *carry, *(x[index] for x in xs))
        return results[:n_carries], [value[None] for value in results[n_carries:]]

    def between(start: int, stop: int, constants: Any, carry: Any, xs: Any) -> Any:
        def one(carry: Any, slices: Any) -> Any:
            results = step(*constants, *carry, *slices)
            return results[:n_carries], results[n_carries:]

        reverse = params["reverse"]
        return jax.lax.scan(one, carry, [x[start:stop] for x in xs], stop - start, reverse)

    def whole(*arguments: Any) -> Any:
        constants, rest = arguments[:n_constants], arguments[n_constants:]
        carry, xs = list(rest[:n_carries]), rest[n_carries:]
        made = []
        for start, stop in _parts(length, opened, params["reverse"]):
            if start in opened:
                carry, ys = iteration(start, constants, carry, xs)
            else:
                carry, ys = between(start, stop, constants, carry, xs)
            made.append(ys)
        ordered = reversed(made) if params["reverse"] else made
        return [*carry, *(jnp.concatenate(parts) for parts in zip(*ordered, strict=True))]

    return jax.make_jaxpr(whole)(*(atom.aval for atom in equation.invars))


def _parts(length: int, opened: Collection[int], reverse: bool) -> Sequence[tuple[int, int]]:
    """Return the ranges of iterations in the order of computation; those opened are alone."""
    edges = sorted({0, length, *opened, *(index + 1 for index in opened)})
    parts = list(itertools.pairwise(edges))
    return parts[::-1] if reverse else parts


def iteration_of(equation: Any) -> int | None:
    """Return the index of the iteration that an equation of `peeled` calls, None for others."""
    name = str(equation.params.get("name", ""))
    return int(name.removeprefix(ITERATION)) if name.startswith(ITERATION) else None
