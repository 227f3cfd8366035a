"""The table of operator rules: one function for each operator, found by domain, name and opset.

A rule is a pure function `rule(xp, *inputs, **attributes)`. `xp` is numpy when every input is a
numpy array, so that shape arithmetic folds at trace time in exact integers, and `jax.numpy`
otherwise. Inputs come by position (None for a missing optional one), attributes by the names
of the ONNX schema, with the schema's defaults as the function's defaults: an attribute that the
function does not name is refused at load. A rule returns one array, or a tuple of them.

To add an operator, write its function in the file of its family in `ops/`:

    @op("LeakyRelu", elementwise=True)
    def leaky_relu(xp, x, *, alpha=0.01):
        return xp.where(x >= 0, x, alpha * x)

When a later opset changes an operator's meaning, its rule is a second function with `since`.
The last function that is registered for an operator and a `since` wins, so that a user's own
replaces ours.
A parameter `n_outputs` is filled with the number of outputs that the node names.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

RuleFunction = Callable[..., Any]
Function = TypeVar("Function", bound=RuleFunction)


@dataclass(frozen=True)
class Rule:
    """How one operator runs, from opset `since` on.

    Attributes:
        fn: the function.
        since: the first opset that it serves.
        static: the positions of inputs that must be known when the graph is traced.
        attributes: the names of the attributes that it understands.
        counts_outputs: whether it takes `n_outputs`.
        elementwise: whether it has one output, of the shape that its inputs broadcast to.
    """

    fn: RuleFunction
    since: int
    static: frozenset[int]
    attributes: frozenset[str]
    counts_outputs: bool
    elementwise: bool = False

    @classmethod
    def of(
        cls,
        fn: RuleFunction,
        since: int = 1,
        static: Sequence[int] = (),
        *,
        elementwise: bool = False,
    ) -> Rule:
        """The rule that a function's own signature describes."""
        parameters = inspect.signature(fn).parameters.values()
        names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        attributes = frozenset(names - {"n_outputs"})
        counts_outputs = "n_outputs" in names
        return cls(fn, since, frozenset(static), attributes, counts_outputs, elementwise)


_RULES: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)


def op(
    *names: str,
    since: int = 1,
    static: Sequence[int] = (),
    domain: str = "",
    elementwise: bool = False,
) -> Callable[[Function], Function]:
    """Register the decorated function as the rule of the operators `names`.

    Args:
        names: operator names; several share one rule.
        since: the first opset of `domain` that the rule serves, until another rule's `since`.
        static: positions of inputs whose values the rule needs as numpy arrays.
        domain: the operator set; "" is ONNX's own.
        elementwise: whether the rule has one output, of the shape that its inputs broadcast to as
            in numpy. It may then be given them with their axes in another order.
    """

    def register(fn: Function) -> Function:
        for name in names:
            rules = _RULES["" if domain == "ai.onnx" else domain, name]
            rules.append(Rule.of(fn, since, static, elementwise=elementwise))
            rules.sort(key=lambda rule: rule.since)
        return fn

    return register


def find_rule(domain: str, name: str, opset: int) -> Rule | None:
    """The newest rule that serves `opset`, or None."""
    serving = [rule for rule in _RULES.get((domain, name), []) if rule.since <= opset]
    return serving[-1] if serving else None


def operators() -> tuple[tuple[str, str], ...]:
    """Every registered `(domain, name)`, sorted."""
    return tuple(sorted(key for key, rules in _RULES.items() if rules))
