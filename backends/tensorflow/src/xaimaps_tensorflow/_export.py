"""`export`: a Keras model with a method, as a SavedModel that runs without xaimaps."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xaimaps._attribute import MethodLike, plan
from xaimaps._form import BY_INPUT, Form, difference_from, example_images, named, require_form
from xaimaps._results.atomic import output_errors
from xaimaps.backend import Array
from xaimaps.errors import OutputError
from xaimaps.targets import as_spec, as_target
from xaimaps_tensorflow._backend import TensorFlowBackend


class Exported(NamedTuple):
    """A SavedModel that was written.

    Attributes:
        folder: its path.
        method: the method.
        layer: the layer that is explained.
        target: the target.
        bytes: the size of all its files.
        map_difference: the largest relative difference from the maps of the model.
    """

    folder: str
    method: str
    layer: str
    target: str
    bytes: int
    map_difference: float


def export(
    model: TensorFlowBackend,
    folder: str | os.PathLike[str],
    method: MethodLike = "grad_cam",
    *,
    target: Any = None,
    layer: str | Sequence[str] | None = None,
    images: Any = None,
    form: Form = "raw",
    batch: int = 1,
    **options: Any,
) -> Exported:
    """Write a Keras model with a method as a SavedModel.

    Its endpoint `serve` takes the images and returns `{"map": ..., "outputs": ...}`, of one forward
    pass. `keras.layers.TFSMLayer(folder)` is that endpoint as a layer of Keras. It is written only
    if its maps are those of the model.

    Args:
        model: a model from `xaimaps.load`.
        folder: the folder to write, which must not exist.
        method: see `attribute`.
        target: any target that needs no file; "input" for a further argument `target`, int32
            `(N,)`.
        layer: see `attribute`.
        images: the images to compare on, `(N, *spatial, C)`, of which the program takes the size;
            None for random ones.
        form: "raw"; "input" for the size of the input; or "normalised" for that, with the positive
            part divided by its maximum.
        batch: the number of images.
        options: `augment`, `low_pass`, and the method's own options.

    Raises:
        XaimapsError: an argument is invalid, the folder exists, or the maps differ.

    Example:
        >>> import pathlib, tempfile, keras, numpy as np, xaimaps, xaimaps_tensorflow
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
        >>> network = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])
        >>> folder = pathlib.Path(tempfile.mkdtemp(), "explained")
        >>> written = xaimaps_tensorflow.export(xaimaps.load(network), folder, "saliency")
        >>> explained = keras.layers.TFSMLayer(folder, call_endpoint="serve")
        >>> explained(np.ones((1, 8, 8, 3), np.float32))["map"].shape
        TensorShape([1, 8, 8])
    """
    import tensorflow as tf

    require_form(form)
    job, sample = plan(model, method, layer, options), example_images(model, images, batch)
    by_input = isinstance(target, str) and target == BY_INPUT
    first = np.zeros(batch, np.int32)
    spec = as_spec(None if by_input else target)
    goal = as_target(first if by_input else spec, batch, model.info.labels)
    arrays, size = job.arrays(sample), sample.shape[1:-1]

    def program(images: Array, *classes: Array) -> dict[str, Array]:
        chosen = goal.with_arrays(classes) if by_input else goal
        return named(model, job.run(model, images, chosen, arrays), form, size)

    given = [sample, first] if by_input else [sample]
    with _whole_folder(Path(folder)) as part:
        _save(program, given, part)
        read = tf.saved_model.load(str(part))
        settings = {"target": target, "layer": layer, **options}
        difference = difference_from(model, read.serve, sample, job, form, **settings)
    size_on_disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return Exported(
        str(folder), job.row.name, ", ".join(job.layers), BY_INPUT if by_input else str(spec),
        size_on_disk, difference,
    )  # fmt: skip


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`, which gets its name if no error is raised."""
    if folder.exists():
        raise OutputError(
            f"`folder` must not exist yet, got {str(folder)!r}; choose another one, or delete it"
        )
    part = folder.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with output_errors(folder):
            yield part
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save(program: Callable[..., Any], given: Sequence[Any], folder: Path) -> None:
    """Write a program with the variables that it reads, for arguments of these shapes."""
    import tensorflow as tf

    specs = [
        tf.TensorSpec(value.shape, value.dtype, name)
        for value, name in zip(given, ("images", "target"), strict=False)
    ]
    module = tf.Module()
    module.serve = tf.function(program, input_signature=specs, autograph=False)
    concrete = module.serve.get_concrete_function()
    module.read = concrete.graph.variables
    # The gradients are in the program, which is not differentiated again.
    apart = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=concrete, options=apart)
