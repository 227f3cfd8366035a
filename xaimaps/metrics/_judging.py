"""Judge the maps of one method: the metrics with their options, the target, the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xaimaps._prepare import Batch
from xaimaps._resampling import linear_weights
from xaimaps.backend import Backend, Replica
from xaimaps.errors import ArrayInputError, MethodError, TargetError, UnsupportedModelError
from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._evaluation import Scores
from xaimaps.metrics._registry import Metric, get_metric
from xaimaps.targets import Classes, Scene, Target, as_spec

DEFAULT = ("deletion", "insertion", "average_drop", "mu_fidelity", "max_sensitivity", "sparseness")
"""The metrics of `evaluate` if none are named."""

LOCAL = ("pointing_game", "energy_pointing_game")
"""The further ones if the regions of the objects are known."""

Explain = Callable[[Backend, Array, Target], Array]

Step = tuple[str, str, Measured | None]
"""A method, a metric, and what was measured for one image."""

Plan = list[tuple[Metric, dict[str, Any]]]
"""Metrics with their options."""


def plan_metrics(names: Sequence[str], options: Mapping[str, Any], *, has_regions: bool) -> Plan:
    """Return each metric with the options that it has.

    Raises:
        MethodError: there is no such metric, no metric has an option, or it needs regions.
    """
    default = DEFAULT + (LOCAL if has_regions else ())
    rows = [get_metric(name) for name in dict.fromkeys(names or default)]
    taken = {name for row in rows for name in row.options}
    plan = [
        (row, {k: v for k, v in options.items() if k in row.options or k not in taken})
        for row in rows
    ]
    for row, own in plan:
        row.check_options(own)
        if "region" in row.needs and not has_regions:
            raise MethodError(
                f"the metric {row.name!r} needs the regions of the objects; give regions=... or "
                "--regions: a folder of masks, or boxes in COCO's JSON"
            )
    return plan


def resolved(backend: Backend, batch: Batch, target: Any) -> tuple[Target, tuple[str, ...]]:
    """Return the target, resolved on the images, and its text for each image."""
    images = batch.images
    spec = as_spec(target, len(images))
    scene = Scene(backend, images, batch.picture_sizes)
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


def judged(
    name: str,
    explain: Explain | None,
    maps: Array,
    backend: Backend,
    images: Array,
    goal: Target,
    rows: Plan,
    regions: Array | None,
    replica: Replica | None = None,
) -> Iterator[Step]:
    """Yield method, metric and what was measured, picture by picture; None without a method."""
    for row, options in rows:
        for index, (image, one) in enumerate(zip(images, maps, strict=True)):
            own = goal.with_arrays(tuple(a[..., index : index + 1] for a in goal.arrays))
            region = None if regions is None else regions[index]
            case = Case(backend, image, one, own, explain, region, replica)
            able = explain is not None or "explanation" not in row.needs
            yield name, row.name, _measured(row, case, options) if able else None


def _measured(row: Metric, case: Case, options: Mapping[str, Any]) -> Measured:
    """Measure one map; a constant one has no order, and only its complexity is defined."""
    if case.map.min() == case.map.max() and row.family != "complexity":
        return Measured(float("nan"))
    return row.fn(case, **options)


def checked(maps: Any, count: int) -> Array:
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


def enlarged(maps: Array, size: tuple[int, ...]) -> Array:
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


def require_class(rows: Plan, goal: Target) -> None:
    for row, _ in rows:
        if "class" in row.needs and not isinstance(goal, Classes):
            raise TargetError(f"the metric {row.name!r} needs a class as the target, got another")


def replica_for(rows: Plan, backend: Backend) -> Replica | None:
    """Return a copy of the model whose weights can be set, if a metric needs it.

    Raises:
        BackendError: the backend has none.
        UnsupportedModelError: no layer has weights of floats.
    """
    names = [row.name for row, _ in rows if "weights" in row.needs]
    if not names:
        return None
    backend.require(frozenset({"weights"}), f"the metric {names[0]!r}")
    replica = backend.replica()
    if not any(replica.layers.values()):
        raise UnsupportedModelError(
            f"the metric {names[0]!r} needs layers with weights of floats, got a model without, as "
            "a quantised one; evaluate the model before it was quantised, or leave the metric out"
        )
    return replica


def require_no_explanation(rows: Plan) -> None:
    for row, _ in rows:
        if "explanation" in row.needs:
            raise MethodError(
                f"the metric {row.name!r} runs the method again, which `measure` does not know; "
                "use `evaluate`"
            )


def gathered(found: Iterable[Step]) -> Iterator[Scores]:
    """Yield the scores of each method and metric."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for method, metric, one in found:
        if one is not None:
            groups.setdefault((method, metric), []).append(one)
    for (method, metric), many in groups.items():
        drawn = [one.curve for one in many if one.curve is not None]
        curves = np.stack(drawn) if drawn else None
        yield Scores(method, metric, np.array([one.value for one in many]), curves)
