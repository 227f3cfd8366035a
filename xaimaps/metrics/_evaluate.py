"""`evaluate` judges methods on pictures; `measure` judges maps that are already there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xaimaps._arrays import as_batch
from xaimaps._attribute import Layers
from xaimaps._load import load
from xaimaps._plan import plan_all
from xaimaps._prepare import Batch, every_picture, prepare, require_files
from xaimaps._progress import shown
from xaimaps._run import Job, run_all
from xaimaps.backend import Backend, Replica
from xaimaps.methods._noise import uniform
from xaimaps.metrics._case import Array
from xaimaps.metrics._evaluation import Evaluation, Scores
from xaimaps.metrics._judging import (
    Explain,
    Plan,
    Step,
    checked,
    enlarged,
    gathered,
    judged,
    plan_metrics,
    replica_for,
    require_class,
    require_no_explanation,
    resolved,
)
from xaimaps.metrics._regions import masks_of, regions_of
from xaimaps.targets import Target


def evaluate(
    model: Any,
    pictures: Any,
    methods: Sequence[str] = ("grad_cam", "saliency"),
    metrics: Sequence[str] = (),
    *,
    target: Any = None,
    layer: Layers = None,
    regions: Any = None,
    input_size: tuple[int, ...] | None = None,
    metric_options: Mapping[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> Evaluation:
    """Judge methods by metrics on the same pictures.

    Random maps are judged too, of the size of each method's maps before they are enlarged: a coarse
    map covers whole parts of an object, and is to be compared with coarse random ones.

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
        input_size: the spatial size, for a model that takes images of any size.
        metric_options: options of the metrics; each metric gets those that it has.
        progress: see `attribute`.
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
        ('grad_cam', 'random 7x7')
    """
    backend = model if isinstance(model, Backend) else load(model)
    jobs = plan_all(backend, list(methods), layer, options, target)
    rows = plan_metrics(metrics, metric_options or {}, has_regions=regions is not None)
    require_files(backend, input_size)
    batch = prepare(backend, every_picture(pictures, len(backend.input_shape) - 1), input_size)
    places = None if regions is None else regions_of(regions, batch, backend)
    goal, names = resolved(backend, batch, target)
    require_class(rows, goal)
    replica = replica_for(rows, backend)
    maps = _all_maps(backend, jobs, batch.images, goal)
    steps = _steps(backend, jobs, maps, batch.images, goal, rows, places, replica)
    count = len(maps) * len(batch.images) * len(rows)
    found = list(shown(steps, count, backend.watch) if progress else steps)
    return _collected(found, batch, names, _settings(backend, jobs, rows))


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
    require_no_explanation(rows)
    places = None if regions is None else masks_of(regions, batch.shape[:-1])
    whole = enlarged(checked(maps, len(batch)), batch.shape[1:-1])
    goal, _ = resolved(backend, Batch(batch), target)
    require_class(rows, goal)
    found = [*judged("given", None, whole, backend, batch, goal, rows, places)]
    return {one.metric: one for one in gathered(found)}


def _all_maps(backend: Backend, jobs: list[Job], images: Array, goal: Target) -> dict[str, Array]:
    """Return the maps of each method at the images' size, and random ones of each map size."""
    size = min(16, len(images))
    made = {
        jobs[i].row.name: checked(found.maps, len(images))
        for i, _, found, _ in run_all(backend, jobs, images, goal, size)
    }
    maps = {job.row.name: made[job.row.name] for job in jobs}
    shapes = dict.fromkeys(one.shape for one in maps.values())
    maps |= {f"random {'x'.join(map(str, shape[1:]))}": uniform(0, *shape) for shape in shapes}
    return {name: enlarged(one, images.shape[1:-1]) for name, one in maps.items()}


def _steps(
    backend: Backend,
    jobs: list[Job],
    maps: Mapping[str, Array],
    images: Array,
    goal: Target,
    rows: Plan,
    regions: Array | None,
    replica: Replica | None,
) -> Iterator[Step]:
    explains = {job.row.name: _explaining(backend, job) for job in jobs}
    for name, own in maps.items():
        explain = explains.get(name)
        yield from judged(name, explain, own, backend, images, goal, rows, regions, replica)


def _explaining(backend: Backend, job: Job) -> Explain:
    def explain(model: Backend, images: Array, target: Target) -> Array:
        size = min(16, len(images))
        ((_, _, found, _),) = run_all(model, [job], images, target, size)
        # other weights may overflow, which is a result and no mistake of the user
        maps = checked(found.maps, len(images)) if model is backend else found.maps
        return enlarged(maps, images.shape[1:-1])

    return explain


def _collected(
    found: list[Step],
    batch: Batch,
    targets: tuple[str, ...],
    settings: dict[str, Any],
) -> Evaluation:
    scores = tuple(gathered(found))
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


def _settings(backend: Backend, jobs: list[Job], rows: Plan) -> dict[str, Any]:
    return {
        "model": backend.info.name,
        "backend": backend.name,
        "precision": backend.precision,
        "versions": backend.versions(),
        "methods": {
            job.row.name: {**{n: repr(v) for n, v in job.all_options.items()}, "layers": job.layers}
            for job in jobs
        },
        "metrics": {
            row.name: {n: repr(v) for n, v in {**row.options, **own}.items()} for row, own in rows
        },
    }
