"""The metrics by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from xaimaps.errors import MethodError, nearest
from xaimaps.methods._row import Row, spelled
from xaimaps.metrics._case import Measured

Family = Literal["faithfulness", "localisation", "robustness", "complexity", "randomisation"]

Need = Literal["explanation", "region", "class", "weights"]

Function = TypeVar("Function", bound=Callable[..., Measured])


@dataclass(frozen=True, repr=False)
class Metric(Row):
    """One row of the table of metrics.

    Attributes:
        fn: the function of `(case, ...)`.
        family: what the metric is about.
        better: whether a higher or a lower value is better.
        needs: "explanation" if the method has to run again, "region" if the positions of the object
            have to be known, "class" if the target has to be a class, "weights" if the model runs
            with other weights.
        paper: the reference.
    """

    fn: Callable[..., Measured]
    family: Family
    better: Literal["higher", "lower"]
    needs: frozenset[Need]
    paper: str

    given = 1


METRICS: dict[str, Metric] = {}
"""The registered metrics."""


def metric(
    *,
    family: Family,
    better: Literal["higher", "lower"],
    paper: str,
    needs: Iterable[Need] = (),
) -> Callable[[Function], Function]:
    """Register the decorated function under its own name; see `Metric` for the arguments.

    Raises:
        MethodError: another metric has this name.
    """

    def register(fn: Function) -> Function:
        row = Metric(fn, family, better, frozenset(needs), paper)
        if METRICS.setdefault(row.name, row).fn is not fn:
            raise MethodError(f"a metric {row.name!r} is already registered; choose another name")
        return fn

    return register


def get_metric(name: str) -> Metric:
    """Return the row for a name.

    Raises:
        MethodError: there is no such metric.
    """
    found = spelled(name, METRICS)
    if found is None:
        raise MethodError(
            f"`metrics` must be among {', '.join(METRICS)}, got {name!r}{nearest(name, METRICS)}"
        )
    return METRICS[found]
