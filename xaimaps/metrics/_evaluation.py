"""`Evaluation`: the values of metrics for methods and pictures, as a table, a figure and JSON."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xaimaps.metrics._case import Array
from xaimaps.metrics._registry import METRICS

RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Scores:
    """The values of one metric for one method.

    Attributes:
        method: the method, or "random 7x7" and the like for random maps of that size.
        metric: the metric.
        values: `(N,)`, one for each picture; NaN where the metric is not defined.
        curves: `(N, points, 2)`, fractions and scores, for metrics with a curve; NaN as in values.
    """

    method: str
    metric: str
    values: Array
    curves: Array | None = None

    @property
    def mean(self) -> float:
        """The mean over the pictures for which the metric is defined."""
        known = self.values[np.isfinite(self.values)]
        return float(known.mean()) if known.size else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean by bootstrap over the pictures; NaN for fewer than two."""
        known = self.values[np.isfinite(self.values)]
        if known.size < 2:
            return float("nan"), float("nan")
        draws = np.random.Generator(np.random.Philox(0)).integers(
            known.size, size=(RESAMPLES, known.size)
        )
        low, high = np.percentile(known[draws].mean(axis=1), (2.5, 97.5))
        return float(low), float(high)

    @property
    def undefined(self) -> int:
        """The number of pictures for which the metric is not defined."""
        return int((~np.isfinite(self.values)).sum())

    def __str__(self) -> str:
        if self.undefined == self.values.size:
            return "undefined"
        low, high = self.interval
        spread = "" if np.isnan(low) else f" [{low:.3g}, {high:.3g}]"
        return f"{self.mean:.3g}{spread}"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The values of several metrics for several methods on the same pictures.

    Attributes:
        scores: of each method and metric.
        pictures: the names of the pictures.
        targets: what was explained in each picture.
        settings: what is needed to repeat the evaluation.
        notes: sentences for users.
    """

    scores: tuple[Scores, ...]
    pictures: tuple[str, ...]
    targets: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, key: tuple[str, str]) -> Scores:
        """Return the scores of a method and a metric."""
        for one in self.scores:
            if (one.method, one.metric) == key:
                return one
        raise KeyError(key)

    def __repr__(self) -> str:
        return "\n".join("  ".join(row) for row in [self.columns, *self.rows()])

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order of the rows."""
        return tuple(dict.fromkeys(one.method for one in self.scores))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, in the order of the columns."""
        return tuple(dict.fromkeys(one.metric for one in self.scores))

    @property
    def columns(self) -> tuple[str, ...]:
        """The heads of the columns, with the better direction."""
        return "method", *(f"{name} ({METRICS[name].better})" for name in self.metrics)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each method: the mean, and its 95 % interval for several pictures."""
        known = {(one.method, one.metric): str(one) for one in self.scores}
        for method in self.methods:
            yield method, *(known.get((method, metric), "-") for metric in self.metrics)

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; values that are not defined are None."""
        return {
            "settings": self.settings,
            "pictures": list(self.pictures),
            "targets": list(self.targets),
            "scores": [_entry(one) for one in self.scores],
            "notes": list(self.notes),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write `evaluation.json`, and `curves.png` if there are curves, and return their paths.

        Raises:
            OutputError: a file cannot be written.
        """
        from xaimaps._results.atomic import prepare_folder, write_atomic

        home = prepare_folder(Path(folder))
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False).encode()
        files = {home / "evaluation.json": text}
        if any(one.curves is not None for one in self.scores):
            files[home / "curves.png"] = self._figure()
        for path, content in files.items():
            write_atomic(path, functools.partial(_write, content))
        return list(files)

    def plot(self, metric: str, ax: Any = None) -> Any:
        """Draw the mean curve of each method into axes of matplotlib, and return them."""
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.gca()
        for one in self.scores:
            if one.metric == metric and one.curves is not None:
                fractions, scores = np.ma.masked_invalid(one.curves).mean(axis=0).T
                style = "--" if one.method.startswith("random") else "-"
                ax.plot(fractions, scores, style, label=f"{one.method}: {one.mean:.3g}")
        whole = "layers" if "weights" in METRICS[metric].needs else "image"
        ax.set(title=metric, xlabel=f"fraction of the {whole}", ylabel="score")
        ax.legend()
        return ax

    def _figure(self) -> bytes:
        from matplotlib.figure import Figure

        names = [one.metric for one in self.scores if one.curves is not None]
        names = list(dict.fromkeys(names))
        figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
        for index, name in enumerate(names, 1):
            self.plot(name, figure.add_subplot(1, len(names), index))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        return buffer.getvalue()


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _entry(one: Scores) -> dict[str, Any]:
    return {
        "method": one.method,
        "metric": one.metric,
        "better": METRICS[one.metric].better,
        "mean": _number(one.mean),
        "interval": [_number(end) for end in one.interval],
        "values": [_number(value) for value in one.values],
        "curves": None if one.curves is None else _numbers(one.curves),
    }


def _numbers(values: Array) -> Any:
    return [_numbers(one) if one.ndim else _number(one) for one in values.round(6)]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
