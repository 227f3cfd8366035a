"""A traced function as one list of equations over named values.

The name of a value is, in this order: the name that a tap or `jax.ad_checkpoint.checkpoint_name`
gave it; the `jax.named_scope` of which it is the result; or its scope and operation.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from jax.extend import core
from onnxjax.graph import Graph

from xaimaps_jax._calls import (
    MAX_ITERATIONS,
    bodies,
    equations_in,
    iteration_of,
    peeled,
)
from xaimaps_jax._operations import CUSTOM, TAPS, Equation
from xaimaps_jax._tap import MODULE

Array = Any
Place = tuple[Any, ...]
"""The indices of the calls around an equation, and its own; an iteration is `(index, k)`."""

INLINED = frozenset({"jit", "pjit", "closed_call", "core_call"})
"""Calls that change nothing, so that they are always opened."""

AROUND = "around the iterations"
"""Marks the places of the equations that join the parts of a scan."""

REMAT = frozenset({"remat2", "checkpoint"})

ATOMIC = frozenset("relu relu6 leaky_relu elu selu celu log_softmax".split())
"""Functions of JAX that count as one operation each, although they are made of several."""


@dataclass(frozen=True)
class Scope:
    """The named scopes and iterations around an equation.

    Attributes:
        path: the names of the scopes, joined by "/".
        iterations: for each scan around it, the number of leading parts of a tap's name that name
            the scan, and the iteration.
    """

    path: str = ""
    iterations: tuple[tuple[int, int], ...] = ()

    def inside(self, stack: str) -> Scope:
        """Return this scope with more names, or that of the last module in them."""
        _, is_module, rest = stack.rpartition(MODULE)
        if is_module:
            return replace(self, path=self.tapped(rest))
        return replace(self, path="/".join(filter(None, (self.path, stack))))

    def tapped(self, name: str) -> str:
        """Return the name of a tap, with the iterations at the modules that are scanned over."""
        path, mark, result = name.partition("#")
        parts = path.split("/")
        for depth, index in self.iterations:
            parts[depth - 1] += f"[{index}]"
        return "/".join(parts) + mark + result


@dataclass
class Flat:
    """The equations of a function and of the functions that it calls.

    Attributes:
        root: the scope of the whole function, which names leave out.
        opened: the calls whose equations are listed; None for all that can be.
        equations: the equations by place, in the order of computation.
        constants: the constants by name.
        hidden: the taps inside of calls that cannot be opened.
        has_closable: whether a call was opened that could stay closed.
    """

    root: str
    opened: Collection[Place] | None = None
    equations: dict[Place, Equation] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    has_closable: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def names(self) -> Mapping[Place, str]:
        """Return the name of the first result of each equation, by place.

        The equations that join the parts of a scan have none.
        """
        own = {place: one for place, one in self.equations.items() if AROUND not in place[-2:]}
        return dict(zip(own, _names(list(own.values())), strict=True))

    def graph(
        self, inputs: Sequence[str], results: Sequence[str], names: Mapping[Place, str]
    ) -> Graph:
        """Return all equations as a graph of named values.

        Args:
            inputs: the names of the function's inputs.
            results: the names of its results, as `add` returned them.
            names: the names of the first results of equations, by place.
        """
        known = {
            one.outputs[0]: names[place] for place, one in self.equations.items() if place in names
        }
        equations = _in_modules(
            [_renamed(one, known) for one in self.equations.values()], inputs[-1]
        )
        outputs = tuple(known.get(name, name) for name in results)
        return Graph(cast("Any", equations), self.constants, tuple(inputs), outputs)

    def add(
        self, body: Any, inputs: Sequence[str], scope: Scope = Scope(), calls: Place = ()
    ) -> list[str]:
        """Add the equations of a function; return the names of its results."""
        names = dict(zip(body.jaxpr.invars, inputs, strict=True))
        names.update(
            (var, self._constant(value))
            for var, value in zip(body.jaxpr.constvars, body.consts, strict=True)
        )

        def name_of(atom: Any) -> str:
            return self._constant(atom.val) if isinstance(atom, core.Literal) else names[atom]

        for index, equation in enumerate(body.jaxpr.eqns):
            inner = scope.inside(self._stack(equation))
            read = tuple(map(name_of, equation.invars))
            results = self._add_equation(equation, read, inner, (*calls, index))
            names.update(zip(equation.outvars, results, strict=True))
        return [name_of(atom) for atom in body.jaxpr.outvars]

    def _stack(self, equation: Any) -> str:
        """Return the named scopes of an equation, without transformations such as `vmap(...)`."""
        parts = re.sub(r"\w+\(|\)", "", str(equation.source_info.name_stack)).split("/")
        return "/".join(filter(None, parts[parts[0] == self.root :]))

    def _add_equation(
        self, equation: Any, inputs: tuple[str, ...], scope: Scope, place: Place
    ) -> Sequence[str]:
        operator = _operator(equation)
        if (index := iteration_of(equation)) is not None:
            *calls, scan, _, _ = place
            return self._iterate(equation, inputs, scope, (*calls, (scan, index)))
        if operator in INLINED:
            return self.add(next(bodies(equation)), inputs, scope, place)
        if self._opens(equation, operator, place):
            self.has_closable = True
            return self.add(next(bodies(equation)), inputs, scope, place)
        if operator == "scan" and (iterations := self._iterations(equation, place)):
            self.has_closable = True
            return self.add(peeled(equation, iterations), inputs, scope, (*place, AROUND))
        self.hidden.update(scope.tapped(name) for name in _taps(equation))
        results = tuple(self._new() for _ in equation.outvars)
        self.equations[place] = Equation(
            scope.tapped(equation.params["name"]) if operator in TAPS else scope.path,
            operator,
            equation,
            inputs,
            results,
        )
        return results

    def _iterate(
        self, equation: Any, inputs: tuple[str, ...], scope: Scope, place: Place
    ) -> Sequence[str]:
        """Add the equations of one iteration of a scan."""
        _, index = place[-1]
        (body,) = bodies(equation)
        depth = _common([name.partition("#")[0].split("/") for name in _taps(equation)])
        path = f"{scope.path or 'scan'}[{index}]"
        iterations = (*scope.iterations, (max(depth, 1), index))
        return self.add(body, inputs, Scope(path, iterations), place)

    def _opens(self, equation: Any, operator: str, place: Place) -> bool:
        if self.opened is not None:
            return place in self.opened
        return operator in REMAT or (operator in CUSTOM and any(_taps(equation)))

    def _iterations(self, equation: Any, place: Place) -> Collection[int]:
        """Return the iterations of a scan to open."""
        length = equation.params["length"]
        *calls, own = place
        if self.opened is not None:
            return [k for k in range(length) if (*calls, (own, k)) in self.opened]
        return range(length) if length <= MAX_ITERATIONS else ()

    def _new(self) -> str:
        """Return an unused name."""
        return f"v{next(self._numbers)}"

    def _constant(self, value: Array) -> str:
        name = self._new()
        self.constants[name] = value
        return name


def _renamed(equation: Equation, names: Mapping[str, str]) -> Equation:
    """Return an equation whose values have the names that users know."""
    inputs, outputs = (
        tuple(names.get(name, name) for name in group)
        for group in (equation.inputs, equation.outputs)
    )
    return replace(equation, inputs=inputs, outputs=outputs)


def _in_modules(equations: Sequence[Equation], images: str) -> tuple[Equation, ...]:
    """Return the equations with the call of the module that each is a part of.

    Only modules without modules inside count, apart from those that do not see the images. The tap
    of its result ends a call.
    """
    taps = {equation.scope for equation in _behind(equations, images) if equation.is_tap}
    leaves = taps.difference(outer for name in taps for outer in _parents(name))
    ends: dict[str, str] = {}
    found = []
    for equation in reversed(equations):
        module = next((path for path in _parents(equation.scope + "/") if path in leaves), "")
        if equation.is_tap:
            ends[module] = equation.outputs[0]
        found.append(replace(equation, module=ends.get(module, "") if module else ""))
    return tuple(reversed(found))


def _behind(equations: Sequence[Equation], images: str) -> Iterator[Equation]:
    """Yield the equations that depend on the images."""
    data = {images}
    for equation in equations:
        if data.intersection(equation.inputs):
            data.update(equation.outputs)
            yield equation


def _parents(path: str) -> Iterator[str]:
    """Yield the paths above a path, nearest first."""
    while "/" in path:
        path, _, _ = path.rpartition("/")
        yield path


def _common(paths: Sequence[Sequence[str]]) -> int:
    """Return the number of leading parts that all paths share."""
    parts = zip(*paths, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, parts))


def _taps(equation: Any) -> Iterator[str]:
    """Yield the names of the taps in the functions that an equation calls."""
    for body in bodies(equation):
        for one in equations_in(body):
            if one.primitive.name in TAPS:
                yield one.params["name"]


def _operator(equation: Any) -> str:
    """Return the name of a known activation, or of the equation's primitive."""
    name: str = equation.primitive.name
    if name == "custom_jvp_call":
        inner = equation.params["call_jaxpr"].jaxpr.eqns
        return _operator(inner[0]) if len(inner) == 1 else name
    if name in ("jit", "pjit") and equation.params["name"] in ATOMIC:
        return str(equation.params["name"])
    if name == "max" and any(_is_zero(atom) for atom in equation.invars):  # jnp.maximum(x, 0)
        return "relu"
    return name


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, core.Literal) and not np.any(atom.val)


def _names(equations: Sequence[Equation]) -> Iterator[str]:
    """Yield the name of each equation's value.

    A tap has its own name, with a number if several taps have it. The last value of any other scope
    has the scope's name. Each other value has that of its scope and operation, and a number if it
    is not the first.
    """
    taps = Counter(equation.scope for equation in equations if equation.is_tap)
    last = {equation.scope: index for index, equation in enumerate(equations)}
    count: Counter[str] = Counter()
    for index, equation in enumerate(equations):
        scope = equation.scope
        if equation.is_tap:
            yield f"{scope}:{count[scope]}" if taps[scope] > 1 else scope
            count[scope] += 1
        elif scope and last[scope] == index and scope not in taps:
            yield scope
        else:
            path = "/".join(filter(None, (scope, equation.operator)))
            yield f"{path}_{count[path]}" if count[path] else path
            count[path] += 1
