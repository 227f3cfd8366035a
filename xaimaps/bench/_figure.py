"""A figure of a benchmark: images per second by batch size."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from xaimaps.bench._report import Report, Row


def figure(report: Report) -> Image.Image:
    """Draw a panel for each method, with a line for each model, backend and precision."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(row.method for row in report.measured))
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(map(_line, report.measured)))}
    drawn = Figure(figsize=(4.5 * len(methods), 4), layout="constrained")
    FigureCanvasAgg(drawn)
    for axes, method in zip(
        drawn.subplots(1, len(methods), squeeze=False)[0], methods, strict=True
    ):
        _panel(axes, [row for row in report.measured if row.method == method], colours)
        axes.set(title=method, xlabel="batch size", ylabel="images per second", ylim=(0, None))
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=150)
    return Image.open(file)


def _panel(axes: Any, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    """Draw the lines of one method; the bars are from the first to the third quartile."""
    for name in dict.fromkeys(map(_line, rows)):
        own = [row for row in rows if _line(row) == name]
        rates = [row.images_per_second for row in own]
        ends = [[row.batch_size / side for side in row.quartiles] for row in own]
        spread = [
            [rate - low for rate, (_, low) in zip(rates, ends, strict=True)],
            [high - rate for rate, (high, _) in zip(rates, ends, strict=True)],
        ]
        sizes = [row.batch_size for row in own]
        axes.errorbar(sizes, rates, spread, marker="o", capsize=3, label=name, color=colours[name])
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row.batch_size for row in rows}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend()


def _line(row: Row) -> str:
    return f"{Path(row.model).name}, {row.backend}, {row.precision}"
