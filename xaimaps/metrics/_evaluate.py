"""`evaluate` judges methods on pictures; `measure` judges maps that are already there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xaimaps._arrays import as_batch
from xaimaps._load import load
from xaimaps._plan import plan_all
from xaimaps._prepare import Batch, every_picture, prepare
from xaimaps._resampling import linear_weights
from xaimaps._run import Job, run_all
from xaimaps.backend import Backend
from xaimaps.errors import ArrayInputError, MethodError, TargetError
from xaimaps.methods._noise import uniform
from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._evaluation import Evaluation, Scores
from xaimaps.metrics._regions import regions_of
from xaimaps.metrics._registry import Metric, get_metric
from xaimaps.targets import Classes, Scene, Target, as_spec

DEFAULT = ("deletion", "insertion", "average_drop", "mu_fidelity", "max_sensitivity", "sparseness")
"""The metrics of `evaluate` if none are named."""

LOCAL = ("pointing_game", "energy_pointing_game")
"""The further ones if the regions of the objects are known."""

RANDOM = "random"

Explain = Callable[[Array, Target], Array]


def evaluate(
    model: Any,
    pictures: Any,
    methods: Sequence[str] = ("grad_cam", "saliency"),
    metrics: Sequence[str] = (),
    *,
    target: Any = None,
    layer: str | tuple[str, ...] | None = None,
    regions: Any = None,
    input_size: tuple[int, int] | None = None,
    metric_options: Mapping[str, Any] | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
    **options: Any,
) -> Evaluation:
    """Judge methods by metrics on the same pictures, with random maps for comparison.

    Args:
        model: a backend from `load`, or an argument of `load`.
        pictures: see `explain`. One picture says little; intervals need several.
        methods: names of methods; "all" for all that the model supports.
        metrics: names of metrics; none for `DEFAULT`, and `LOCAL` if there are regions.
        target: see `attribute`; one target for each picture.
        layer: the layer of the methods that have one.
        regions: where the object is in each picture, for the metrics of localisation: a folder of
            masks with the pictures' names, a file of boxes in COCO's JSON, or a list of masks
            `(H, W)` of the pictures' sizes.
        input_size: height and width, for a model that takes images of any size.
        metric_options: options of the metrics; each metric gets those that it has.
        progress: wraps the steps, of which there are as many as the second argument says.
        options: options of the methods; each method gets those that it has.

    Returns:
        The values of each metric for each method and picture.

    Raises:
        XaimapsError: an argument is invalid; the message says which one, and how to fix it.

    Example:
        >>> import xaimaps
        >>> cat = xaimaps.zoo.PICTURES["chelsea"]
        >>> found = xaimaps.metrics.evaluate("default", cat, ["grad_cam"], ["sparseness"])
        >>> found.methods
        ('grad_cam', 'random')
    """
    backend = model if isinstance(model, Backend) else load(model)
    jobs = plan_all(backend, list(methods), layer, options)
    rows = plan_metrics(metrics, metric_options or {}, has_regions=regions is not None)
    batch = prepare(backend, every_picture(pictures), input_size)
    places = None if regions is None else regions_of(regions, batch, backend)
    goal, names = _goal(backend, batch.images, target)
    _require_class(rows, goal)
    maps = _all_maps(backend, jobs, batch.images, goal)
    steps = _steps(backend, jobs, maps, batch.images, goal, rows, places)
    count = (len(jobs) + 1) * len(batch.images) * len(rows)
    found = list(steps if progress is None else progress(steps, count))
    return _collected(found, batch, names, _settings(backend, jobs, rows, target))


def measure(
    model: Any,
    images: Any,
    maps: Any,
    metrics: Sequence[str],
    *,
    target: Any = None,
    regions: Any = None,
    **options: Any,
) -> dict[str, Scores]:
    """Judge maps that are already there, as those of another library.

    Args:
        model: a backend from `load`, or an argument of `load`.
        images: preprocessed images `(N, H, W, C)`.
        maps: `(N, h, w)`; they are enlarged to the images' size.
        metrics: names of metrics that need no further explanation.
        target: see `attribute`.
        regions: masks `(N, H, W)`, for the metrics of localisation.
        options: options of the metrics; each metric gets those that it has.

    Returns:
        The scores by the names of the metrics.

    Raises:
        XaimapsError: an argument is invalid.

    Example:
        >>> import numpy as np, xaimaps
        >>> images = np.zeros((1, 224, 224, 3), np.float32)
        >>> spot = np.eye(224)[None]
        >>> found = xaimaps.metrics.measure("default", images, spot, ["sparseness"])
        >>> round(found["sparseness"].mean, 3)
        0.996
    """
    backend = model if isinstance(model, Backend) else load(model)
    batch = as_batch(images, backend.input_shape)
    rows = plan_metrics(metrics, options, has_regions=regions is not None)
    _require_no_explanation(rows)
    places = None if regions is None else np.asarray(regions, bool)
    whole = _enlarged(_checked(maps, len(batch)), batch.shape[1:-1])
    goal, _ = _goal(backend, batch, target)
    _require_class(rows, goal)
    found = [*_judged("given", None, whole, backend, batch, goal, rows, places)]
    return {one.metric: one for one in _scores(found)}


def plan_metrics(
    names: Sequence[str], options: Mapping[str, Any], *, has_regions: bool
) -> list[tuple[Metric, dict[str, Any]]]:
    """Return each metric with the options that it has.

    Raises:
        MethodError: there is no such metric, no metric has an option, or it needs regions.
    """
    default = DEFAULT + (LOCAL if has_regions else ())
    rows = [get_metric(name) for name in dict.fromkeys(names or default)]
    unknown = [name for name in options if not any(name in row.options for row in rows)]
    for row in rows:
        row.check_options({name: options[name] for name in unknown})
        if "region" in row.needs and not has_regions:
            raise MethodError(
                f"the metric {row.name!r} needs the regions of the objects; give regions=... or "
                "--regions: a folder of masks, or boxes in COCO's JSON"
            )
    return [(row, {k: v for k, v in options.items() if k in row.options}) for row in rows]


def _goal(backend: Backend, images: Array, target: Any) -> tuple[Target, tuple[str, ...]]:
    """Return the target, resolved on the images, and its text for each image."""
    spec = as_spec(target, len(images))
    scene = Scene(backend, images)
    settled = spec.settled(scene)
    goal = settled.resolve(len(images), backend.info.labels).frozen(np, scene.outputs)
    if goal.is_several:
        raise TargetError(f"`target` must be one for each picture here, got {spec}; give one")
    goal = goal.with_arrays(tuple(map(np.asarray, goal.arrays)))
    classes = goal.indices_in(np, scene.outputs)
    labels = backend.info.labels
    if classes is None:
        return goal, tuple(str(spec.for_image(index)) for index in range(len(images)))
    return goal, tuple(labels[one] if labels else str(one) for one in np.asarray(classes).tolist())


def _all_maps(backend: Backend, jobs: list[Job], images: Array, goal: Target) -> dict[str, Array]:
    """Return the maps of each method at the images' size, and random ones."""
    size = min(16, len(images))
    maps = {
        jobs[i].row.name: _enlarged(_checked(found.maps, len(images)), images.shape[1:-1])
        for i, found, _ in run_all(backend, jobs, images, goal, size)
    }
    ordered = {job.row.name: maps[job.row.name] for job in jobs}
    return {**ordered, RANDOM: uniform(0, *images.shape[:-1])}


def _steps(
    backend: Backend,
    jobs: list[Job],
    maps: Mapping[str, Array],
    images: Array,
    goal: Target,
    rows: Sequence[tuple[Metric, dict[str, Any]]],
    regions: Array | None,
) -> Iterator[tuple[str, str, Measured | None]]:
    explains = {job.row.name: _explaining(backend, job) for job in jobs}
    for name, own in maps.items():
        yield from _judged(name, explains.get(name), own, backend, images, goal, rows, regions)


def _judged(
    name: str,
    explain: Explain | None,
    maps: Array,
    backend: Backend,
    images: Array,
    goal: Target,
    rows: Sequence[tuple[Metric, dict[str, Any]]],
    regions: Array | None,
) -> Iterator[tuple[str, str, Measured | None]]:
    """Yield method, metric and what was measured, picture by picture; None without a method."""
    for row, options in rows:
        for index, (image, one) in enumerate(zip(images, maps, strict=True)):
            own = goal.with_arrays(tuple(a[..., index : index + 1] for a in goal.arrays))
            region = None if regions is None else regions[index]
            case = Case(backend, image, one, own, explain, region)
            able = explain is not None or "explanation" not in row.needs
            yield name, row.name, row.fn(case, **options) if able else None


def _explaining(backend: Backend, job: Job) -> Explain:
    def explain(images: Array, target: Target) -> Array:
        size = min(16, len(images))
        ((_, found, _),) = run_all(backend, [job], images, target, size)
        return _enlarged(_checked(found.maps, len(images)), images.shape[1:-1])

    return explain


def _checked(maps: Any, count: int) -> Array:
    """Return maps `(N, ...)` in numpy.

    Raises:
        ArrayInputError: there is not one map for each image, or a value is not finite.
    """
    found = np.asarray(maps, np.float32)
    if found.ndim < 2 or len(found) != count:
        raise ArrayInputError(
            f"`maps` must be one (h, w) for each of the {count} images, got shape {found.shape}"
        )
    if not np.isfinite(found).all():
        raise ArrayInputError("`maps` must be finite, got NaN or infinity; mask those values")
    return found


def _enlarged(maps: Array, size: tuple[int, ...]) -> Array:
    """Resize maps `(N, ...)` to a size, linearly.

    Raises:
        ArrayInputError: the maps have other axes than the images, as channels.
    """
    if maps.ndim != len(size) + 1:
        raise ArrayInputError(
            f"maps must have the axes (N, {', '.join('hwd'[: len(size)])}) to be judged, got shape "
            f"{maps.shape}; choose a `reduce` other than None"
        )
    for axis, n in enumerate(size, 1):
        if maps.shape[axis] != n:
            weights = linear_weights(maps.shape[axis], n)
            maps = np.moveaxis(np.tensordot(weights, maps, axes=(1, axis)), 0, axis)
    return maps


def _require_class(rows: Sequence[tuple[Metric, Any]], goal: Target) -> None:
    for row, _ in rows:
        if "class" in row.needs and not isinstance(goal, Classes):
            raise TargetError(f"the metric {row.name!r} needs a class as the target, got another")


def _require_no_explanation(rows: Sequence[tuple[Metric, Any]]) -> None:
    for row, _ in rows:
        if "explanation" in row.needs:
            raise MethodError(
                f"the metric {row.name!r} runs the method again, which `measure` does not know; "
                "use `evaluate`"
            )


def _scores(found: Iterable[tuple[str, str, Measured | None]]) -> Iterator[Scores]:
    """Yield the scores of each method and metric."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for method, metric, one in found:
        if one is not None:
            groups.setdefault((method, metric), []).append(one)
    for (method, metric), many in groups.items():
        drawn = [one.curve for one in many if one.curve is not None]
        curves = np.stack(drawn) if drawn else None
        yield Scores(method, metric, np.array([one.value for one in many]), curves)


def _collected(
    found: list[tuple[str, str, Measured | None]],
    batch: Batch,
    targets: tuple[str, ...],
    settings: dict[str, Any],
) -> Evaluation:
    scores = tuple(_scores(found))
    notes = [
        f"{one.metric} is not defined for {one.undefined} of {one.values.size} maps of "
        f"{one.method}, as for a constant map"
        for one in scores
        if one.undefined
    ]
    if len(batch.images) == 1:
        notes.append("one picture says little about a method; evaluate several")
    pictures = tuple(one.source for one in batch.pictures)
    return Evaluation(scores, pictures, targets, settings, tuple(notes))


def _settings(
    backend: Backend, jobs: list[Job], rows: Sequence[tuple[Metric, dict[str, Any]]], target: Any
) -> dict[str, Any]:
    return {
        "model": backend.info.name,
        "backend": backend.name,
        "versions": backend.versions(),
        "target": str(as_spec(target, 1)) if not isinstance(target, list) else None,
        "methods": {
            job.row.name: {**{n: repr(v) for n, v in job.all_options.items()}, "layers": job.layers}
            for job in jobs
        },
        "metrics": {
            row.name: {n: repr(v) for n, v in {**row.options, **own}.items()} for row, own in rows
        },
    }
