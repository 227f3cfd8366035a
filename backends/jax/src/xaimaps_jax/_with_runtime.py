"""The JAX backend with ONNX Runtime for the forward pass of the images.

ONNX Runtime computes convolutions on a CPU faster than XLA does, but has no gradients. What a
program reads of the forward pass of its images is computed by ONNX Runtime before it starts, and is
an argument of it. For a gradient at a layer, JAX then runs the part behind the layer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, cast

import jax
import numpy as np
from onnxjax.graph import Values
from onnxjax.precision import Precision
from xaimaps_onnx.analysis import OnnxNetwork
from xaimaps_onnx.runtime import OnnxRuntimeBackend

from xaimaps.backend import Array, Replica
from xaimaps.errors import ModelLoadError
from xaimaps.propagation import Rules
from xaimaps_jax._backend import JaxBackend

NOTE = "the forward pass of the images runs in ONNX Runtime"

RUNS = 5
"""How often a forward pass is timed in each framework."""


@dataclass(frozen=True)
class ForwardPass:
    """The forward pass of the images of a program.

    Attributes:
        images: the argument of the program.
        known: values from ONNX Runtime, which are further arguments.
        asked: the values that the program reads, in their order.
    """

    images: Array
    known: Values
    asked: dict[str, None] = field(default_factory=dict)


class WithRuntime(JaxBackend):
    """A model in JAX whose forward pass of the images runs in ONNX Runtime.

    Args:
        plain: the model in JAX.
        runtime: the same file in ONNX Runtime.
    """

    network: OnnxNetwork

    def __init__(self, plain: JaxBackend, runtime: OnnxRuntimeBackend) -> None:
        info = replace(plain.info, notes=[*plain.info.notes, NOTE])
        super().__init__(plain._program, plain.params, info)
        self._runtime = runtime
        self._pass: ForwardPass | None = None

    @classmethod
    def versions(cls) -> dict[str, str]:
        return super().versions() | OnnxRuntimeBackend.versions()

    def compile(self, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        names = self._asked_by(fn, arrays)
        if not names:
            return super().compile(fn, *arrays)

        def program(backend: WithRuntime, *arrays: Array) -> Any:
            values, own = arrays[: len(names)], arrays[len(names) :]
            known = dict(zip(names, values, strict=True))
            return fn(backend._during(ForwardPass(own[0], known)), *own)

        def values(images: Array) -> list[Array]:
            found = self._runtime.values(np.asarray(images), names)
            return [found[name] for name in names]

        run = super().compile(program, *values(arrays[0]), *arrays)
        return lambda *arrays: run(*values(arrays[0]), *arrays)

    def _asked_by(self, fn: Callable[..., Any], arrays: Sequence[Array]) -> list[str]:
        """Return the values of the forward pass of the first array that a function reads.

        Sizes that a graph computes are no arguments, because JAX has to know them when it traces.
        """
        if not arrays or arrays[0].dtype != self.network.input.dtype:
            return []
        asked: dict[str, None] = {}

        def whole(params: Any, *arrays: Array) -> Any:
            view = self.viewed(params)._during(ForwardPass(arrays[0], {}, asked))
            return fn(view, *arrays)

        jax.eval_shape(whole, self.params, *arrays)
        made, floats = self._runtime.onnx.model.graph.producers, self.network.usual.shapes
        return [name for name in asked if name in made and name in floats]

    def _during(self, forward: ForwardPass) -> WithRuntime:
        view = self.viewed(self.params)
        view._pass = forward
        return view

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        known = self._known(images, (self.network.output, *layers), rules)
        return JaxBackend.forward_with_activations(self._knowing(known), images, layers, rules)

    def split(
        self, images: Array, layer: str, rules: Rules | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        known = self._known(images, (layer, *self.network.passing(layer)), rules)
        return JaxBackend.split(self._knowing(known), images, layer, rules)

    def _known(self, images: Array, names: Sequence[str], rules: Rules | None) -> Values:
        """Return those of some values that ONNX Runtime has computed for these very images."""
        if self._pass is None or images is not self._pass.images or rules is not None:
            return {}
        self._pass.asked.update(dict.fromkeys(names))
        return {name: self._pass.known[name] for name in names if name in self._pass.known}

    def _knowing(self, known: Values) -> JaxBackend:
        view = self.viewed(self.params)
        view._program = self._program.knowing(known)
        return view

    def replica(self) -> Replica:
        return self._plain().replica()  # a session of ONNX Runtime has the weights it began with

    def with_precision(self, precision: Precision) -> JaxBackend:
        return self if precision == self.precision else self._plain().with_precision(precision)

    def on_devices(self, count: int | None) -> JaxBackend:
        others = self._plain().on_devices(count)
        return self if others.devices == 1 else others

    def _plain(self) -> JaxBackend:
        """Return this model in JAX alone."""
        notes = [note for note in self.info.notes if note != NOTE]
        plain = JaxBackend(self._program, self.params, replace(self.info, notes=notes))
        plain.watch, plain.reload = self.watch, self.reload
        return plain


def with_runtime(
    plain: JaxBackend, model: Any, options: Mapping[str, Any], *, if_faster: bool
) -> JaxBackend:
    """Return a model of an ONNX file with its forward pass in ONNX Runtime.

    Args:
        plain: the model in JAX.
        model: the file, or its content.
        options: the options with which it was loaded.
        if_faster: return `plain` where ONNX Runtime cannot be used, or takes longer.

    Raises:
        ModelLoadError: ONNX Runtime cannot be used.
    """
    reason = _reason_against(plain)
    if reason and not if_faster:
        raise ModelLoadError(
            f"`forward` must be 'jax' for {reason}, got 'onnxruntime'; leave it out"
        )
    if reason or (if_faster and plain.device.memory is not None):
        return plain
    runtime = OnnxRuntimeBackend.from_onnx(model, **options)
    return plain if if_faster and not _is_faster(runtime, plain) else WithRuntime(plain, runtime)


def _reason_against(plain: JaxBackend) -> str:
    """Return for which kind of model ONNX Runtime gives no values, or an empty text."""
    network = cast("OnnxNetwork", plain.network)
    if network.is_quantised:
        return "a quantised model, whose values JAX holds in other types"
    return "" if network.input.dtype == np.float32 else f"images of {network.input.dtype}"


def _is_faster(runtime: OnnxRuntimeBackend, plain: JaxBackend) -> bool:
    """Return whether ONNX Runtime takes less time for one image, on this machine."""
    images = np.zeros((1, *runtime.onnx.usual_shape), np.float32)
    program = plain.compile(lambda backend, images: backend.forward(images), images)
    calls: Sequence[Callable[[], Any]] = (
        lambda: runtime.forward(images),
        lambda: jax.block_until_ready(program(images)),
    )
    for call in calls:
        call()  # the first run of each is longer
    own, other = np.median([list(map(_seconds, calls)) for _ in range(RUNS)], axis=0)
    return bool(own < other)


def _seconds(call: Callable[[], Any]) -> float:
    begin = perf_counter()
    call()
    return perf_counter() - begin
