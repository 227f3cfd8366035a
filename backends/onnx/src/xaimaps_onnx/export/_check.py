"""An exported file compared with the original, and with the method on a backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from xaimaps._attribute import attribute
from xaimaps._form import Form, formed, require_same, score_rounding
from xaimaps._run import Job
from xaimaps.backend import Backend
from xaimaps.errors import UnsupportedModelError
from xaimaps.parity._measures import LOGITS, measure
from xaimaps.targets import several
from xaimaps_onnx.export._target import TARGET, Wanted
from xaimaps_onnx.runtime import OnnxRuntimeBackend
from xaimaps_onnx.runtime._sessions import ERRORS_ONLY, _one_sentence

Array = np.ndarray[Any, Any]
Values = dict[str, Array]

MOST_CLASSES = 3
"""The number of classes to compare in a file with the maps of all."""


@dataclass(frozen=True)
class Check:
    """A comparison of an exported file.

    Attributes:
        source: the original in ONNX Runtime.
        reference: the backend that runs the method.
        job: the method.
        wanted: its target.
        form: the form of the maps.
        output_name: the output with the maps.
    """

    source: OnnxRuntimeBackend
    reference: Backend
    job: Job
    wanted: Wanted
    form: Form
    output_name: str

    def compare(self, original: bytes, exported: bytes, images: Array) -> tuple[float, float]:
        """Return the relative differences of outputs and maps.

        Args:
            original: the original file.
            exported: the exported file.
            images: `(N, *spatial, C)`.

        Raises:
            UnsupportedModelError: one of them is beyond its tolerance, or the file does not run.
        """
        outputs, maps = 0.0, 0.0
        before, after = _session(original), _session(exported)
        for part in self._batches(images):
            given = {self.source.onnx.input.name: self._native(part)}
            plain = _run(before, given)
            classes = self._classes(part)
            found = _run(after, given | self._class_input(classes))
            outputs = max(outputs, *(_outputs(found[one], plain[one]) for one in plain))
            maps = max(maps, self._maps(found[self.output_name], part, classes))
        return outputs, maps

    def _batches(self, images: Array) -> list[Array]:
        """Return the images one by one, if the batch is fixed; else three or more at once."""
        size = self.source.onnx.fixed_batch
        if size is None:
            count = max(3, len(images))  # another number than that of the shapes of the graph
            return [np.resize(images, (count, *images.shape[1:]))]
        return [np.repeat(one[None], size, axis=0) for one in images]

    def _native(self, images: Array) -> Array:
        network = self.source.onnx
        return np.ascontiguousarray(network.to_graph(images).astype(network.input.dtype))

    def _classes(self, images: Array) -> Array:
        """Return some classes: the top one of the first image, the first and the last."""
        if not (self.wanted.is_all or self.wanted.is_input):
            return np.empty(0, np.int64)
        scores = self.source.forward(images)
        picked = [int(scores[0].argmax()), 0, scores.shape[-1] - 1]
        return np.asarray(picked[:MOST_CLASSES], np.int64)

    def _class_input(self, classes: Array) -> Values:
        return {TARGET: classes} if self.wanted.is_input else {}

    def _maps(self, found: Array, images: Array, classes: Array) -> float:
        """Return the relative difference of the maps, or refuse it."""
        job, target = self.job, self._target(images, classes)
        layer = job.layers[0] if len(job.layers) == 1 else list(job.layers) or None
        settings = {**job.options, **job.around}
        result = attribute(self.reference, images, job.row, target=target, layer=layer, **settings)
        expected = formed(self.source, np.asarray(result.maps), self.form, images.shape[1:-1])
        found = found[:, classes] if self.wanted.is_all else found
        rounding = score_rounding(job.row, result, self.form)
        return require_same(found, expected, job.row, self.reference, rounding)

    def _target(self, images: Array, classes: Array) -> Any:
        if self.wanted.is_all:
            return several(*map(int, classes))
        if self.wanted.is_input:
            return [int(one) for one in classes]
        return self.wanted.text if self.job.row.uses_target else None


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    with _one_sentence("load the exported file"):
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, given: Values) -> Values:
    names = [one.name for one in session.get_outputs()]
    with _one_sentence("run the exported file"):
        return dict(zip(names, session.run(names, given), strict=True))


def _outputs(found: Array, plain: Array) -> float:
    if np.array_equal(found, plain):
        return 0.0
    measures = measure(found, plain, rank=False)
    if not LOGITS.allows(measures):
        raise UnsupportedModelError(
            f"the outputs of the exported file differ from those of the original by "
            f"{measures.relative:.1e} of the largest, so that nothing was written; the model is "
            "random, or its runtime rounds it differently"
        )
    return measures.relative
