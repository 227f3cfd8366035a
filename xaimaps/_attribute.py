"""The two entry points: `attribute` takes arrays, `explain` takes pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from xaimaps._arrays import Floats, as_batch
from xaimaps._each import each, rows_of
from xaimaps._images.open import MAX_PIXELS
from xaimaps._load import load
from xaimaps._prepare import Batch, drawn_on, every_picture, prepare
from xaimaps._progress import shown
from xaimaps._results.attribution import Attribution, Seconds, displays_of
from xaimaps._run import Job, run_all
from xaimaps.backend import Backend
from xaimaps.errors import (
    ArrayInputError,
    LayerError,
    MethodError,
    ModelLoadError,
    OutOfMemoryError,
    TargetError,
)
from xaimaps.methods import Maps, Method, get_method
from xaimaps.targets import (
    EveryTarget,
    Scene,
    Target,
    TargetSpec,
    as_spec,
    class_scores,
    is_binary,
)

Array = np.ndarray[Any, Any]
MethodLike = str | Method | Callable[..., Maps]
Layers = str | int | Sequence[str | int] | None


@overload
def attribute(
    model: Any, images: Any, method: MethodLike = ..., **settings: Any
) -> Attribution: ...


@overload
def attribute(model: Any, images: Any, method: list[Any], **settings: Any) -> list[Attribution]: ...


def attribute(
    model: Any,
    images: Any,
    method: MethodLike | list[Any] = "grad_cam",
    *,
    target: Any = None,
    layer: Layers = None,
    pictures: Any = None,
    batch_size: int = 16,
    augment: str | None = None,
    low_pass: float | None = None,
    progress: bool = False,
    **options: Any,
) -> Attribution | list[Attribution]:
    """Explain a model's outputs for arrays, in one compiled program.

    Args:
        model: a backend from `load`, or an argument of `load`.
        images: preprocessed images `(N, H, W, C)`.
        method: the name of a method, a `Method`, or a function like those of
            `xaimaps.methods`; a list for a list of results, which share the forward pass.
        target: None for the top class of each image; a class index, a label, "top-3",
            "A vs B" or any other text of a target; a function of the outputs, a list with a
            class for each image, or a result of a function of `xaimaps.targets`.
        layer: the name of the layer, for methods that have one, or its number among the layers
            with a spatial extent, -1 for the last; None for the default layer; several for the CAM
            methods that fuse their maps.
        pictures: the pictures to draw overlays on, one for each image, as `explain` takes them.
        batch_size: the most images to run at a time; a last partial batch is padded. On a CPU,
            JAX runs half of them, or a quarter, if their values are larger than memory that is
            used again.
        augment: "flip" takes the mean with the map of the mirrored image, mirrored back.
        low_pass: the highest frequency of the map to keep, in cycles per map (FORGrad).
        progress: whether to show progress bars, for methods, images and the steps of long methods.
        options: the method's own options.

    Returns:
        Raw maps at the method's own resolution, and the settings that reproduce them.

    Raises:
        XaimapsError: an argument is invalid; the message says which one, and how to fix it.

    Example:
        >>> import numpy as np, xaimaps
        >>> images = np.zeros((1, 224, 224, 3), np.float32)
        >>> xaimaps.attribute("default", images, "grad_cam", target=285).maps.shape
        (1, 7, 7)
    """
    backend = model if isinstance(model, Backend) else load(model)
    settings = {**options, "augment": augment, "low_pass": low_pass}
    backend.require_values(images, target, settings)
    jobs = [plan(backend, one, layer, settings) for one in _as_methods(method)]
    batch = drawn_on(_as_images(backend, images), pictures)
    found = run_jobs(backend, jobs, batch, target, batch_size, progress=progress)
    return found if isinstance(method, list) else found[0]


@overload
def explain(
    model: Any, pictures: Any, method: MethodLike = ..., **settings: Any
) -> Attribution: ...


@overload
def explain(model: Any, pictures: Any, method: list[Any], **settings: Any) -> list[Attribution]: ...


def explain(
    model: Any,
    pictures: Any,
    method: MethodLike | list[Any] = "grad_cam",
    *,
    target: Any = None,
    layer: Layers = None,
    inputs: Mapping[str, Any] | None = None,
    input_size: tuple[int, ...] | None = None,
    max_pixels: int = MAX_PIXELS,
    batch_size: int = 16,
    progress: bool = False,
    **options: Any,
) -> Attribution | list[Attribution]:
    """Explain a model's outputs for pictures, volumes or clips.

    Args:
        model: a backend from `load`, or an argument of `load`.
        pictures: a path, bytes, an open file, a Pillow image, an array of pixels or a PyTorch
            tensor; or several: a list, an array `(N, H, W, C)`, a folder, or a pattern such as
            "scans/*.png". For models of volumes or clips, files of NIfTI, DICOM, TIFF, GIF or
            `.npy`, or arrays `(D, H, W)` or `(D, H, W, C)`.
        method: see `attribute`.
        target: see `attribute`.
        layer: see `attribute`.
        inputs: the values of the model's other inputs that differ from picture to picture, by name:
            a list or an array with one for each picture, or a folder of files; `load(inputs=)` has
            those that all pictures share.
        input_size: height and width, or those of a volume, for a model that takes images of any
            size.
        max_pixels: the largest number of pixels of a picture.
        batch_size: see `attribute`.
        progress: see `attribute`.
        options: `augment`, `low_pass`, and the method's own options.

    Returns:
        The same as `attribute`, with the pictures, so that overlays can be drawn and saved.

    Raises:
        XaimapsError: a picture cannot be read, the model's preprocessing is unknown, or an argument
            is invalid.

    Example:
        >>> import xaimaps
        >>> result = xaimaps.explain("default", xaimaps.zoo.PICTURES["chelsea"])
        >>> result.top(1)[0].label
        'Egyptian cat'
    """
    sized: dict[str, Any] = {} if input_size is None else {"input_size": input_size}
    if inputs is not None:
        settings = {"layer": layer, "max_pixels": max_pixels, "progress": progress, **options}
        return _explain_each(model, pictures, method, target, rows_of(inputs), sized, settings)
    backend = model if isinstance(model, Backend) else load(model, **sized)
    backend.require_values(pictures, target, options)
    jobs = [plan(backend, one, layer, options) for one in _as_methods(method)]
    rank = len(backend.input_shape) - 1
    batch = prepare(backend, every_picture(pictures, rank), input_size, max_pixels)
    found = run_jobs(backend, jobs, batch, target, batch_size, progress=progress)
    return found if isinstance(method, list) else found[0]


def _explain_each(
    model: Any,
    pictures: Any,
    method: MethodLike | list[Any],
    target: Any,
    rows: list[dict[str, Any]],
    sized: dict[str, Any],
    settings: dict[str, Any],
) -> Attribution | list[Attribution]:
    """Explain pictures one by one, each with its own values of the model's other inputs."""
    backend = model if isinstance(model, Backend) else load(model, inputs=rows[0], **sized)
    every = every_picture(pictures, len(backend.input_shape) - 1)

    def run(backend: Backend, index: int, target: TargetSpec) -> Any:
        return explain(backend, every[index], method, target=target, **sized, **settings)

    return each(backend, rows, len(every), target, run)


def _as_images(backend: Backend, images: Any) -> Floats:
    if backend.info.is_vector:
        vectors: Floats = as_batch(images, backend.input_shape[:-1])[..., None]
        return vectors
    return as_batch(images, backend.input_shape)


def _as_methods(method: MethodLike | list[Any]) -> Sequence[MethodLike]:
    if method == []:
        raise MethodError("`method` must name at least one method, got an empty list")
    return method if isinstance(method, list) else [method]


def plan(backend: Backend, method: MethodLike, layer: Layers, settings: dict[str, Any]) -> Job:
    """Check the user's arguments before any computation.

    Args:
        backend: the model.
        method: see `attribute`.
        layer: see `attribute`.
        settings: the method's options, `augment` and `low_pass`.

    Raises:
        XaimapsError: see `attribute`.
    """
    row = get_method(method)
    options = dict(settings)
    around = {name: options.pop(name, None) for name in ("augment", "low_pass")}
    row.check_options(options)
    _check_values(options)
    backend.require(row.needs, f"the method {row.name!r}")
    around = {name: value for name, value in around.items() if value is not None}
    return Job(row, _layer_names(backend, row, layer), row.completed(options, backend), around)


def run_jobs(
    backend: Backend,
    jobs: Sequence[Job],
    batch: Batch,
    target: Any,
    batch_size: int = 16,
    *,
    progress: bool = False,
) -> list[Attribution]:
    """Run several methods on one prepared batch; the results are in the order of the jobs."""
    size = min(_checked_size(batch_size), max(len(batch.images), 1))
    results = each_result(backend, jobs, batch, target, size)
    found = dict(shown(results, len(jobs), backend.watch) if progress else results)
    return [found[i] for i in range(len(jobs))]


def each_result(
    backend: Backend, jobs: Sequence[Job], batch: Batch, target: Any, size: int
) -> Iterator[tuple[int, Attribution]]:
    """Run several methods on `size` images at a time, or on fewer if the memory does not suffice.

    Yields:
        A job's index and its result, in the order of execution.
    """
    left = dict(enumerate(jobs))
    try:
        for i, result in each_of_size(backend, jobs, batch, target, size):
            del left[i]
            yield i, result
    except OutOfMemoryError:  # whose traceback has arrays that would stay in the memory
        if size == 1:
            raise
    else:
        return
    numbers, less = [*left], size // 2
    note = f"the memory did not suffice for {size} images at a time; {less} ran at a time"
    for i, result in each_result(backend, [*left.values()], batch, target, less):
        yield numbers[i], replace(result, remarks=(note, *result.remarks))


def each_of_size(
    backend: Backend, jobs: Sequence[Job], batch: Batch, target: Any, size: int
) -> Iterator[tuple[int, Attribution]]:
    """Run several methods in programs of exactly `size` images; the batch is padded.

    Yields:
        A job's index and its result, in the order of execution.
    """
    count = len(batch.images)
    spec = as_spec(target, count) if any(job.row.uses_target for job in jobs) else EveryTarget()
    scene = Scene(backend, batch.images, batch.picture_sizes)
    settled = spec.settled(scene)
    goal = settled.resolve(count, backend.info.labels)
    goal = goal.with_arrays(tuple(map(np.asarray, goal.arrays)))  # they may be the framework's own
    for i, job, maps, seconds in run_all(backend, jobs, batch.images, goal, size, batch.levels):
        _check_labels(backend, maps.outputs)
        own, aim = (spec, settled) if job.row.uses_target else (EveryTarget(),) * 2
        result = _result(backend, job, batch, own, job.explains(goal), maps, seconds)
        yield (
            i,
            replace(
                result,
                boxes=scene.boxes,
                explained_boxes=tuple(map(aim.boxes, range(count))),
                scores_boxes=not scene.has_classes,
                remarks=() if job is jobs[i] else (job.less_memory_note,),
            ),
        )


def _result(
    backend: Backend,
    job: Job,
    batch: Batch,
    spec: TargetSpec,
    goal: Target,
    found: Maps,
    seconds: Seconds,
) -> Attribution:
    return Attribution(
        maps=found.maps,
        scores=found.outputs,
        target=spec,
        classes=classes_of(goal, found.outputs),
        target_scores=_scores_of(spec, goal, found.outputs),
        method=job.row.name,
        row=job.row,
        display=displays_of(job.row, found.maps),
        layers=job.layers,
        options=job.all_options,
        backend=backend.name,
        precision=backend.precision,
        model=backend.info,
        versions={"numpy": np.__version__, **backend.versions()},
        details=dict(found.details),
        seconds=seconds,
        is_several=goal.is_several,
        input_size=batch.size,
        vectors=batch.images[..., 0] if backend.info.is_vector else None,
        pictures=batch.pictures,
        views=batch.views,
    )


def _scores_of(spec: TargetSpec, goal: Target, outputs: Array) -> Array | None:
    """Return the explained scores, `(N,)` or `(N, K)`; None if there are none in numpy."""
    if spec.is_function or isinstance(goal, EveryTarget):
        return None
    scores = np.asarray(goal.scores(np, outputs))
    return np.moveaxis(scores, 0, 1) if goal.is_several else scores


def _checked_size(batch_size: int) -> int:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ArrayInputError(f"`batch_size` must be an integer of at least 1, got {batch_size!r}")
    return batch_size


def _check_values(options: dict[str, Any]) -> None:
    """Require hashable options, except arrays, as compiled programs are cached by options."""
    for name, value in options.items():
        if isinstance(value, np.ndarray):
            continue
        try:
            hash(value)
        except TypeError:
            raise MethodError(
                f"`{name}` must be a hashable value, such as a tuple, got {type(value).__name__} "
                f"{value!r}"
            ) from None


def _layer_names(backend: Backend, row: Method, layer: Layers) -> tuple[str, ...]:
    """Return the names of the layers to explain, after a check."""
    listed = layer if isinstance(layer, tuple | list) else [layer]
    if layer is not None and not all(map(_is_layer, listed)):
        raise LayerError(
            f"`layer` must be a name or a whole number, or several, got {layer!r}; `xaimaps "
            "layers` lists the layers"
        )
    if not row.takes_layer:
        if layer is not None:
            raise LayerError(
                f"`layer` must be None for {row.name!r}, which explains the input, got {layer!r}"
            )
        return ()
    if layer is None or isinstance(layer, str | int):
        return (_one_layer_name(backend, row, layer),)
    if "fuse" not in row.options or not layer:
        raise LayerError(f"`layer` must be one name for {row.name!r}, got {len(layer)}: {layer!r}")
    return tuple(_one_layer_name(backend, row, name) for name in layer)


def _is_layer(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _one_layer_name(backend: Backend, row: Method, layer: str | int | None) -> str:
    layer = _spatial_layer(backend, layer) if isinstance(layer, int) else layer
    if "classifier" in row.needs:
        return backend.classifier().layer if layer is None else backend.find_layer(layer).name
    return backend.find_map_layer(layer).name


def _spatial_layer(backend: Backend, index: int) -> str:
    """Return the name of a layer by its number among those with spatial positions; -1 is the last.

    Raises:
        LayerError: there is no such number.
    """
    names = [layer.name for layer in backend.layers() if layer.is_spatial]
    if not -len(names) <= index < len(names):
        raise LayerError(
            f"`layer` must be a name or a number from {-len(names)} to {len(names) - 1}, got "
            f"{index}; `xaimaps layers` lists the layers"
        )
    return names[index]


def classes_of(goal: Target, outputs: Array) -> Array | None:
    """Return the class of each map, `(N,)` or `(N, K)`; None if the target is not a class."""
    indices = goal.indices_in(np, outputs)
    if indices is None:
        return None
    indices = np.asarray(indices)
    count = class_scores(np, outputs, is_binary=goal.is_binary).shape[-1]
    outside = indices[(indices < 0) | (indices >= count)]
    if outside.size:
        raise TargetError(f"`target` must be a class from 0 to {count - 1}, got {outside[0]}")
    return np.moveaxis(indices, 0, 1) if goal.is_several else indices


def _check_labels(backend: Backend, outputs: Array) -> None:
    labels = backend.info.labels
    if labels is None or outputs.ndim > 2:
        return
    count = class_scores(np, outputs, is_binary=is_binary(labels)).shape[1]
    if len(labels) != count:
        raise ModelLoadError(
            f"`labels` must name the model's {count} classes, got {len(labels)} names; give the "
            "list that the model was trained with"
        )
