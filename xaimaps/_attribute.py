"""The two ways in: `attribute` takes arrays, `explain` takes pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xaimaps._arrays import Floats, as_batch
from xaimaps._images.open import Picture, open_picture
from xaimaps._images.preprocess import PRESETS
from xaimaps._load import load
from xaimaps._results.attribution import Attribution, Seconds
from xaimaps.backend import Backend
from xaimaps.errors import (
    ArrayInputError,
    LayerError,
    MethodError,
    ModelLoadError,
    TargetError,
)
from xaimaps.methods import Maps, Method, get_method
from xaimaps.methods._augment import augmented
from xaimaps.methods._batching import images_within
from xaimaps.targets import Target, as_target

Array = np.ndarray[Any, Any]


def attribute(
    model: Any,
    images: Any,
    method: str | Method | Callable[..., Maps] = "grad_cam",
    *,
    target: Any = None,
    layer: str | Sequence[str] | None = None,
    batch_size: int = 16,
    augment: str | None = None,
    low_pass: float | None = None,
    **options: Any,
) -> Attribution:
    """Explain a model's outputs for arrays, in one compiled program.

    Args:
        model: what `load` returns, or takes.
        images: `(N, H, W, C)` as the model takes them, after preprocessing.
        method: a name of the methods table, a `Method`, or a function like those of
            `xaimaps.methods`.
        target: None for the top class of each image; a class index, a label, "top-3", a
            function of the outputs, a list with a class for each image, or `several(...)`.
        layer: the name of the layer, for methods that have one; None for the last with a
            spatial extent; several names for the CAM methods that fuse their maps.
        batch_size: how many images run at a time; a last partial batch is padded.
        augment: "flip" takes the mean with the map of the mirrored image, mirrored back.
        low_pass: keeps frequencies of the map up to so many cycles across it (FORGrad).
        options: the method's own.

    Returns:
        Raw maps at the method's own resolution, and all that it takes to reproduce them.

    Raises:
        XaimapsError: an argument is not what it must be; the message says which and how to
            mend it.

    Example:
        >>> import numpy as np, xaimaps
        >>> images = np.zeros((1, 224, 224, 3), np.float32)
        >>> xaimaps.attribute("default", images, "grad_cam", target=285).maps.shape
        (1, 7, 7)
    """
    backend = model if isinstance(model, Backend) else load(model)
    row = get_method(method)
    row.check_options(options)
    _check_values(options)
    backend.require(row.needs, f"the method {row.name!r}")
    options = row.completed(options, backend)
    around = {"augment": augment, "low_pass": low_pass}
    around = {name: value for name, value in around.items() if value is not None}
    batch = as_batch(images, backend.input_shape)
    goal = as_target(target, len(batch), backend.info.labels)
    name = _layer_name(backend, row, layer)
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ArrayInputError(f"`batch_size` must be a whole number from 1, got {batch_size!r}")
    settings = {**options, "layer": name} if row.takes_layer else options
    size = min(batch_size, _most_images(backend, row, batch, options))
    found, seconds = _run(backend, row, batch, goal, settings, around, size)
    _check_labels(backend, found.outputs)
    return Attribution(
        maps=found.maps,
        scores=found.outputs,
        target=classes_of(goal, found.outputs),
        method=row.name,
        layer=name if name is None or isinstance(name, str) else " + ".join(name),
        options={**row.options, **options, **around},
        backend=backend.name,
        model=backend.info,
        versions={"numpy": np.__version__, **backend.versions()},
        details=dict(found.details),
        seconds=seconds,
        is_several=goal.is_several,
    )


def explain(
    model: Any,
    pictures: Any,
    method: str | Method | Callable[..., Maps] = "grad_cam",
    *,
    target: Any = None,
    layer: str | Sequence[str] | None = None,
    input_size: tuple[int, int] | None = None,
    max_pixels: int = 64_000_000,
    **options: Any,
) -> Attribution:
    """Explain a model's outputs for pictures.

    Args:
        model: what `load` returns, or takes.
        pictures: a path, a Pillow image, an array of pixels, or a list of them.
        method: see `attribute`.
        target: see `attribute`.
        layer: see `attribute`.
        input_size: height and width for a model that takes any.
        max_pixels: the most pixels of a picture that are decoded.
        options: `batch_size`, `augment`, `low_pass`, and the method's own.

    Returns:
        As `attribute`, with the pictures, so that overlays can be drawn and saved.

    Raises:
        XaimapsError: a picture cannot be read, the model's preprocessing is not known, or as
            `attribute`.

    Example:
        >>> import xaimaps
        >>> result = xaimaps.explain("default", xaimaps.zoo.PICTURES["chelsea"])
        >>> result.top(1)[0].label
        'Egyptian cat'
    """
    backend = model if isinstance(model, Backend) else load(model)
    opened = open_all(pictures, max_pixels)
    images, views = prepare_all(backend, opened, input_size)
    result = attribute(backend, images, method, target=target, layer=layer, **options)
    return replace(result, pictures=tuple(opened), views=views)


def open_all(pictures: Any, max_pixels: int = 64_000_000) -> list[Picture]:
    """Open what a user may name: a path, a Pillow image, an array of pixels, or a list of them.

    Raises:
        XaimapsError: a picture cannot be read, or there is none.
    """
    return [_opened(picture, max_pixels) for picture in _as_list(pictures)]


def prepare_all(
    backend: Backend, pictures: Sequence[Picture], input_size: tuple[int, int] | None = None
) -> tuple[Floats, tuple[Array, ...]]:
    """Prepare pictures as a model takes them.

    Returns:
        The images `(N, H, W, C)`, and the part of each picture that the model sees.

    Raises:
        ArrayInputError: the model's preprocessing or size is not known.
    """
    prepare = backend.info.preprocess
    if prepare is None:
        raise ArrayInputError(
            f"the model {backend.info.name!r} does not say how a picture becomes its input; give "
            f"load(preprocess=...) or --preprocess, one of {', '.join(PRESETS)}"
        )
    size = _input_size(backend, input_size)
    images = np.stack([prepare(picture.pixels, size) for picture in pictures])
    return images, tuple(prepare.view(picture.pixels, size) for picture in pictures)


def _check_values(options: dict[str, Any]) -> None:
    """A compiled program is kept for its options, so that all but arrays must be hashable."""
    for name, value in options.items():
        if isinstance(value, np.ndarray):
            continue
        try:
            hash(value)
        except TypeError:
            raise MethodError(
                f"the option {name!r} must be one fixed value, got {type(value).__name__} {value!r}"
            ) from None


def _layer_name(
    backend: Backend, row: Method, layer: str | Sequence[str] | None
) -> str | tuple[str, ...] | None:
    """The layer that the method will look at, or several, checked before any work."""
    if not row.takes_layer:
        if layer is not None:
            raise LayerError(
                f"the method {row.name!r} looks at the input and takes no layer, got {layer!r}"
            )
        return None
    if layer is None or isinstance(layer, str):
        return _one_layer_name(backend, row, layer)
    if "fuse" not in row.options or not layer:
        raise LayerError(f"the method {row.name!r} takes one layer, got {len(layer)}: {layer!r}")
    return tuple(_one_layer_name(backend, row, name) for name in layer)


def _one_layer_name(backend: Backend, row: Method, layer: str | None) -> str:
    if "classifier" in row.needs:
        return backend.classifier().layer if layer is None else backend.find_layer(layer).name
    return backend.find_map_layer(layer).name


def _most_images(backend: Backend, row: Method, batch: Floats, options: dict[str, Any]) -> int:
    """How many images a method with a bound on its memory takes at a time."""
    if "memory" not in row.options:
        return max(len(batch), 1)
    memory = options.get("memory", row.options["memory"])
    return images_within(backend, batch.shape[1:], memory, gradient="grad" in row.needs)


def _run(
    backend: Backend,
    row: Method,
    batch: Floats,
    goal: Target,
    settings: dict[str, Any],
    around: dict[str, Any],
    batch_size: int,
) -> tuple[Maps, Seconds]:
    """Run a batch in chunks of one size through one compiled program.

    Settings that are arrays are arguments of the program, all others are fixed in it.
    """
    drawn = row.draws(batch.shape[1:], **settings) if row.draws else {}
    extra = {n: v for n, v in {**drawn, **settings}.items() if isinstance(v, np.ndarray)}
    fixed = {name: value for name, value in settings.items() if name not in extra}
    count, explain = len(goal.arrays), augmented(row.fn, **around)

    def program(backend: Backend, images: Any, *arrays: Any) -> Maps:
        given = dict(zip(extra, arrays[count:], strict=True))
        target = goal.with_arrays(arrays[:count])
        return explain(backend, images, target, **fixed, **given)

    named = tuple(sorted(fixed.items())), tuple(sorted(around.items()))
    key = (row.fn, goal.key, named, tuple(extra))
    shared = [backend.asarray(value) for value in extra.values()]
    size = min(batch_size, max(len(batch), 1))
    compiling = running = 0.0
    parts = []
    for start in range(0, max(len(batch), 1), size):
        own = [backend.asarray(array) for array in _chunk(batch, goal.arrays, start, size)]
        begin = time.perf_counter()
        compiled = backend.compiled(key, program, *own, *shared)
        compiling += time.perf_counter() - begin
        begin = time.perf_counter()
        parts.append(_to_numpy(backend, compiled(*own, *shared)))
        running += time.perf_counter() - begin
    return _joined(parts, len(batch), goal.is_several), Seconds(compiling, running)


def _to_numpy(backend: Backend, found: Maps) -> Maps:
    details = {name: backend.to_numpy(value) for name, value in found.details.items()}
    return Maps(backend.to_numpy(found.maps), backend.to_numpy(found.outputs), details)


def _chunk(batch: Floats, arrays: Sequence[Array], start: int, size: int) -> list[Array]:
    """One chunk of the images and the target's arrays, padded to `size` with zeros."""
    parts = [batch[start : start + size], *(a[..., start : start + size] for a in arrays)]
    short = size - len(parts[0])
    if not short:
        return parts
    images = np.pad(parts[0], [(0, short), (0, 0), (0, 0), (0, 0)])
    return [images, *(np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, short)]) for a in parts[1:])]


def _joined(parts: list[Maps], count: int, is_several: bool) -> Maps:
    """One batch of the chunks, without the padding; K targets come behind the batch."""

    def join(arrays: list[Array]) -> Array:
        whole = np.concatenate(arrays, axis=int(is_several))
        return np.moveaxis(whole, 1, 0)[:count] if is_several else whole[:count]

    outputs = np.concatenate([part.outputs for part in parts])[:count]
    details = {name: join([p.details[name] for p in parts]) for name in parts[0].details}
    return Maps(join([part.maps for part in parts]), outputs, details)


def classes_of(goal: Target, outputs: Array) -> Array | None:
    """The class of each map, `(N,)` or `(N, K)`; None where the target is a function."""
    indices = goal.indices_in(np, outputs)
    if indices is None:
        return None
    indices = np.asarray(indices)
    outside = indices[(indices < 0) | (indices >= outputs.shape[-1])]
    if outside.size:
        raise TargetError(
            f"`target` must be a class from 0 to {outputs.shape[-1] - 1}, got {outside[0]}"
        )
    return np.moveaxis(indices, 0, 1) if goal.is_several else indices


def _check_labels(backend: Backend, outputs: Array) -> None:
    labels = backend.info.labels
    if labels is not None and outputs.ndim == 2 and len(labels) != outputs.shape[1]:
        raise ModelLoadError(
            f"`labels` must name the model's {outputs.shape[1]} classes, got {len(labels)} names; "
            "give the list that the model was trained with"
        )


def _as_list(pictures: Any) -> list[Any]:
    one = isinstance(pictures, str | os.PathLike | Picture) or hasattr(pictures, "__array__")
    listed = [pictures] if one or not isinstance(pictures, Iterable) else list(pictures)
    if not listed:
        raise ArrayInputError("`pictures` must hold at least one picture, got an empty list")
    return listed


def _opened(picture: Any, max_pixels: int) -> Picture:
    return picture if isinstance(picture, Picture) else open_picture(picture, max_pixels=max_pixels)


def _input_size(backend: Backend, wanted: tuple[int, int] | None) -> tuple[int, int]:
    height, width, channels = backend.input_shape
    if channels not in (None, 3):
        raise ArrayInputError(
            f"pictures are RGB, but the model takes images of {channels} channels; prepare arrays "
            "yourself and use attribute"
        )
    if height is not None and width is not None:
        if wanted not in (None, (height, width)):
            raise ArrayInputError(
                f"the model takes images of {height} x {width} only, got the input size {wanted}"
            )
        return height, width
    if wanted is None:
        raise ArrayInputError(
            "the model takes images of any size; choose one with input_size=(height, width) or "
            "--input-size"
        )
    return wanted
