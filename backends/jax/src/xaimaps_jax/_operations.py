"""The equations of a traced JAX function as operations of `xaimaps.graph`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps.graph import (
    SIDES,
    Aligned,
    Broadcast,
    Concatenated,
    Dense,
    Flow,
    Kind,
    Operation,
    Picked,
    Planar,
    Regrouped,
    Resized,
    Shape,
)
from xaimaps_jax._convolution import convolved, is_lowered
from xaimaps_jax._tap import tap_p

_NAMES: Mapping[Kind, str] = {
    "view": "reshape squeeze expand_dims convert_element_type copy copy_p name xaimaps_tap "
    "stop_gradient reduce_precision reshard sharding_constraint mesh_cast pvary",
    "transpose": "transpose",
    "slice": "slice dynamic_slice gather rev",
    "pad": "pad",
    "expand": "broadcast_in_dim",
    "concat": "concatenate",
    "select": "select_n clamp max min",
    "sum": "add sub add_any",
    "product": "mul",
    "quotient": "div",
    "exp": "exp",
    "arithmetic": "neg exp2 log log1p expm1 sqrt rsqrt cbrt square pow integer_pow abs erf "
    "erfc erf_inv sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh sign floor ceil "
    "round is_finite rem nextafter real imag",
    "conv": "conv_general_dilated",
    "pool": "reduce_window reduce_window_sum reduce_window_min",
    "max_pool": "reduce_window_max",
    "reduce": "reduce_sum reduce_max reduce_min reduce_prod argmax argmin reduce_and reduce_or",
    "relu": "relu relu6 leaky_relu elu selu celu",
    "activation": "tanh gelu silu swish hard_silu hard_swish hard_sigmoid hard_tanh mish "
    "softplus soft_sign squareplus glu log_sigmoid standardize",
    "sigmoid": "logistic",
    "softmax": "softmax log_softmax",
    "control": "scan while cond",
    "compare": "eq ne lt le gt ge and or not xor",
    "random": "random_bits random_seed random_wrap random_unwrap random_fold_in threefry2x32",
}

KINDS: Mapping[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""The kinds of JAX's primitives, and of its functions that are compiled under their own names."""

_VIEWS = frozenset(_NAMES["view"].split())

HOMOGENEOUS = (_VIEWS - {"stop_gradient"}) | frozenset(
    "transpose slice dynamic_slice gather rev broadcast_in_dim neg abs relu leaky_relu reduce_sum "
    "reduce_max reduce_min reduce_window_sum reduce_window_max reduce_window_min max min".split()
)

POWERS = {"square": 2.0, "sqrt": 0.5, "rsqrt": -0.5}
"""The degree of primitives that are powers."""

LINEAR = frozenset(
    "add sub add_any mul div dot_general conv_general_dilated concatenate pad".split()
)

STEPS = frozenset("sign floor ceil round is_finite argmax argmin eq ne lt le gt ge".split())


ELEMENTWISE = frozenset(
    "view expand select sum product quotient exp arithmetic activation relu sigmoid compare".split()
)
"""Kinds for which an element of the result depends on one element of each input."""

SEPARABLE = frozenset(
    name
    for name, kind in KINDS.items()
    if kind in ("select", "sum", "product", "quotient", "exp", "arithmetic")
) | frozenset("tanh logistic dot_general reduce_sum reduce_max reduce_min reduce_prod".split())
"""The primitives that run on parts of their inputs as on the whole."""

FOLLOWED = frozenset(
    "reshape squeeze convert_element_type copy transpose slice broadcast_in_dim concatenate".split()
)
"""The primitives whose own sizes are fixed, and of which it is known what a part depends on."""

TAPS = frozenset({"name", tap_p.name})
"""Primitives that name a value: that of `checkpoint_name`, and our own."""

CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call"})
"""Functions with a custom derivative."""


@dataclass(frozen=True)
class Equation:
    """One step of a traced function, as a node of a graph of named values.

    Attributes:
        scope: its named scopes; for a tap the name of its value.
        operator: its primitive, or the function that this equation is all of.
        equation: JAX's own equation.
        inputs: the names of the values that it reads.
        outputs: the names of the values that it makes.
        module: the call of a module that it is a part of, if it has no modules inside.
    """

    scope: str
    operator: str
    equation: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    module: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it needs."""
        return self.inputs

    def __call__(self, values: dict[str, Any]) -> None:
        """Compute the outputs into `values`."""
        primitive = self.equation.primitive
        given = [values[name] for name in self.inputs]
        params = primitive.get_bind_params(self.equation.params)
        if not self.is_product:
            given = list(map(_as_traced, given, self.equation.invars))
        elif given[0].dtype != self.equation.invars[0].aval.dtype:
            params = {**params, "preferred_element_type": given[0].dtype}  # JAX shares its own
        with self.equation.ctx.manager:
            if self.operator == "conv_general_dilated" and is_lowered(given[0], given[1], params):
                results = convolved(given[0], given[1], params)
            else:
                results = primitive.bind(*given, **params)
        results = results if primitive.multiple_results else [results]
        values.update(zip(self.outputs, results, strict=True))

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or matrix product."""
        return self.operator in ("conv_general_dilated", "dot_general")

    @property
    def is_sum(self) -> bool:
        """Whether it summarises its input along axes."""
        return self.kind == "reduce"

    @property
    def is_addition(self) -> bool:
        """Whether it adds its inputs."""
        return self.operator in ("add", "add_any")

    @property
    def shape(self) -> Shape:
        """The shape of its first output."""
        return tuple(self.equation.outvars[0].aval.shape)

    @property
    def dtype(self) -> Any:
        """The type of its first output."""
        return self.equation.outvars[0].aval.dtype

    @property
    def operand_shapes(self) -> list[Shape]:
        """The shapes of its inputs."""
        return [tuple(getattr(atom.aval, "shape", ())) for atom in self.equation.invars]

    @property
    def params(self) -> Mapping[str, Any]:
        """The primitive's parameters."""
        found: Mapping[str, Any] = self.equation.params
        return found

    @property
    def is_tap(self) -> bool:
        """Whether it only names a value."""
        return self.operator in TAPS

    @property
    def kind(self) -> Kind:
        """The kind of its operation."""
        if self.operator == "dot_general":
            return "dense" if len(self.shape) == 2 else "matmul"
        if self.operator == "broadcast_in_dim" and self.shape and self._adds_axes_only:
            return "view"
        if self.operator in CUSTOM and _is_elementwise(_body(self.equation)):
            return "activation"
        return KINDS.get(self.operator, "other")

    @property
    def is_elementwise(self) -> bool:
        """Whether it is a call or name whose elements each depend on one of its input's."""
        is_custom = self.operator in CUSTOM and self.kind == "activation"
        return is_custom or self.is_tap or self.kind == "relu"

    @property
    def _adds_axes_only(self) -> bool:
        return [n for n in self.shape if n > 1] == [n for n in self.operand_shapes[0] if n > 1]


def _as_traced(value: Any, atom: Any) -> Any:
    """Return floats in the type that an equation was traced for."""
    dtype = getattr(atom.aval, "dtype", None)
    if dtype is None or getattr(value, "dtype", dtype) == dtype:
        return value
    return value.astype(dtype)


def operation_of(
    equation: Equation, statics: Mapping[str, np.ndarray[Any, Any]], data: Collection[str] = ()
) -> Operation:
    """Return the operation of an equation.

    Args:
        equation: an equation of a traced function.
        statics: the values that are known without any image.
        data: the values that depend on the images.
    """
    kind, make = equation.kind, FLOWS.get(equation.operator)
    axes = frozenset(int(axis) for axis in equation.params.get("axes", ()))
    is_sum = equation.operator == "reduce_sum"
    return Operation(
        kind=kind,
        operator="value" if equation.is_tap else equation.operator,
        name=equation.outputs[0],
        reads=equation.inputs,
        makes=equation.outputs,
        flow=make(equation, statics) if make else Broadcast(),
        degree=_degree(equation),
        is_linear=equation.operator in LINEAR,
        is_differentiable=equation.operator not in STEPS and not _is_cast_to_integers(equation),
        dense=_dense(equation, data),
        sums=axes if is_sum else None,
        module=equation.module,
    )


def _degree(equation: Equation) -> float | None:
    """Return the degree of homogeneity in all inputs together, or None."""
    if equation.operator == "integer_pow":
        return float(equation.params["y"])
    if equation.operator == "pow":
        exponent = getattr(equation.equation.invars[1], "val", None)  # a literal has one
        return None if exponent is None else float(exponent)
    return 1.0 if equation.operator in HOMOGENEOUS else POWERS.get(equation.operator)


def _body(equation: Any) -> Any:
    """Return the equations of the function that an equation calls, or None."""
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    closed = next((equation.params[name] for name in names if name in equation.params), None)
    return None if closed is None else getattr(closed, "jaxpr", closed).eqns


def _is_elementwise(equations: Any) -> bool:
    """Return whether equations, and all that they call, are elementwise."""
    return equations is not None and all(
        KINDS.get(one.primitive.name) in ELEMENTWISE or _is_elementwise(_body(one))
        for one in equations
    )


def _is_cast_to_integers(equation: Equation) -> bool:
    return equation.operator == "convert_element_type" and equation.dtype.kind in "iub"


def _dense(equation: Equation, data: Collection[str]) -> Dense | None:
    """Return the weights of a product of vectors and a matrix, in any order, or None."""
    factors = [name in data for name in equation.inputs]
    if equation.operator != "dot_general" or sorted(factors) != [False, True]:
        return None
    contracted, (batch, _) = equation.params["dimension_numbers"]
    vectors, weights = factors.index(True), factors.index(False)
    last = len(equation.operand_shapes[vectors]) - 1
    is_matrix = len(equation.operand_shapes[weights]) == 2
    if batch or not is_matrix or tuple(contracted[vectors]) != (last,):
        return None
    return Dense(equation.inputs[weights], is_transposed=contracted[weights][0] == 1)


Statics = Mapping[str, np.ndarray[Any, Any]]


def _regrouped(equation: Equation, statics: Statics) -> Flow:
    return Broadcast() if equation.operand_shapes[0] == equation.shape else Regrouped()


def _transposed(equation: Equation, statics: Statics) -> Flow:
    return Aligned.transposed(equation.params["permutation"])


def _broadcast(equation: Equation, statics: Statics) -> Flow:
    came = {int(out): axis for axis, out in enumerate(equation.params["broadcast_dimensions"])}
    axes = range(len(equation.shape))
    return Aligned(tuple(((0, came[axis]),) if axis in came else () for axis in axes))


def _sliced(equation: Equation, statics: Statics) -> Flow:
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    spans = enumerate(zip(starts, ends, equation.operand_shapes[0], strict=True))
    # an axis of which all is taken may be the batch, whose size varies
    return Resized(
        {axis: (start, end) for axis, (start, end, n) in spans if (start, end) != (0, n)}
    )


def _sliced_dynamically(equation: Equation, statics: Statics) -> Flow:
    starts = [statics.get(name) for name in equation.inputs[1:]]
    sizes = equation.params["slice_sizes"]
    known = enumerate(zip(starts, sizes, strict=True))
    return Resized({a: (int(s), int(s) + n) for a, (s, n) in known if s is not None})


def _gathered(equation: Equation, statics: Statics) -> Flow:
    is_fixed = equation.inputs[1] in statics
    return Broadcast() if is_fixed else Aligned.batch_alone(len(equation.shape))


def _sorted(equation: Equation, statics: Statics) -> Flow:
    return Picked(int(equation.params.get("dimension", equation.params.get("axis", -1))))


def _resized(equation: Equation, statics: Statics) -> Flow:
    return Resized()


def _concatenated(equation: Equation, statics: Statics) -> Flow:
    return Concatenated(equation.params["dimension"])


def _convolved(equation: Equation, statics: Statics) -> Flow:
    numbers = equation.params["dimension_numbers"]
    batch, channels, *spatial = numbers.out_spec
    if len(spatial) not in SIDES:
        return Broadcast()
    order = dict(zip((batch, channels, *spatial), f"NC{SIDES[len(spatial)]}", strict=True))
    kernel = equation.operand_shapes[1]
    is_pointwise = numbers.lhs_spec == numbers.out_spec and all(
        kernel[axis] == 1 for axis in numbers.rhs_spec[2:]
    )
    return Planar("".join(order[axis] for axis in range(len(order))), is_pointwise=is_pointwise)


def _multiplied(equation: Equation, statics: Statics) -> Flow:
    """Return the flow to batch axes, then to the axes of each factor that are not summed."""
    contracted, batch = equation.params["dimension_numbers"]
    shared = [((0, left), (1, right)) for left, right in zip(*batch, strict=True)]
    free = [
        [((position, axis),) for axis in range(len(shape)) if axis not in summed]
        for position, shape, summed in (
            (position, shape, {*contracted[position], *batch[position]})
            for position, shape in enumerate(equation.operand_shapes)
        )
    ]
    sources: Sequence[tuple[tuple[int, int], ...]] = [*shared, *free[0], *free[1]]
    second = range(len(sources) - len(free[1]), len(sources))
    return Aligned(tuple(sources), channels=frozenset(second))


def _reduced(equation: Equation, statics: Statics) -> Flow:
    return Aligned.reduced(len(equation.operand_shapes[0]), equation.params["axes"])


def _mixed(equation: Equation, statics: Statics) -> Flow:
    """Return the flow of a softmax under its own name; the equation does not have its axis."""
    return Broadcast(mixes=frozenset(range(1, len(equation.shape))))


FLOWS: Mapping[str, Callable[[Equation, Statics], Flow]] = {
    "reshape": _regrouped,
    "squeeze": _regrouped,
    "expand_dims": _regrouped,
    "transpose": _transposed,
    "broadcast_in_dim": _broadcast,
    "slice": _sliced,
    "dynamic_slice": _sliced_dynamically,
    "gather": _gathered,
    "sort": _sorted,
    "top_k": _sorted,
    "pad": _resized,
    "concatenate": _concatenated,
    "conv_general_dilated": _convolved,
    "dot_general": _multiplied,
    "reduce_window": _resized,
    "reduce_window_sum": _resized,
    "reduce_window_max": _resized,
    "reduce_window_min": _resized,
    "reduce_sum": _reduced,
    "reduce_max": _reduced,
    "reduce_min": _reduced,
    "reduce_prod": _reduced,
    "argmax": _reduced,
    "argmin": _reduced,
    "softmax": _mixed,
    "log_softmax": _mixed,
}
"""The flows of primitives that are not elementwise."""
