"""The JAX backend: ONNX files and JAX functions, compiled for CPU, GPU and TPU."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxjax
from jax.extend.core import get_opaque_trace_state
from onnxjax._passes.channels_last import kernels_by_place
from onnxjax._passes.inline_if import decided, written_out
from onnxjax.errors import UnsupportedModelError
from onnxjax.precision import Precision
from onnxjax.read import Source, read_model
from xaimaps_onnx._detections import with_detections
from xaimaps_onnx._single import with_images
from xaimaps_onnx.analysis import OnnxNetwork
from xaimaps_onnx.errors import onnxjax_errors
from xaimaps_onnx.info import model_info

from xaimaps._digest import digest
from xaimaps._input_pictures import require_numbers
from xaimaps._memory import is_memory_kept
from xaimaps._registry import import_extra
from xaimaps.backend import (
    INPUT,
    Array,
    Backend,
    Blocks,
    Device,
    Gradients,
    ModelInfo,
    Replica,
)
from xaimaps.errors import BackendError, ModelLoadError
from xaimaps.propagation import Rules
from xaimaps.targets import Target
from xaimaps_jax._blocks import blocks
from xaimaps_jax._compilation import HEAP_BYTES, compiled
from xaimaps_jax._loops import differentiating
from xaimaps_jax._models import LAYOUTS, Given, Model, adapt, found, is_keras_file, is_model
from xaimaps_jax._onnx import OnnxSource, traced
from xaimaps_jax._oom import within_memory
from xaimaps_jax._program import Program

Params = Any


class JaxBackend(Backend):
    """One model as a JAX function.

    Convolutions and matrix products run in full float32, even on an accelerator that rounds their
    inputs by default, because maps of different backends are compared; unless the user chooses
    another precision.

    Args:
        program: the network.
        params: its parameters, which are arguments of every compiled function.
        info: the name, labels and preprocessing of the model.
    """

    name = "jax"
    capabilities = frozenset(
        {
            *("forward", "activations", "grad", "classifier", "split"),
            *("rules", "biases", "attention", "weights"),
        }
    )
    takes = (
        "ONNX files, JAX functions and models of Flax, Equinox, Haiku and, with KERAS_BACKEND=jax, "
        "Keras"
    )
    suffixes = (".onnx",)
    precisions = ("float32", "tf32", "bfloat16")

    def __init__(self, program: Program, params: Params, info: ModelInfo) -> None:
        super().__init__(program.network, info)
        with within_memory():
            self.params = jax.device_put(params)
        self._program = program
        self._mesh: jax.sharding.Mesh | None = None

    @classmethod
    def accepts(cls, model: object) -> bool:
        is_live = isinstance(model, onnx.ModelProto) or is_model(model) or _is_function(model)
        return super().accepts(model) or is_live or is_keras_file(model)

    @classmethod
    def load(cls, model: Any, /, **options: Any) -> JaxBackend:
        """Load an ONNX file, a function `f(params, images) -> outputs`, or a model of a library.

        Args:
            model: a path, an `onnx.ModelProto`, or the function.
            options: for ONNX, `output`: the name of the output to explain, or of any value in the
                graph, by default the first output; `layout`: "NCHW" or "NHWC", by default found
                from the graph; `input_size`: the height and width of the images, if the file takes
                any; `inputs`: the values of the model's other inputs by name; `forward`: what runs
                the forward pass of the images, "jax", "onnxruntime", or "auto" for the faster one
                on this machine. For a Keras file, which Keras on JAX runs, `output`, `input_size`,
                `allow_unsafe` and `custom_objects`. For a function or a model of a library,
                `params` (a pytree); `input_shape` (height, width, channels), with None for a size
                that varies, and `input_size` for the first two; `output`: the path of the output in
                the result; `layout`: "NHWC", "NCHW", "HWC" or "CHW", by default the first with
                which it runs; `weights`: a checkpoint with values for the parameters. For a
                function, `inputs`: its other arguments by name. For a model of a library, `call`:
                the keyword arguments of its call.
        """
        load = cls._loader(model)
        known = (
            "an ONNX file takes `output`, `layout`, `input_size`, `inputs` and `forward`, a Keras "
            "file `output`, `input_size`, `allow_unsafe` and `custom_objects`, a function "
            "`params`, `weights`, `input_shape`, `input_size`, `output`, `layout` and `inputs`, "
            "and a model of a library `call` instead of `inputs`"
        )
        cls.require_options(load, options, known)
        return load(model, **options)

    @classmethod
    def _loader(cls, model: Any) -> Callable[..., JaxBackend]:
        if is_model(model):
            return cls.from_model
        if is_keras_file(model):
            return cls.from_keras_file
        return cls.from_function if _is_function(model) else cls.from_onnx

    @classmethod
    def from_onnx(
        cls,
        model: str | os.PathLike[str] | onnx.ModelProto,
        *,
        output: str | None = None,
        layout: str | None = None,
        input_size: Sequence[int] | None = None,
        inputs: Mapping[str, Any] | None = None,
        forward: Literal["jax", "onnxruntime", "auto"] = "jax",
    ) -> JaxBackend:
        """Load an ONNX model of images."""
        given = {"output": output, "layout": layout, "input_size": input_size, "inputs": inputs}
        with onnxjax_errors():
            source = read_model(model)
            source = with_detections(source) if output is None else source
            outputs = source.outputs if output is None else (output,)
            source, layout = with_images(source.until(output, alone=False), inputs, layout)
            loaded = _built(source, output)
        loaded = replace(loaded, graph=written_out(loaded.graph, decided, {}))
        network = OnnxNetwork(loaded, traced, layout, input_size)
        params = kernels_by_place(loaded.graph, loaded.params)
        info = model_info(model, network, outputs)
        backend = cls(Program(network, OnnxSource(network)), params, info)
        return backend if forward == "jax" else _with_runtime(backend, model, given, forward)

    @classmethod
    def from_function(
        cls,
        fn: Callable[..., Any],
        *,
        params: Params,
        input_shape: Sequence[int | None],
        input_size: Sequence[int] | None = None,
        layout: str | None = None,
        output: str | None = None,
        weights: str | os.PathLike[str] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> JaxBackend:
        """Wrap a function of parameters and images, by default a batch with channels last.

        Other arguments of it, by name, are `inputs`, in a batch if the images are one.
        """
        stored = Given(params, weights=_path(weights)).parameters()
        name = getattr(fn, "__name__", "function")
        model = Model(name, fn, stored, LAYOUTS, inputs=require_numbers(inputs or {}))
        return cls._of(model, (input_shape, input_size, layout, output), weights)

    @classmethod
    def from_model(
        cls,
        model: Any,
        *,
        params: Params = None,
        input_shape: Sequence[int | None] | None = None,
        input_size: Sequence[int] | None = None,
        layout: str | None = None,
        output: str | None = None,
        call: Mapping[str, Any] | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> JaxBackend:
        """Wrap a model of Flax, Equinox, Haiku or Keras on JAX, with its modules as layers."""
        adapted = adapt(model, Given(params, call or {}, _path(weights)))
        return cls._of(adapted, (input_shape, input_size, layout, output), weights)

    @classmethod
    def from_keras_file(
        cls,
        path: str | os.PathLike[str],
        *,
        allow_unsafe: bool = False,
        custom_objects: Mapping[str, Any] | None = None,
        input_size: Sequence[int] | None = None,
        output: str | None = None,
    ) -> JaxBackend:
        """Load a `.keras` or legacy `.h5` file for Keras on JAX."""
        from xaimaps_keras.read import read_model

        model = read_model(path, allow_unsafe=allow_unsafe, custom_objects=custom_objects)
        adapted = replace(adapt(model, Given()), name=Path(path).stem)
        return cls._of(adapted, (None, input_size, None, output), path)

    @classmethod
    def _of(
        cls, model: Model, options: Sequence[Any], file: str | os.PathLike[str] | None
    ) -> JaxBackend:
        loaded = cls(*found(model, *options))
        if file is not None:
            loaded.info.source, loaded.info.sha256 = os.fspath(file), digest(file)
        return loaded

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"jax": jax.__version__, "onnx": onnx.__version__}

    @property
    def xp(self) -> Any:
        return jnp

    @onnxjax_errors()
    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        outputs, kept = self._program.apply(self.params, images, layers, rules)
        shown = {name: value.astype(images.dtype) for name, value in kept.items()}
        return outputs.astype(images.dtype), shown

    @onnxjax_errors()
    def named_outputs(self, images: Array) -> dict[str, np.ndarray[Any, Any]]:
        if not self._program.has_several_outputs:
            return {}  # without a program, which would be compiled for nothing
        native = self.asarray(images)
        run = self.compiled("outputs", lambda b, x: b._program.named_outputs(b.params, x), native)
        return {name: np.asarray(value) for name, value in run(native).items()}

    @onnxjax_errors()
    def split(
        self, images: Array, layer: str, rules: Rules | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        activations, rest = self._program.split(self.params, images, layer, rules)

        def over_variants(point: Array) -> Array:
            if point.ndim == activations.ndim:
                return rest(point.astype(activations.dtype)).astype(images.dtype)
            return jax.vmap(over_variants)(point)

        return activations.astype(images.dtype), over_variants

    @differentiating()
    @onnxjax_errors()
    def differentiate(self, fn: Callable[[Array], tuple[Array, Array]], point: Array) -> Gradients:
        scores, pull, outputs = jax.vjp(fn, point, has_aux=True)
        (gradients,) = _pull_each(pull, scores)
        return Gradients(outputs, scores, point, gradients)

    @onnxjax_errors()
    def weight(self, name: str) -> Array:
        return self._program.weight(self.params, name)

    @differentiating()
    @onnxjax_errors()
    def biases(self, images: Array, target: Target) -> tuple[Gradients, tuple[Array, ...]]:
        self.network.require_gradient(INPUT)
        biases, run = self._program.biases(self.params, images)
        taps = {name: jnp.zeros_like(bias) for name, bias in biases.items()}

        def score(images: Array, taps: dict[str, Array]) -> tuple[Array, Array]:
            outputs = run(images, taps).astype(images.dtype)
            return target.scores(jnp, outputs), outputs

        scores, pull, outputs = jax.vjp(score, images, taps, has_aux=True)
        by_images, by_taps = _pull_each(pull, scores)
        wide = {name: bias.astype(images.dtype) for name, bias in biases.items()}
        terms = tuple(by_taps[name].astype(images.dtype) * bias for name, bias in wide.items())
        return Gradients(outputs, scores, images, by_images), terms

    @differentiating()
    @onnxjax_errors()
    def blocks(self, images: Array) -> Blocks:
        return blocks(self._program, self.params, images)

    def replica(self) -> Replica:
        view = self.viewed(self.params)
        view._compiled = {}
        layers = {
            layer: {name: np.asarray(weights) for name, weights in own.items()}
            for layer, own in self._program.layers(self.params).items()
        }

        def assign(weights: Mapping[str, np.ndarray[Any, Any]]) -> None:
            params = self._program.source.with_named(view.params, dict(weights))
            with within_memory():
                view.params = jax.tree.map(_placed, params, view.params)

        return Replica(view, layers, assign)

    @property
    def device(self) -> Device:
        first = jax.local_devices()[0]
        memory = first.memory_stats() or {}
        is_cpu = first.platform == "cpu"
        own = None if is_cpu else memory.get("bytes_limit")
        reused = HEAP_BYTES if is_cpu and not is_memory_kept() else None
        return Device(first.device_kind, own, memory.get("peak_bytes_in_use"), reused)

    @property
    def precision(self) -> Precision:
        return self._program.precision

    def with_precision(self, precision: Precision) -> JaxBackend:
        if precision == self.precision:
            return self
        if self.precision == "bfloat16":
            raise BackendError(
                f"`precision` must be 'bfloat16' for parameters that have been rounded to it, got "
                f"{precision!r}; load the model again"
            )
        view = self.viewed(self.params)
        if precision == "bfloat16":
            self._require_floats()
            view.params = self._program.rounded(self.params)
        view._compiled, view._program = {}, self._program.at(precision)
        return view

    def _require_floats(self) -> None:
        if self._program.network.is_quantised:
            raise BackendError(
                "`precision` must be 'float32' or 'tf32' for a quantised model, whose integers "
                "bfloat16 cannot hold, got 'bfloat16'"
            )

    def viewed(self, params: Params) -> Self:
        """Return a copy of this backend with other parameters, which may be traced."""
        view = copy.copy(self)
        view.params = params
        return view

    def require_values(self, *arguments: Any) -> None:
        if get_opaque_trace_state() == _outside():
            return
        made = jnp.zeros(())  # inside of `jit`, every new array is traced
        kinds = set(map(type, jax.tree.leaves((self.params, made, arguments))))
        if any(issubclass(kind, jax.core.Tracer) for kind in kinds):
            raise BackendError(
                "`attribute` and `explain` must be called with values, got an array that JAX is "
                "tracing; use `xaimaps_jax.function(model, method)` inside of jit, vmap or grad"
            )

    def _scan(
        self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any
    ) -> tuple[Any, Any]:
        return jax.lax.scan(step, carry, xs)

    def cond(
        self, predicate: Array, fn: Callable[[Array], Array], x: Array, otherwise: Array
    ) -> Array:
        return jax.lax.cond(predicate, fn, lambda _: otherwise, x)

    def _call_python(self, fn: Callable[[], None]) -> None:
        jax.debug.callback(fn)

    @onnxjax_errors()
    def compile(self, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        def whole(params: Params, *arrays: Array) -> Any:
            return fn(self.viewed(params), *arrays)  # traced weights are not constants

        with jax.default_matmul_precision("highest"), within_memory():
            executable = compiled(whole, self.params, *arrays)
        return within_memory()(lambda *arrays: executable(self.params, *arrays))

    def on_devices(self, count: int | None) -> JaxBackend:
        local = jax.local_devices()
        if count is not None and count > len(local):
            raise BackendError(
                f"`devices` must be at most {len(local)}, as JAX has, got {count}; leave it out "
                "for all"
            )
        chosen = local[:count]
        if len(chosen) == 1:
            return self
        view = self.viewed(self.params)
        view._compiled = {}
        view._mesh = jax.sharding.Mesh(chosen, ("images",))
        with within_memory():
            view.params = jax.device_put(self.params, _among(view._mesh))
        return view

    @property
    def devices(self) -> int:
        return 1 if self._mesh is None else self._mesh.size

    @within_memory()
    def arguments(
        self, images: np.ndarray[Any, Any], *arrays: np.ndarray[Any, Any]
    ) -> tuple[Array, ...]:
        if self._mesh is not None:
            axes = () if len(images) % self.devices else self._mesh.axis_names
            batch = jax.device_put(images, _among(self._mesh, *axes))
            return batch, *map(self.asarray, arrays)
        if self.device.memory is None:
            return images, *arrays  # faster than to convert each in an operation of its own
        return super().arguments(images, *arrays)

    @within_memory()
    def asarray(self, array: np.ndarray[Any, Any]) -> Array:
        return jnp.asarray(array)

    @within_memory()
    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)


@functools.cache
def _outside() -> Any:
    """Return JAX's state outside of jit, vmap and grad, where nothing is traced."""
    with jax.core.eval_context():
        return get_opaque_trace_state()


def _pull_each(pull: Callable[[Array], tuple[Any, ...]], scores: Array) -> tuple[Any, ...]:
    """Return the gradients of each image's score, for one target or for each of K."""
    if scores.ndim == 1:
        return pull(jnp.ones_like(scores))
    seeds = jnp.eye(scores.shape[0], dtype=scores.dtype)[:, :, None] * jnp.ones_like(scores)
    return jax.vmap(pull)(seeds)


def _placed(array: Any, other: Array) -> Array:
    """Return an array on the devices of another, in its type."""
    return jax.device_put(jnp.asarray(array, other.dtype), other.sharding)


def _among(mesh: jax.sharding.Mesh, *axes: str) -> jax.sharding.NamedSharding:
    """Return how the first axes of an array are divided; with none, each device has all of it."""
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def _is_function(model: object) -> bool:
    """Return whether a model is a function, method, partial or jitted function.

    Callable model objects of other frameworks are excluded.
    """
    return (
        callable(model)
        and not isinstance(model, type)
        and type(model).__module__.partition(".")[0]
        in (
            "builtins",
            "functools",
            "jax",
            "jaxlib",
        )
    )


def _with_runtime(
    backend: JaxBackend, model: Any, options: Mapping[str, Any], forward: str
) -> JaxBackend:
    """Return a model with its forward pass in ONNX Runtime, which is only then imported."""
    if forward not in ("onnxruntime", "auto"):
        raise ModelLoadError(f"`forward` must be 'jax', 'onnxruntime' or 'auto', got {forward!r}")
    module = import_extra("xaimaps_jax._with_runtime", "onnx", f"`forward={forward!r}`")
    made: JaxBackend = module.with_runtime(backend, model, options, if_faster=forward == "auto")
    return made


def _path(file: str | os.PathLike[str] | None) -> Path | None:
    return None if file is None else Path(file)


def _built(source: Source, output: str | None) -> onnxjax.OnnxModel:
    """Return a model with all of its outputs, or with one if the others have no rules."""
    with suppress(UnsupportedModelError):
        return onnxjax.build(source)
    return onnxjax.build(source.until(output))
