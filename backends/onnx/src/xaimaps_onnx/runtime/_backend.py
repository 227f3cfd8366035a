"""The ONNX Runtime backend, which runs the deployed file and has no gradients."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxjax import OnnxModel
from onnxjax._model import resolve
from onnxjax._passes.inline_if import decided, written_out
from onnxjax.read._file import read_model

from xaimaps.backend import Array, Backend, ModelInfo, Replica
from xaimaps.graph import Layout, as_scores, require_rows, with_rows
from xaimaps.propagation import Rules
from xaimaps_onnx._detections import with_detections
from xaimaps_onnx._single import with_images
from xaimaps_onnx.analysis import OnnxNetwork
from xaimaps_onnx.errors import onnxjax_errors
from xaimaps_onnx.info import model_info
from xaimaps_onnx.runtime._loops import require_short_loops
from xaimaps_onnx.runtime._probe import run_once
from xaimaps_onnx.runtime._sessions import Sessions
from xaimaps_onnx.runtime._weights import take_weights

Values = dict[str, Array]


class OnnxRuntimeBackend(Backend):
    """One ONNX file in ONNX Runtime.

    Layers have the same names as in the JAX backend, because both use the same analysis.

    Args:
        network: the analysis of the graph.
        sessions: the sessions that run it.
        info: the name, labels and preprocessing of the model.

    Attributes:
        onnx: the analysis of the graph.
    """

    name = "onnxruntime"
    capabilities = frozenset({"forward", "activations", "classifier", "split", "weights"})
    takes = "ONNX files"
    suffixes = (".onnx",)
    authority = 1  # deployed models run here

    def __init__(self, network: OnnxNetwork, sessions: Sessions, info: ModelInfo) -> None:
        super().__init__(network, info)
        self.onnx = network
        self._sessions = sessions

    @classmethod
    def accepts(cls, model: object) -> bool:
        return super().accepts(model) or isinstance(model, onnx.ModelProto)

    @classmethod
    def load(cls, model: Any, /, **options: Any) -> OnnxRuntimeBackend:
        """Load an ONNX file or an `onnx.ModelProto`; the options are those of `from_onnx`."""
        known = "ONNX Runtime takes `output`, `layout`, `input_size`, `inputs` and `providers`"
        cls.require_options(cls.from_onnx, options, known)
        return cls.from_onnx(model, **options)

    @classmethod
    def from_onnx(
        cls,
        model: str | os.PathLike[str] | onnx.ModelProto,
        *,
        output: str | None = None,
        layout: str | None = None,
        input_size: Sequence[int] | None = None,
        inputs: Mapping[str, Any] | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> OnnxRuntimeBackend:
        """Load an ONNX model of images.

        Args:
            model: a path, or an `onnx.ModelProto`.
            output: the name of the output to explain, or of any value in the graph; None for the
                first output.
            layout: "NCHW" or "NHWC", the order of the axes of the images, or such as "NCDHW" for
                volumes; None to find it.
            input_size: the spatial size of the images, if the file takes any.
            inputs: the values of the model's other inputs by name, which all images get.
            providers: ONNX Runtime's execution providers, from
                `onnxruntime.get_available_providers()`.
        """
        with onnxjax_errors():
            source = read_model(model)
            source = with_detections(source) if output is None else source
            outputs = source.outputs if output is None else (output,)
            source, layout = with_images(source.until(output, alone=False), inputs, layout)
            loaded = resolve(source)
            require_short_loops(source.proto, {**loaded.graph.constants, **loaded.params})
        sessions = Sessions(source.proto, take_weights(source, loaded), providers)
        loaded = _without_constant_if(loaded, sessions)
        network = OnnxNetwork(loaded, functools.partial(run_once, sessions), layout, input_size)
        if network.dequantized:
            sessions.dequantize_floats(network.dequantized)
        if (ending := network.usual.ending) is not None:
            sessions.bypass(ending.replaced)
        return cls(network, sessions, model_info(model, network, outputs))

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}

    @property
    def xp(self) -> Any:
        return np

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        runs = list(self._runs(images, (self._output, *layers)))
        shown = {name: self._shown(name, runs, images) for name in layers}
        return self._scores([run[self._output] for run in runs], images), shown

    def named_outputs(self, images: Array) -> Values:
        names = tuple(value.name for value in self.onnx.model.outputs)
        if len(names) == 1:
            return {}
        runs = list(self._runs(images, names))
        rows = {name: [with_rows(run[name], len(images)) for run in runs] for name in names}
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    def weight(self, name: str) -> Array:
        model = self.onnx.model
        known = {**model.graph.constants, **model.params}
        weights = known[name] if name in known else self._sessions.run({}, [name])[name]
        return weights.reshape(weights.shape[:2])  # those of a 1x1 convolution have two more axes

    def replica(self) -> Replica:
        copied = copy.copy(self)
        copied._compiled, copied._sessions = {}, self._sessions.copied()
        return Replica(copied, self.onnx.layer_weights, copied._sessions.assign)

    def split(
        self, images: Array, layer: str, rules: Rules | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        passing = self.onnx.passing(layer)
        runs = list(self._runs(images, (layer, *passing)))
        activations = self._shown(layer, runs, images)

        def rest(point: Array) -> Array:
            if point.ndim > activations.ndim:  # values that bypass the layer serve all variants
                return np.stack([rest(variant) for variant in point])
            return self._rest(point, layer, runs, images)

        return activations, rest

    def _rest(self, point: Array, layer: str, runs: list[Values], images: Array) -> Array:
        layout, passing = self._layout(layer, images), self.onnx.passing(layer)
        outputs = []
        for part, run in zip(self._parts(point), runs, strict=True):
            hidden = layout.hide(np, part, run[layer]).astype(run[layer].dtype)
            given = {layer: hidden, **{name: run[name] for name in passing}}
            outputs.append(self._sessions.run(given, (self._output,))[self._output])
        return self._scores(outputs, images)

    def _scores(self, outputs: list[Array], images: Array) -> Array:
        """The outputs of all runs; each must have a row for each image that it was given."""
        parts = [as_scores(np, part, self.onnx.usual.batch_axis) for part in outputs]
        for part in parts:
            require_rows(part, self.onnx.fixed_batch or len(images))
        return _joined(parts, images)

    def values(self, images: Array, names: Sequence[str]) -> Values:
        """Return values as the graph has them; of one image each, with an axis of images in front.

        Args:
            images: `(N, H, W, C)`; of a graph with a fixed batch of several, as many.
            names: the names of the values.
        """
        runs = list(self._runs(images, tuple(names)))
        if self.onnx.fixed_batch == 1:
            return {name: np.stack([run[name] for run in runs]) for name in names}
        return {name: runs[0][name] for name in names}

    @property
    def _output(self) -> str:
        return self.onnx.output

    def _runs(self, images: Array, wanted: tuple[str, ...]) -> Iterator[Values]:
        """Yield the wanted values, of all images at once or batch by batch."""
        source = self.onnx.input
        for part in self._parts(images):
            given = self.onnx.to_graph(part).astype(source.dtype)
            yield self._sessions.run({source.name: given}, wanted)

    def _parts(self, batch: Array) -> list[Array]:
        """Return a batch whole, or padded and split into batches of a fixed size."""
        size = self.onnx.fixed_batch
        if size is None or not len(batch):
            return [batch]
        short = -len(batch) % size
        padded = np.pad(batch, [(0, short), *[(0, 0)] * (batch.ndim - 1)])
        return np.split(padded, len(padded) // size)

    def _shown(self, layer: str, runs: list[Values], images: Array) -> Array:
        layout = self._layout(layer, images)
        return _joined([layout.show(np, run[layer]) for run in runs], images)

    def _layout(self, layer: str, images: Array) -> Layout:
        return self.onnx.layout(layer, *images.shape[1:-1])


def _joined(parts: list[Array], images: Array) -> Array:
    """Return the batch of all parts, in the images' own precision.

    A detector finds another number of boxes in each image; rows that are missing are zeros.
    """
    sizes = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    parts = [
        np.pad(
            part, [(0, 0), *((0, most - n) for most, n in zip(sizes, part.shape[1:], strict=True))]
        )
        for part in parts
    ]
    return np.concatenate(parts)[: len(images)].astype(images.dtype)


def _without_constant_if(model: OnnxModel, sessions: Sessions) -> OnnxModel:
    """Inline the branch of each If whose condition depends on no input.

    The JAX backend does the same, so that layers inside the branches have the same names.
    """
    graph = model.graph
    data = {name for source in graph.inputs for name in graph.depending_on(source)}
    asked = [node.inputs[0] for node in graph.nodes if node.operator == "If"]
    constant = [name for name in dict.fromkeys(asked) if name not in data]
    if not constant:
        return model
    known = sessions.run({}, constant)
    inlined = written_out(graph, lambda node, _: decided(node, known), {})
    own = {*inlined.producers} - {*graph.producers}
    if not own:  # nothing was inlined, because names in a branch are also names of other values
        return model
    sessions.inline_if({name: bool(np.all(known[name])) for name in constant})
    return replace(model, graph=inlined)
