"""One row for each operator: the function that computes it, and its traits.

A rule is a pure function `rule(xp, *inputs, **attributes)`. `xp` is numpy when every input is a
numpy array, so that shape arithmetic is exact while JAX traces, and `jax.numpy` otherwise. Inputs
are positional (None for a missing optional one). Attributes are keyword arguments with the names
and the defaults of the ONNX schema; an attribute that the function does not name is refused when
the model is loaded. A rule returns one array, or a tuple of arrays.

To add an operator, write its function in the file of its family in `_ops/`:

    @op("LeakyRelu", kind="relu", elementwise=True, homogeneous=True)
    def leaky_relu(xp, x, *, alpha=0.01):
        return xp.where(x >= 0, x, alpha * x)

The decorator is the only source of an operator's traits: graph passes and readers of graphs do
not look at its name. Each trait is given once. If a later opset changes how an operator is
computed, its rule is a second function with `since`, which inherits the other traits.
The last function that is registered for an operator and a `since` wins, so that a user's own
function replaces a built-in one.
A parameter `n_outputs` receives the number of outputs that the node names.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args

RuleFunction = Callable[..., Any]
Function = TypeVar("Function", bound=RuleFunction)

Kind = Literal[
    "view",  # returns its first input, in another shape or type at most
    "transpose",  # reorders axes
    "slice",  # takes a part of its first input
    "pad",  # adds a border
    "expand",  # repeats its first input
    "resize",  # samples its first input at another size
    "rearrange",  # moves channels to spatial positions, or back
    "concat",  # joins its inputs along an axis
    "select",  # takes each element from one of its inputs
    "sum",  # adds or subtracts its inputs
    "product",  # multiplies its inputs
    "quotient",  # divides its first input by its second
    "exp",  # the exponential function
    "arithmetic",  # any other mathematical function
    "compare",  # compares, or combines bits
    "conv",  # a convolution, with weights as its second input
    "dense",  # a matrix product and a bias
    "matmul",  # a product of stacks of matrices
    "einsum",  # sums of products by an equation
    "attention",  # mixes values by the similarity of queries and keys
    "recurrent",  # a recurrent layer over a sequence
    "control",  # runs other graphs
    "batch_norm",  # normalises by stored statistics
    "norm",  # normalises by the statistics of its input
    "relu",  # passes positive values and suppresses negative ones
    "activation",  # any other nonlinear function of one input
    "sigmoid",  # probabilities of independent classes
    "softmax",  # probabilities of exclusive classes, or their logarithms
    "average_pool",  # the mean of each window
    "max_pool",  # the maximum of each window
    "global_average_pool",  # the mean over all spatial positions
    "global_max_pool",  # the maximum over all spatial positions
    "pool",  # another summary of windows or regions
    "reduce",  # a summary along axes
    "quantize",  # rounds to integers
    "dequantize",  # turns integers back into floats
    "size",  # reads the shape of its input, not its values
    "random",  # generates random numbers
    "other",
]
"""The function of an operator; arguments that differ between operators of a kind are attributes."""


class Traits(TypedDict, total=False):
    """The properties of an operator that are the same in every opset; see `Rule`."""

    kind: Kind
    homogeneous: bool
    linear: bool
    differentiable: bool
    planar: bool
    bounded: bool
    integer: tuple[str, str]


@dataclass(frozen=True)
class Rule:
    """The function that computes one operator from opset `since` on, and the operator's traits.

    Attributes:
        fn: the function.
        since: the first opset that it serves.
        static: the positions of inputs that must be known when the graph is traced.
        attributes: the names of the attributes that it accepts.
        counts_outputs: whether it takes `n_outputs`.
        elementwise: whether it has one output, of the shape that its inputs broadcast to.
        kind: its function.
        homogeneous: whether f(c x) = c f(x) for every c > 0, where x is all its inputs of floats
            that depend on the data, and the other inputs are constant.
        linear: whether it is linear in each input of floats, apart from an added bias. A quotient
            is linear in its first input, a normalisation and a convolution in their first input
            and their weights.
        differentiable: whether its derivative is nonzero anywhere.
        planar: whether its first input and its first output are (N, C, *spatial), unless an
            attribute `channels_last` says otherwise.
        bounded: whether its results have at most as many elements, of at most 8 bytes, as the sum
            or the product of the sizes of its inputs. An elementwise operator always is.
        integer: the domain and name of the operator by which ONNX Runtime replaces it between
            quantised tensors; None if there is none.
    """

    fn: RuleFunction
    since: int
    static: frozenset[int]
    attributes: frozenset[str]
    counts_outputs: bool
    elementwise: bool = False
    kind: Kind = "other"
    homogeneous: bool = False
    linear: bool = False
    differentiable: bool = True
    planar: bool = False
    bounded: bool = False
    integer: tuple[str, str] | None = None

    @classmethod
    def of(
        cls,
        fn: RuleFunction,
        since: int = 1,
        static: Sequence[int] = (),
        *,
        elementwise: bool = False,
        **traits: Unpack[Traits],
    ) -> Rule:
        """Return a rule with the attributes that the function's signature has."""
        parameters = inspect.signature(fn).parameters.values()
        names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        attributes = frozenset(names - {"n_outputs"})
        counts_outputs = "n_outputs" in names
        return cls(fn, since, frozenset(static), attributes, counts_outputs, elementwise, **traits)


_RULES: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
_TRAITS: dict[tuple[str, str], Traits] = {}


def op(
    *names: str,
    since: int = 1,
    static: Sequence[int] = (),
    domain: str = "",
    elementwise: bool = False,
    **traits: Unpack[Traits],
) -> Callable[[Function], Function]:
    """Register the decorated function as the rule of the operators `names`.

    Args:
        names: operator names; several can share one rule.
        since: the first opset of `domain` that the rule serves, until another rule's `since`.
        static: positions of inputs whose values the rule needs as numpy arrays.
        domain: the operator set; "" is ONNX's own.
        elementwise: whether the rule has one output, of the shape that its inputs broadcast to as
            in numpy. The rule may then receive inputs with their axes in another order.
        traits: the other traits of the operators, see `Rule`. An omitted trait is that of an
            earlier registration of the same operator.
    """
    describe(*names, domain=domain, **traits)

    def register(fn: Function) -> Function:
        for name in names:
            key = _key(domain, name)
            rule = Rule.of(fn, since, static, elementwise=elementwise, **_TRAITS[key])
            _RULES[key].append(rule)
            _RULES[key].sort(key=lambda rule: rule.since)
        return fn

    return register


def describe(*names: str, domain: str = "", **traits: Unpack[Traits]) -> None:
    """Register the traits of operators that have no rule of their own.

    Args:
        names: operator names.
        domain: the operator set; "" is ONNX's own.
        traits: see `Rule`.

    Raises:
        ValueError: the kind is not one of `Kind`.
        TypeError: a trait is not one of `Traits`.
    """
    _check(names[0], traits)
    for name in names:
        key = _key(domain, name)
        _TRAITS[key] = {**_TRAITS.get(key, {}), **traits}


def _check(name: str, traits: Traits) -> None:
    known = Traits.__annotations__
    for trait in traits.keys() - known:
        raise TypeError(f"there is no trait {trait!r} of {name}; the traits are {', '.join(known)}")
    if traits.get("kind", "other") not in get_args(Kind):
        raise ValueError(
            f"the kind of {name} must be one of {', '.join(get_args(Kind))}, got {traits['kind']!r}"
        )


def _key(domain: str, name: str) -> tuple[str, str]:
    return "" if domain == "ai.onnx" else domain, name


def find_rule(domain: str, name: str, opset: int) -> Rule | None:
    """Return the newest rule that serves `opset`, or None."""
    serving = [rule for rule in _RULES.get((domain, name), []) if rule.since <= opset]
    return serving[-1] if serving else None


def find_traits(domain: str, name: str) -> Traits:
    """Return the registered traits of an operator, or no traits."""
    return _TRAITS.get((domain, name), {})


def operators() -> tuple[tuple[str, str], ...]:
    """Return every registered `(domain, name)`, sorted."""
    return tuple(sorted(key for key, rules in _RULES.items() if rules))
