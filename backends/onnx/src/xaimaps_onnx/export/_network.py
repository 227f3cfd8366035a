"""The network of an ONNX file as a backend whose arrays are traced."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xaimaps.backend import INPUT, Array, Backend, Gradients
from xaimaps.errors import BackendError, LayerError, MethodError, UnsupportedModelError
from xaimaps.graph import as_scores
from xaimaps.methods._class_map import class_weights
from xaimaps.propagation import Rules
from xaimaps.targets import Target
from xaimaps_onnx.export._namespace import EXPORTABLE, Namespace
from xaimaps_onnx.export._traced import Recorder, Traced
from xaimaps_onnx.runtime import OnnxRuntimeBackend


class TracedBackend(Backend):
    """A file's network, whose values a method computes with; the only gradient is closed.

    Args:
        source: the file in ONNX Runtime.
        recorder: where the method's operations are recorded.
        values: the names of the values of the file's own graph.
    """

    name = "ONNX export"
    capabilities = frozenset({"forward", "activations", "grad", "classifier"})

    def __init__(self, source: OnnxRuntimeBackend, recorder: Recorder, values: set[str]) -> None:
        super().__init__(source.network, source.info)
        self._source, self._recorder, self._values = source, recorder, values
        shape = (source.onnx.usual.shapes[source.onnx.input.name][0], *source.onnx.usual_shape)
        self.images = Traced(recorder, source.onnx.input.name, np.ones(shape, np.float32))

    @classmethod
    def load(cls, model: Any, /, **options: Any) -> TracedBackend:
        """Wrap a file in ONNX Runtime."""
        return cls(model, **options)

    @property
    def xp(self) -> Namespace:
        return Namespace()

    def weight(self, name: str) -> Array:
        return self._source.weight(name)

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        if images is not self.images:
            raise MethodError(
                f"a method that runs the network on changed images cannot be exported; {EXPORTABLE}"
                " can"
            )
        network = self._source.onnx
        graph, size = network.usual, images.shape[1:-1]
        logits = self._value(graph.ending.logits if graph.ending else network.output)
        shown = {one: network.layout(one, *size).show(self.xp, self._value(one)) for one in layers}
        return as_scores(self.xp, logits, graph.batch_axis), shown

    def _value(self, name: str) -> Traced:
        if name not in self._values:
            raise UnsupportedModelError(
                f"the value {name!r} must be in the main graph of the file to be exported, but it "
                "is inside a function or a branch; simplify the file with onnx.inliner first"
            )
        value = np.ones(self._source.onnx.usual.shapes[name], np.float32)
        return self.xp.astype(Traced(self._recorder, name, value), np.float32)  # type: ignore[no-any-return]

    def grad(
        self,
        images: Array,
        target: Target,
        *,
        wrt: str = INPUT,
        rules: Rules | None = None,
    ) -> Gradients:
        """Return the gradient at the pooled layer: the class's weights over the area."""
        head = self._head(wrt)
        outputs, kept = self.forward_with_activations(images, (wrt,))
        weights = class_weights(self, head, outputs, target)
        spatial = kept[wrt].shape[1:-1]
        shares = weights[(..., *(None,) * len(spatial), slice(None))] / math.prod(spatial)
        everywhere = shares + kept[wrt] * 0
        return Gradients(outputs, target.scores(self.xp, outputs), kept[wrt], everywhere)

    def _head(self, wrt: str) -> Array:
        """Return the dense weights behind the pooled layer, or refuse any other."""
        try:
            head = self.classifier()
        except LayerError:
            raise MethodError(
                "the gradient of this model has no closed form, as it does not end in global "
                "average pooling and one dense layer; eigen_cam can be exported"
            ) from None
        if wrt != head.layer:
            raise MethodError(
                f"only the gradient at the pooled layer {head.layer!r} can be exported, got the "
                f"gradient at {'the images' if wrt == INPUT else repr(wrt)}; {EXPORTABLE} can be "
                "exported"
            )
        return head.weights

    def _lacking(self, missing: str, purpose: str = "this") -> BackendError:
        return BackendError(
            f"{purpose} cannot be exported to ONNX, as it needs {missing}; {EXPORTABLE} can"
        )
