"""The JAX backend: ONNX files and JAX functions, compiled for CPU, GPU and TPU."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from xaimaps.backend import INPUT, Array, Backend, Classifier, Gradients, Layer, ModelInfo
from xaimaps.preprocess import get_preprocess
from xaimaps.targets import Target
from xaimaps_jax import onnx as jax_onnx
from xaimaps_jax.functions import FunctionProgram
from xaimaps_jax.onnx.analysis import Analysis
from xaimaps_jax.programs import OnnxProgram, Program

Params = Any


class JaxBackend(Backend):
    """One model as a JAX function.

    Convolutions and matrix products run in full float32, also where an accelerator would by
    default round their inputs: an explanation is compared with others.

    Args:
        program: the model.
        params: its parameters, the arguments of every compiled function.
        info: what is known of it.
    """

    name = "jax"
    capabilities = frozenset({"forward", "activations", "grad", "classifier"})

    def __init__(self, program: Program, params: Params, info: ModelInfo) -> None:
        super().__init__(info)
        self.params = jax.device_put(params)
        self._program = program

    @classmethod
    def accepts(cls, model: object) -> bool:
        if isinstance(model, str | os.PathLike):
            return Path(model).suffix.lower() == ".onnx"
        return isinstance(model, onnx.ModelProto) or _is_function(model)

    @classmethod
    def load(cls, model: Any, **options: Any) -> JaxBackend:
        """Load an ONNX file or model, or wrap a function `f(params, images) -> outputs`.

        Args:
            model: a path, an `onnx.ModelProto`, or the function.
            options: for ONNX, `output`: the name of the output to explain, the first by default.
                For a function, `params` (a pytree) and `input_shape` (height, width, channels).
        """
        if _is_function(model):
            return cls.from_function(model, **options)
        return cls.from_onnx(model, **options)

    @classmethod
    def from_onnx(
        cls, model: str | os.PathLike[str] | onnx.ModelProto, *, output: str | None = None
    ) -> JaxBackend:
        """Load an ONNX model whose one input is a batch of images."""
        loaded = jax_onnx.load(model)
        analysis = Analysis(loaded, output)
        info = (
            _file_info(model) if isinstance(model, str | os.PathLike) else ModelInfo("onnx model")
        )
        _read_metadata(info, loaded.metadata)
        if analysis.activation is not None:
            info.notes.append(
                f"scores are taken before the final {analysis.activation.operator} "
                f"{analysis.activation.name!r}"
            )
        return cls(OnnxProgram(analysis), loaded.params, info)

    @classmethod
    def from_function(
        cls,
        fn: Callable[[Params, Array], Array],
        *,
        params: Params,
        input_shape: Sequence[int | None],
    ) -> JaxBackend:
        """Wrap a function of parameters and a batch of images with channels last."""
        program = FunctionProgram(fn, params, tuple(input_shape))
        return cls(program, params, ModelInfo(getattr(fn, "__name__", "function")))

    @property
    def xp(self) -> Any:
        return jnp

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._program.input_shape

    def layers(self) -> tuple[Layer, ...]:
        return self._program.layers()

    def default_layer(self) -> Layer:
        return self._program.default_layer()

    def forward(self, images: Array) -> Array:
        return self._program.apply(self.params, images, (), {})[0]

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...]
    ) -> tuple[Array, dict[str, Array]]:
        return self._program.apply(self.params, images, layers, {})

    def grad(self, images: Array, target: Target, *, wrt: str = INPUT) -> Gradients:
        point, run = self._from_image(images) if wrt == INPUT else self._from_layer(images, wrt)

        def score(point: Array) -> tuple[Array, tuple[Array, Array]]:
            outputs, value = run(point)
            return target.scores(jnp, outputs), (outputs, value)

        scores, pull, (outputs, value) = jax.vjp(score, point, has_aux=True)
        return Gradients(outputs, scores, value, _pull_each(pull, scores))

    def _from_image(self, images: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        return images, lambda x: (self.forward(x), x)

    def _from_layer(
        self, images: Array, layer: str
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        """A tap of zeros, and the network as a function of it."""

        def run(tap: Array) -> tuple[Array, Array]:
            outputs, kept = self._program.apply(self.params, images, (layer,), {layer: tap})
            return outputs, kept[layer]

        _, kept = jax.eval_shape(lambda x: self.forward_with_activations(x, (layer,)), images)
        return jnp.zeros(kept[layer].shape, kept[layer].dtype), run

    def classifier(self) -> Classifier:
        return self._program.classifier(self.params)

    def compile(self, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        def whole(params: Params, *arrays: Array) -> Any:
            view = copy.copy(self)
            view.params = params
            return fn(view, *arrays)

        with jax.default_matmul_precision("highest"):
            executable = jax.jit(whole).lower(self.params, *arrays).compile()
        return lambda *arrays: executable(self.params, *arrays)

    def asarray(self, array: np.ndarray[Any, Any]) -> Array:
        return jnp.asarray(array)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)


def _pull_each(pull: Callable[[Array], tuple[Array]], scores: Array) -> Array:
    """The gradient of each image's score; for scores (K, N), K gradients from one forward pass."""
    if scores.ndim == 1:
        return pull(jnp.ones_like(scores))[0]
    seeds = jnp.eye(scores.shape[0], dtype=scores.dtype)[:, :, None] * jnp.ones_like(scores)
    return jax.vmap(pull)(seeds)[0]


def _is_function(model: object) -> bool:
    """A function, method, partial or jitted function, but no framework's model object."""
    return callable(model) and type(model).__module__.partition(".")[0] in (
        "builtins",
        "functools",
        "jax",
        "jaxlib",
    )


def _file_info(path: str | os.PathLike[str]) -> ModelInfo:
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelInfo(name=Path(path).stem, source=os.fspath(path), sha256=digest)


def _read_metadata(info: ModelInfo, metadata: Mapping[str, str]) -> None:
    """Take over what a file says of itself under our own keys."""
    info.name = metadata.get("xaimaps.name", info.name)
    info.labels_name = metadata.get("xaimaps.labels", "")
    if "xaimaps.preprocess" in metadata:
        info.preprocess = get_preprocess(metadata["xaimaps.preprocess"])
