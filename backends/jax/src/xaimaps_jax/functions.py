"""A plain JAX function as a program: its intermediate values are found by tracing it.

A value is called by, in this order: the name that `jax.ad_checkpoint.checkpoint_name` gave it;
the `jax.named_scope` (or Flax module path) whose result it is; its scope and operation.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from xaimaps.backend import Array, Classifier, Layer
from xaimaps.errors import LayerError

Params = Any
Visit = Callable[[str, str, Array], Array]

INLINED = ("jit", "pjit")
VIEWS = frozenset(
    "reshape transpose broadcast_in_dim squeeze convert_element_type copy pad rev slice".split()  # noqa: SIM905
)
PROBE_SIZE = 224
PROBE_BATCH = 2


@dataclass(frozen=True)
class _Seen:
    """One value of the traced function."""

    scope: str
    operation: str
    shape: tuple[int, ...]
    is_float: bool


class FunctionProgram:
    """A function `f(params, images) -> outputs` over batches of images with channels last.

    Args:
        fn: the function; it is traced, and never changed.
        params: an example of its parameters.
        input_shape: `(height, width, channels)`, None for a size that varies.
    """

    def __init__(
        self,
        fn: Callable[[Params, Array], Array],
        params: Params,
        input_shape: tuple[int | None, ...],
    ) -> None:
        self._fn = fn
        self._params = params
        self._input_shape = input_shape

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._input_shape

    @functools.cached_property
    def _layers(self) -> tuple[Layer, ...]:
        """Every float value that starts with the batch and is a matrix or a map."""
        height, width, channels = (size or PROBE_SIZE for size in self._input_shape)
        image = jax.ShapeDtypeStruct((PROBE_BATCH, height, width, channels), jnp.float32)
        return tuple(
            Layer(name, (None, *seen.shape[1:]), seen.operation)
            for name, seen in self._named(self._params, image)
            if seen.is_float
            and len(seen.shape) in (2, 4)
            and seen.shape[0] == PROBE_BATCH
            and seen.operation not in VIEWS
        )

    def layers(self) -> tuple[Layer, ...]:
        return self._layers

    def default_layer(self) -> Layer:
        spatial = [layer for layer in self._layers if layer.is_spatial]
        if not spatial:
            raise LayerError(
                "no value of this function has a spatial extent; use a gradient method"
            )
        return spatial[-1]

    def classifier(self, params: Params) -> Classifier:
        raise LayerError(
            "CAM needs the dense weights of the model's head, which a plain JAX function does not "
            "tell; use grad_cam, which equals it up to a factor"
        )

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], taps: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        names = iter([name for name, _ in self._named(params, images)] if keep or taps else ())
        kept: dict[str, Array] = {}

        def visit(scope: str, operation: str, value: Array) -> Array:
            name = next(names, "")
            value = value + taps[name] if name in taps else value
            if name in keep:
                kept[name] = value
            return value

        return self._run(params, images, visit), kept

    def _run(self, params: Params, images: Array, visit: Visit) -> Array:
        closed, shape = jax.make_jaxpr(self._fn, return_shape=True)(params, images)
        arguments = jax.tree.leaves((params, images))
        results = _evaluate(closed.jaxpr, closed.consts, arguments, "", visit)
        outputs: Array = jax.tree.unflatten(jax.tree.structure(shape), results)
        return outputs

    def _named(self, params: Params, images: Array) -> list[tuple[str, _Seen]]:
        """A name for each value in the order of computation, from a dry run."""
        seen: list[_Seen] = []

        def visit(scope: str, operation: str, value: Array) -> Array:
            is_float = jnp.issubdtype(value.dtype, jnp.floating)
            seen.append(_Seen(scope, operation, tuple(value.shape), bool(is_float)))
            return value

        jax.eval_shape(lambda p, x: self._run(p, x, visit), params, images)
        return list(zip(_names(seen), seen, strict=True))


def _names(seen: Sequence[_Seen]) -> Iterator[str]:
    """A scope's last value has the scope's name, any other its operation's and a number."""
    last = {value.scope: index for index, value in enumerate(seen)}
    count: Counter[str] = Counter()
    for index, value in enumerate(seen):
        path = "/".join(filter(None, (value.scope, value.operation)))
        is_result = value.scope and last[value.scope] == index
        yield value.scope if is_result else f"{path}_{count[path]}" if count[path] else path
        count[path] += not is_result


def _evaluate(
    jaxpr: Any, consts: Sequence[Array], arguments: Sequence[Array], scope: str, visit: Visit
) -> list[Array]:
    """Run a jaxpr equation by equation, showing each value to `visit`."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def read(atom: Any) -> Array:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        path = "/".join(filter(None, (scope, str(equation.source_info.name_stack))))
        results = _apply_equation(equation, inputs, path, visit)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply_equation(equation: Any, inputs: list[Array], path: str, visit: Visit) -> list[Array]:
    name = equation.primitive.name
    if name in INLINED:
        inner = equation.params["jaxpr"]
        return _evaluate(inner.jaxpr, inner.consts, inputs, path, visit)
    if name == "name":
        return [visit(equation.params["name"], "", inputs[0])]
    params = equation.primitive.get_bind_params(equation.params)
    results = equation.primitive.bind(*inputs, **params)
    results = results if equation.primitive.multiple_results else [results]
    return [visit(path, equation.params.get("name", name), value) for value in results]
