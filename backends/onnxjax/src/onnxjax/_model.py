"""Load an ONNX file, apply it as a JAX function, or run it once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import onnx

from onnxjax import _build
from onnxjax._arrays import enter, may_be_static
from onnxjax._jax import jax, jnp, require_jax
from onnxjax._limits import spending
from onnxjax.errors import ArrayInputError, UnsupportedModelError
from onnxjax.graph import Graph
from onnxjax.hooks import bypassing, keeping, tapping
from onnxjax.precision import Precision, computing, with_rounded_factors
from onnxjax.read._file import Source, read_model, refusing

Array = Any
Params = dict[str, Array]


@dataclass(frozen=True)
class Value:
    """An input or output as the file declares it; None is a size that varies."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A model as a pure function of its parameters and inputs.

    Attributes:
        graph: its nodes and static values.
        params: its weights by the file's names, a pytree that can be trained.
        inputs: the declarations of its inputs.
        outputs: the declarations of its outputs, without those that the file does not declare.
        metadata: the file's own metadata.
        precision: that of its values and products; see `load`.
    """

    graph: Graph
    params: Params
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    metadata: Mapping[str, str]
    precision: Precision = "float32"

    def apply(
        self,
        params: Params,
        *inputs: Array,
        outputs: Sequence[str] | None = None,
        taps: Mapping[str, Array] | None = None,
        bypass: frozenset[str] = frozenset(),
    ) -> tuple[Array, ...]:
        """Run the graph; `jax.jit`, `grad`, `jvp` and `vmap` can transform this function.

        Args:
            params: weights, as in `self.params`.
            inputs: arrays, one for each of `self.inputs`. A small numpy array of integers, or of
                a few numbers, is static: the graph may use it as a shape, axes or scales.
            outputs: the names of the values to return, which can be any values in the graph; None
                for its outputs.
            taps: arrays that are added to values before any other node reads these, by name. A
                zero changes nothing, and the gradient with respect to it is that of the value.
            bypass: values that are replaced by the first input of their node.

        Returns:
            One array for each of `outputs`; a tapped value includes the added array.

        Raises:
            ArrayInputError: the number of inputs is wrong, or a name is unknown.
        """
        wanted = self.graph.outputs if outputs is None else tuple(outputs)
        values = {**params, **self._named(inputs)}
        taps = dict(taps or {})
        values.update(
            {name: values[name] + taps.pop(name) for name in list(taps) if name in values}
        )
        self._check_names([*wanted, *taps, *bypass], values)
        plain = keeping(
            self.graph, self.graph.inputs, computing(self.precision, self.graph, wanted)
        )
        known = self.graph.run(values, wanted, bypassing(bypass, tapping(taps, plain)))
        declared = {value.name: value.dtype for value in self.outputs}
        return tuple(enter(_as_declared(known[name], declared.get(name))) for name in wanted)

    def _named(self, inputs: Sequence[Array]) -> Params:
        names = self.graph.inputs
        if len(inputs) != len(names):
            raise ArrayInputError(
                f"the model takes {len(names)} inputs ({', '.join(names)}), got {len(inputs)}"
            )
        arrays = [x if may_be_static(x) else jnp.asarray(enter(x)) for x in inputs]
        return dict(zip(names, arrays, strict=True))

    def _check_names(self, names: Iterable[str], values: Params) -> None:
        known = {*self.graph.producers, *self.graph.constants, *values}
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known)
                hint = "; nearest: " + ", ".join(map(repr, close)) if close else ""
                raise ArrayInputError(f"no value {name!r} in the graph{hint}")


def load(
    model: str | os.PathLike[str] | onnx.ModelProto,
    *,
    output: str | None = None,
    precision: Precision = "float32",
) -> OnnxModel:
    """Load an ONNX model as a JAX function.

    No code in the file is executed, and a path in it that leaves the file's folder is refused.

    Args:
        model: a path, or a model in memory that holds its own weights.
        output: the name of a value in the graph that becomes the only output, so that the model
            has only what it depends on; None for all outputs of the file.
        precision: "float32" on every device; "tf32", in which GPUs round the inputs of products;
            or "bfloat16", in which values are stored and multiplied, and summed in float32.

    Raises:
        ModelLoadError: the model is missing, damaged or inconsistent.
        UnsupportedModelError: operators have no rule; the message names all of them.
        ArrayInputError: no value has the name `output`, or there is no such precision.

    Example:
        >>> model = load("squeezenet.onnx")  # doctest: +SKIP
        >>> (logits,) = jax.jit(model.apply)(model.params, images)  # doctest: +SKIP
    """
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ArrayInputError(f"`precision` must be one of {known}, got {precision!r}")
    source = read_model(model)
    built = build(source if output is None else source.until(output))
    if precision == "bfloat16":
        built = replace(built, params=with_rounded_factors(built.graph, built.params))
    return replace(built, precision=precision)


def build(source: Source) -> OnnxModel:
    """Return a model that has been read as a JAX function.

    Raises:
        ModelLoadError: a weight is damaged.
        UnsupportedModelError: operators have no rule; the message names all of them.
    """
    require_jax()
    with refusing(source.name), spending(source.tensors.budget):
        return _model_of(source, _build.build_graph)


def read_graph(model: str | os.PathLike[str] | onnx.ModelProto) -> OnnxModel:
    """Read an ONNX model for a program that does not use JAX, which need not be installed.

    The nodes are those of the file, except that functions are inlined: no constant is computed,
    and no operator is refused. Each node's `rule` has the traits of its operator.

    Args:
        model: a path, or a model in memory that holds its own weights.

    Raises:
        ModelLoadError: the model is missing, damaged or inconsistent.
    """
    return resolve(read_model(model))


def resolve(source: Source) -> OnnxModel:
    """Return the graph of a model that has been read, as `read_graph` does.

    Raises:
        ModelLoadError: a weight is damaged.
    """
    with refusing(source.name):
        return _model_of(source, _build.read_graph)


def _model_of(source: Source, make: Callable[..., tuple[Graph, Params]]) -> OnnxModel:
    proto = source.proto
    opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    graph, params = make(proto.graph, opsets, source.tensors)
    by_name = {value.name: value for value in proto.graph.input}
    return OnnxModel(
        graph=graph,
        params=params,
        inputs=tuple(_declared(by_name[name]) for name in graph.inputs),
        outputs=tuple(_declared(value) for value in proto.graph.output if value.HasField("type")),
        metadata={entry.key: entry.value for entry in proto.metadata_props},
    )


def run(
    model: onnx.ModelProto, inputs: Sequence[np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    """Run a model once, compiled, on numpy arrays.

    If the graph needs the value of an input while it is traced (a shape, axes, pads), all small
    inputs are made static.

    Args:
        model: the model.
        inputs: one array for each input that is not an initialiser, in order.
    """
    loaded = load(model)
    try:
        return _run_jitted(loaded, inputs, static=frozenset())
    except UnsupportedModelError:
        small = frozenset(i for i, x in enumerate(inputs) if may_be_static(x))
        if not small:
            raise
        return _run_jitted(loaded, inputs, static=small)


def _run_jitted(
    model: OnnxModel, inputs: Sequence[np.ndarray[Any, Any]], static: frozenset[int]
) -> list[np.ndarray[Any, Any]]:
    traced = [x for i, x in enumerate(inputs) if i not in static]

    @jax.jit
    def compiled(params: Params, *arrays: Array) -> tuple[Array, ...]:
        left = iter(arrays)
        mixed = [np.asarray(x) if i in static else next(left) for i, x in enumerate(inputs)]
        return model.apply(params, *mixed)

    return [np.asarray(result) for result in compiled(model.params, *traced)]


def _as_declared(value: Array, dtype: np.dtype[Any] | None) -> Array:
    """Convert a quantised value, computed as floats that hold integers, to its declared type."""
    if dtype is None or dtype.kind not in "iu" or value.dtype.kind not in "fV":
        return value
    return value.astype(jax.dtypes.canonicalize_dtype(dtype))


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _declared(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise UnsupportedModelError(
            f"{value.name!r} is a {value.type.WhichOneof('value')}; only tensors can be "
            "inputs and outputs"
        )
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    shape = tuple(dims) if tensor.HasField("shape") else None
    return Value(value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
