"""The nodes of a method joined with a file's own, and what the file then says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnxjax._limits import MODEL_BYTES
from onnxjax.read import needed
from onnxjax.read._external import is_external
from onnxjax.read._file import refusing
from onnxjax.read._validate import all_tensors

from xaimaps.errors import ModelLoadError, OutputError, UnsupportedModelError
from xaimaps_onnx.analysis import OnnxNetwork
from xaimaps_onnx.errors import onnxjax_errors
from xaimaps_onnx.export._traced import Recorder, Traced
from xaimaps_onnx.info import EXPORTED

OLDEST_OPSET = 13


def whole(path: Path) -> onnx.ModelProto:
    """Return a file that a method can be added to, as it is.

    Raises:
        ModelLoadError: it is no model, or an exported file.
        UnsupportedModelError: its opset is too old, or its weights are in other files.
    """
    with onnxjax_errors(), refusing(repr(str(path))):
        model = onnx.load(path, load_external_data=False)
    if method := metadata_of(model).get(EXPORTED):
        raise ModelLoadError(
            f"{str(path)!r} was exported by xaimaps and has the map of {method} already; export "
            "the original model"
        )
    if any(map(is_external, all_tensors(model))):
        raise UnsupportedModelError(
            f"the weights of {str(path)!r} are in other files, to which an export cannot add; save "
            "the model as one file of less than 2 GB first"
        )
    if opset_of(model) < OLDEST_OPSET:
        raise UnsupportedModelError(
            f"{str(path)!r} must have opset {OLDEST_OPSET} or newer to be exported, got opset "
            f"{opset_of(model)}; convert it with onnx.version_converter"
        )
    return model


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the metadata of a file."""
    return {entry.key: entry.value for entry in model.metadata_props}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the operators of ONNX that a file uses."""
    return next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 1)


def join(
    model: onnx.ModelProto,
    recorder: Recorder,
    network: OnnxNetwork,
    outputs: Mapping[str, Traced],
    inputs: Iterable[Traced],
) -> None:
    """Add a method to a file, in place.

    Args:
        model: the file.
        recorder: the operations of the method.
        network: the analysis of the file.
        outputs: the further outputs by name.
        inputs: the further inputs.

    Raises:
        OutputError: a name is taken.
    """
    taken, batch = _names(model.graph), network.fixed_batch or "N"
    ends = [helper.make_node("Identity", [str(one)], [name]) for name, one in outputs.items()]
    nodes, read = needed([*recorder.nodes, *ends], (), list(outputs))
    inputs = [one for one in inputs if str(one) in read]
    for name in (*outputs, *map(str, inputs)):
        if name in taken:
            raise OutputError(
                f"the name {name!r} of the export is that of a value of the file already; choose "
                "another `output_name`"
            )
    graph = model.graph
    graph.node.extend(nodes)
    graph.initializer.extend(one for one in recorder.constants if one.name in read)
    graph.input.extend(_declared(str(one), one, (batch,)) for one in inputs)
    graph.output.extend(
        _declared(name, one, (batch, *one.shape[1:])) for name, one in outputs.items()
    )
    _fix_size(graph, network)


def serialised(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a file.

    Raises:
        OutputError: they are more than a file may have.
    """
    if model.ByteSize() > MODEL_BYTES:
        raise OutputError(
            f"the exported file would have {model.ByteSize():,} bytes, more than the "
            f"{MODEL_BYTES:,} that one file can hold; export a smaller model"
        )
    return bytes(model.SerializeToString())


def _names(graph: onnx.GraphProto) -> set[str]:
    values = (*graph.input, *graph.output, *graph.initializer)
    return {one.name for one in values} | {name for node in graph.node for name in node.output}


def _declared(name: str, one: Traced, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype))
    return helper.make_tensor_value_info(name, kind, shape)


def _fix_size(graph: onnx.GraphProto, network: OnnxNetwork) -> None:
    """Declare the size of the images, for which the method was written."""
    images = next(one for one in graph.input if one.name == network.input.name)
    shape = network.usual.shapes[network.input.name]
    axes = zip(network.input_layout, images.type.tensor_type.shape.dim, shape, strict=True)
    for axis, declared, size in axes:
        if axis != "N":
            declared.dim_value = size
