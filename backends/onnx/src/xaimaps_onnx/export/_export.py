"""`export`: a file with a method in it, compared before it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx.shape_inference import InferenceError

from xaimaps import zoo
from xaimaps._attribute import Layers, MethodLike, plan
from xaimaps._form import Form, formed, require_form
from xaimaps._load import load, located
from xaimaps._prepare import every_picture, prepare
from xaimaps._results.atomic import write_atomic
from xaimaps._run import Job
from xaimaps.backend import Backend
from xaimaps.errors import MethodError, ModelLoadError, OutputError, XaimapsError
from xaimaps_onnx.export._check import Check
from xaimaps_onnx.export._colours import coloured, overlaid
from xaimaps_onnx.export._file import join, opset_of, serialised, whole
from xaimaps_onnx.export._namespace import EXPORTABLE
from xaimaps_onnx.export._network import TracedBackend
from xaimaps_onnx.export._target import Wanted, wanted_target
from xaimaps_onnx.export._traced import Traced
from xaimaps_onnx.info import EXPORTED
from xaimaps_onnx.runtime import OnnxRuntimeBackend

HEAT_MAP = "heat_map"
"""The name of the output with colours."""
OVERLAY = "overlay"
"""The name of the output with colours over the picture."""


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        file: its path.
        method: the method.
        layer: the layer that is explained.
        target: the target.
        bytes: its size.
        growth: how many bytes more it has than the original.
        nodes: the number of nodes that were added.
        outputs: the further outputs, with their shapes; N is the batch.
        images: what it was compared on.
        reference: the backend that it was compared with.
        output_difference: the largest relative difference from the outputs of the original.
        map_difference: the largest relative difference from the maps of the backend.
    """

    file: str
    method: str
    layer: str
    target: str
    bytes: int
    growth: int
    nodes: int
    outputs: dict[str, list[int | str]]
    images: str
    reference: str
    output_difference: float
    map_difference: float


def export(
    model: str | os.PathLike[str],
    file: str | os.PathLike[str],
    method: MethodLike = "grad_cam",
    *,
    target: Any = None,
    layer: Layers = None,
    pictures: Any = None,
    form: Form = "raw",
    heat_map: bool = False,
    overlay: bool = False,
    output_name: str = "map",
    loading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Exported:
    """See `xaimaps.export`."""
    path = _file_of(model)
    _require_choices(file, form, output_name)
    if Path(file).exists() and path.samefile(file):
        raise OutputError(
            f"the file to write must be another than the model, got {str(path)!r} for both; choose "
            "another name"
        )
    loading, original = dict(loading or {}), whole(path)
    source = load(path, backend="onnxruntime", **loading)
    assert isinstance(source, OnnxRuntimeBackend)
    reference = load(path, **loading)
    job = plan(reference, method, layer, options)
    _require_batch(original, source)
    writer = TracedBackend(source, original, opset_of(original))
    colours = (HEAT_MAP,) * heat_map + (OVERLAY,) * overlay
    wanted, outputs = _written(writer, job, target, form, colours, output_name)
    exported = onnx.ModelProto()
    exported.CopyFrom(original)
    inputs = [one for one in wanted.goal.arrays if isinstance(one, Traced)]
    join(exported, writer.recorder, source.onnx, outputs, inputs)
    _describe(exported, job, wanted, form, source)
    data, before = serialised(exported), serialised(original)
    images, shown = _images(reference, pictures, source)
    check = Check(source, reference, job, wanted, form, output_name)
    differences = check.compare(before, data, images)
    write_atomic(Path(file), lambda part: part.write(data))
    batch = source.onnx.fixed_batch or "N"
    return Exported(
        str(file), job.row.name, ", ".join(job.layers), wanted.text, len(data),
        len(data) - len(before), len(exported.graph.node) - len(original.graph.node),
        {name: [batch, *one.shape[1:]] for name, one in outputs.items()},
        shown, reference.name, *differences,
    )  # fmt: skip


def _file_of(model: str | os.PathLike[str]) -> Path:
    place = located(model) if isinstance(model, str | os.PathLike) else model
    if not isinstance(place, str | os.PathLike) or Path(place).suffix.lower() != ".onnx":
        raise ModelLoadError(
            f"`model` must be an ONNX file to be exported, got {str(model)!r}; convert a Keras "
            "model first, by `xaimaps convert`"
        )
    if not Path(place).is_file():
        raise ModelLoadError(f"`model` must be a file, got {str(place)!r}; check its path")
    return Path(place)


def _require_choices(file: str | os.PathLike[str], form: str, output_name: str) -> None:
    if Path(file).suffix.lower() != ".onnx":
        raise OutputError(f"the file to write must end in .onnx, got {os.fspath(file)!r}")
    require_form(form)
    if not isinstance(output_name, str) or output_name in ("", HEAT_MAP, OVERLAY):
        raise OutputError(
            f"`output_name` must be a name other than {HEAT_MAP!r} and {OVERLAY!r}, got "
            f"{output_name!r}"
        )


def _require_batch(original: onnx.ModelProto, source: OnnxRuntimeBackend) -> None:
    """Refuse a file that is rewritten to be explained."""
    if source.onnx.input.name not in {one.name for one in original.graph.input}:
        raise ModelLoadError(
            "the model must take a batch of images (N, C, H, W) or (N, H, W, C) to be exported, "
            "but takes one image without a batch axis; export it with a batch"
        )


def _written(
    writer: TracedBackend,
    job: Job,
    target: Any,
    form: Form,
    colours: tuple[str, ...],
    output_name: str,
) -> tuple[Wanted, dict[str, Traced]]:
    """Record the method, and return its target and the further outputs."""
    writer.require(job.row.needs, f"the method {job.row.name!r}")
    scores, size = writer.forward(writer.images), writer.images.shape[1:-1]
    wanted = wanted_target(job.row, target, scores, writer.info.labels, writer.recorder)
    maps = _maps(writer, job, wanted)
    maps = writer.xp.moveaxis(maps, 0, 1) if wanted.is_all else maps
    outputs = {output_name: formed(writer, maps, form, size)}
    if colours:
        drawn = coloured(writer.xp, formed(writer, maps, "normalised", size))
        pictures = {HEAT_MAP: drawn}
        if OVERLAY in colours:
            pictures[OVERLAY] = overlaid(writer.xp, drawn, writer.images, writer.info.pixels)
        outputs.update((name, pictures[name]) for name in colours)
    return wanted, outputs


def _maps(writer: TracedBackend, job: Job, wanted: Wanted) -> Traced:
    """Record the method, which may use what traced values lack."""
    try:
        arrays = job.arrays(writer.images)
        return job.run(writer, writer.images, wanted.goal, arrays).maps  # type: ignore[no-any-return]
    except XaimapsError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError, InferenceError) as error:
        first = " ".join(str(error).split())[:200]
        raise MethodError(
            f"the method {job.row.name!r} cannot be exported to ONNX, as a traced value cannot do "
            f"all that it computes ({first}); {EXPORTABLE} can be exported"
        ) from error


def _describe(
    exported: onnx.ModelProto, job: Job, wanted: Wanted, form: Form, source: OnnxRuntimeBackend
) -> None:
    """Write into a file's metadata what it is."""
    said = {
        EXPORTED: job.row.name,
        "xaimaps.layer": ", ".join(job.layers),
        "xaimaps.target": wanted.text,
        "xaimaps.form": form,
        "xaimaps.options": json.dumps(job.all_options, default=str),
        "xaimaps.source_sha256": source.info.sha256,
        "xaimaps.version": version("xaimaps"),
    }
    for key, value in said.items():
        exported.metadata_props.add(key=key, value=value)


def _images(
    reference: Backend, pictures: Any, source: OnnxRuntimeBackend
) -> tuple[np.ndarray[Any, Any], str]:
    """Return the images to compare on, and what they are."""
    shape = source.onnx.usual_shape
    size = shape[:-1]
    if pictures is not None:
        images = prepare(reference, every_picture(pictures, len(size)), size).images
        return images, f"{len(images)} given picture{'s' * (len(images) != 1)}"
    if reference.info.preprocess is not None and len(shape) == 3:
        images = prepare(reference, list(zoo.PICTURES.values()), size).images
        return images, f"the {len(images)} bundled photographs, as no picture was given"
    random = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    return random, "3 random images, as no picture was given"
