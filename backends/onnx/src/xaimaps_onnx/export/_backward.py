"""The backward pass of a file's network, from the rules of its operators in JAX.

The rule of each node is differentiated by JAX for the shapes in hand. What JAX records of it is
written as ONNX nodes, which read the values that the file computes anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from onnxjax._arrays import is_static
from onnxjax._ops.platforms import for_other_runtimes
from onnxjax.graph import Graph, Node

from xaimaps.errors import UnsupportedModelError
from xaimaps_onnx.errors import onnxjax_errors
from xaimaps_onnx.export._namespace import RULES
from xaimaps_onnx.export._primitives import NoRowError, whole, written
from xaimaps_onnx.export._traced import Traced

Lookup = Callable[[str], Traced]

BOUNDS = ("Relu", "Clip")
"""Operators that leave their own results unchanged, and whose slope there is that at the input.

Their derivatives read the result. To read the input would keep ONNX Runtime from fusing them with
the convolution before them, which is slower and rounds the outputs differently.
"""


class Backward:
    """The backward pass.

    Args:
        graph: the nodes of the file.
        given: the shapes and types of its inputs and parameters, or arrays of their shape.
        end: the name of the value to differentiate.

    Raises:
        UnsupportedModelError: an operator has no rule in JAX.
    """

    def __init__(self, graph: Graph, given: Mapping[str, Any], end: str) -> None:
        self._graph, self._end = graph, end
        with onnxjax_errors(), for_other_runtimes():
            self._known = self._traced({name: _struct(one) for name, one in given.items()})

    def _traced(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return every value: those that are fixed, and the shapes and types of others."""
        seen: dict[str, Any] = {}

        def run(given: dict[str, Any]) -> None:
            seen.update(self._graph.run(given, [self._end]))

        jax.eval_shape(run, given)
        return {name: one if is_static(one) else _struct(one) for name, one in seen.items()}

    def pull(self, seed: Traced, wrt: str, value: Lookup) -> Traced:
        """Return the gradient at a value.

        Args:
            seed: the gradient at the end.
            wrt: the name of the value.
            value: returns a value of the forward pass by name.

        Raises:
            UnsupportedModelError: a derivative cannot be written in ONNX; the message names it.
        """
        dependent = self._graph.depending_on(wrt)
        found = {self._end: self._as_known(self._end, seed)}
        for node in reversed(self._graph.needed_for([self._end], given=(wrt,))):
            arrived = {name: found.pop(name) for name in node.outputs if name in found}
            through = [n for n in dict.fromkeys(node.reads) if n in dependent and self._is_float(n)]
            if not arrived or not through:
                continue
            for name, part in zip(
                through, self._through(node, through, arrived, value), strict=True
            ):
                found[name] = found[name] + part if name in found else part
        if wrt not in found:
            raise UnsupportedModelError(f"no gradient reaches {wrt!r}; choose another layer")
        return found[wrt]

    def _through(
        self, node: Node, through: Sequence[str], arrived: dict[str, Traced], value: Lookup
    ) -> list[Traced]:
        """Return the gradients at some inputs of a node."""
        reads = dict.fromkeys(node.reads)
        others = [n for n in reads if n not in through and not is_static(self._known[n])]
        fixed = {name: self._known[name] for name in reads if is_static(self._known[name])}

        def pulled(inputs: list[Any], others_: list[Any], arrived_: list[Any]) -> Any:
            def forward(inputs: list[Any]) -> list[Any]:
                values = {
                    **fixed,
                    **dict(zip([*through, *others], [*inputs, *others_], strict=True)),
                }
                node(values)
                return [values[name] for name in arrived]

            return jax.vjp(forward, inputs)[1](arrived_)[0]

        names = [list(through), others, list(arrived)]
        structs = [[self._known[name] for name in each] for each in names]
        with onnxjax_errors(), for_other_runtimes():
            closed = jax.make_jaxpr(pulled)(*structs)
        used = [True] * len(closed.jaxpr.outvars)
        jaxpr, is_read = partial_eval.dce_jaxpr(closed.jaxpr, used)
        read_as = {node.reads[0]: node.outputs[0]} if node.operator in BOUNDS else {}
        forward = [
            self._as_known(n, value(read_as.get(n, n))) if is_read[i] else None
            for i, n in enumerate([*through, *others])
        ]
        for one in arrived.values():
            one.is_gradient = True
        read = [*forward, *arrived.values()]
        inputs = [one for one, wanted in zip(read, is_read, strict=True) if wanted]
        recorder = next(iter(arrived.values())).recorder
        try:
            made = written(recorder, jaxpr, list(map(np.asarray, closed.consts)), inputs)
            return [recorder.constant(whole(recorder, one)) for one in made]
        except NoRowError as error:
            raise UnsupportedModelError(
                f"the derivative of the {node.operator} node {node.name!r} cannot be written in "
                f"ONNX: {error}; choose a layer behind it, or a method without gradients such as "
                "eigen_cam"
            ) from None

    def _as_known(self, name: str, value: Traced) -> Traced:
        """Return a value with its shape in JAX, and in the type that it has there."""
        known = self._known[name]
        whole = Traced(value.recorder, value.name, known.shape, value.dtype)
        return RULES["astype"](whole, known.dtype)  # type: ignore[no-any-return]

    def _is_float(self, name: str) -> bool:
        return bool(jnp.issubdtype(self._known[name].dtype, jnp.floating))


def _struct(array: Any) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    return jax.ShapeDtypeStruct(array.shape, dtype)
