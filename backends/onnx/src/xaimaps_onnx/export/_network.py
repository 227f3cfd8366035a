"""The network of an ONNX file as a backend whose arrays are traced."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from xaimaps.backend import INPUT, Array, Backend, Classifier, Cut, Device, Gradients
from xaimaps.errors import BackendError, LayerError, MethodError, UnsupportedModelError
from xaimaps.methods._class_map import class_weights
from xaimaps.propagation import Rules
from xaimaps.targets import Target, class_scores, one_hot
from xaimaps_onnx.export._control import branched, looped
from xaimaps_onnx.export._namespace import EXPORTABLE, Namespace
from xaimaps_onnx.export._passes import FileNetwork, Pass
from xaimaps_onnx.export._sizes import free_batch
from xaimaps_onnx.export._traced import Recorder, Traced
from xaimaps_onnx.runtime import OnnxRuntimeBackend


class TracedBackend(Backend):
    """A file's network, with whose values a method computes.

    Args:
        source: the file in ONNX Runtime.
        file: the file.
        opset: its opset.

    Attributes:
        recorder: where the method's operations are recorded.
        images: the images, `(N, *spatial, C)`.
    """

    name = "ONNX export"
    capabilities = frozenset({"forward", "activations", "grad", "classifier", "split"})

    def __init__(self, source: OnnxRuntimeBackend, file: onnx.ModelProto, opset: int) -> None:
        super().__init__(source.network, source.info)
        self._source = source
        self.recorder = Recorder(opset, free_batch(source.onnx), source.onnx.input.name)
        self._own = Pass(FileNetwork(source.onnx, file, self.recorder), {})
        self.images = self._own.shown(INPUT)

    @classmethod
    def load(cls, model: Any, /, **options: Any) -> TracedBackend:
        """Wrap a file in ONNX Runtime."""
        return cls(model, **options)

    @property
    def xp(self) -> Namespace:
        return self._own.file.xp

    @property
    def device(self) -> Device:
        """A device without memory of its own, so that variants run one after the other."""
        return Device("a file", memory=0)

    def weight(self, name: str) -> Array:
        return self._source.weight(name)

    def _scan(
        self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any
    ) -> tuple[Any, Any]:
        return looped(self.recorder, step, carry, xs)

    def cond(
        self, predicate: Array, fn: Callable[[Array], Array], x: Array, otherwise: Array
    ) -> Array:
        return branched(self.recorder, predicate, fn, x, otherwise)

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        through = self._through(images, rules)
        return through.scores(), {one: through.shown(one) for one in layers}

    def cut(self, images: Array, layer: str = INPUT, rules: Rules | None = None) -> Cut:
        return _TracedCut(
            self, layer, *self.split(images, layer, rules), self._through(images, rules)
        )

    def split(
        self, images: Array, layer: str, rules: Rules | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        through = self._through(images, rules)
        own = images if layer == INPUT else through.shown(layer)

        def rest(point: Traced) -> Traced:
            if point.ndim > own.ndim:  # variants, of which there is one at a time
                return rest(point[0, ...])[None]
            return through.with_shown(layer, point).scores()

        return own, rest

    def grad(
        self,
        images: Array,
        target: Target,
        *,
        wrt: str = INPUT,
        rules: Rules | None = None,
    ) -> Gradients:
        through = self._through(images, rules)
        if (head := self._head()) is not None and wrt == head.layer:
            return self._closed(through, target, head)
        return self.pulled(through, wrt, target)

    def pulled(self, through: Pass, wrt: str, target: Target) -> Gradients:
        """Return the gradients at a place of a pass, by a backward pass."""
        self.network.require_gradient(wrt)
        outputs = through.scores()
        gradients = through.gradient(wrt, self._seed(outputs, target))
        return Gradients(outputs, target.scores(self.xp, outputs), through.shown(wrt), gradients)

    def _through(self, images: Traced, rules: Rules | None = None) -> Pass:
        """Return the pass of images; that of the file's own is in the file already.

        Raises:
            MethodError: other derivatives are wanted, or several variants at once.
            UnsupportedModelError: the model takes integers.
        """
        if rules is not None:
            raise MethodError(
                "a method with other rules than the true derivatives cannot be exported to ONNX; "
                f"{EXPORTABLE} can"
            )
        if images is self.images:
            return self._own
        if images.shape != self.images.shape:
            raise MethodError(
                "an exported file runs one variant of its images at a time, got a batch of shape "
                f"{images.shape} for images of {self.images.shape}; export it without `memory`"
            )
        if self._source.onnx.dequantized:
            raise UnsupportedModelError(
                "changed images cannot be given to a model whose input is quantised integers; "
                "export the model with an input of floats, or a method that changes no image"
            )
        return self._own.with_shown(INPUT, images)

    def _head(self) -> Classifier | None:
        try:
            return self.classifier()
        except LayerError:
            return None

    def _closed(self, through: Pass, target: Target, head: Classifier) -> Gradients:
        """Return the gradient at the pooled layer: the class's weights over the area."""
        outputs, activations = through.scores(), through.shown(head.layer)
        weights = class_weights(self, head.weights, outputs, target)
        spatial = activations.shape[1:-1]
        shares = weights[(..., *(None,) * len(spatial), slice(None))] / math.prod(spatial)
        everywhere = shares + activations * 0
        return Gradients(outputs, target.scores(self.xp, outputs), activations, everywhere)

    def _seed(self, outputs: Traced, target: Target) -> Traced:
        """Return the gradient of the scores by the outputs: 1 for the class."""
        indices = target.indices_in(self.xp, outputs)
        if indices is None or target.is_several:
            raise MethodError(
                "a gradient in an exported file must be that of one class, as each class needs a "
                "backward pass; give a class as the target, or 'input' for a class as an input"
            )
        classes = class_scores(self.xp, outputs, is_binary=target.is_binary)
        chosen = self.xp.astype(one_hot(self.xp, indices, classes), np.float32)
        if classes.shape[-1] > math.prod(outputs.shape[1:]):  # the score of the second of two
            chosen = chosen[:, 1:] - chosen[:, :1]
        whole = self.recorder.sizes((outputs.shape[0], chosen.shape[1]))
        return self.recorder.emit("Expand", [chosen, whole])

    def _lacking(self, missing: str, purpose: str = "this") -> BackendError:
        return BackendError(
            f"{purpose} cannot be exported to ONNX, as it needs {missing}; {EXPORTABLE} can"
        )


@dataclass(frozen=True)
class _TracedCut(Cut):
    """A cut whose gradients are those of a backward pass in the file."""

    through: Pass

    def pull(self, activations: Array, target: Target) -> Gradients:
        own = self.value is activations
        through = self.through if own else self.through.with_shown(self.layer, activations)
        assert isinstance(self.backend, TracedBackend)
        return self.backend.pulled(through, self.layer, target)
