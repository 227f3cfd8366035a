"""A comparison as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np

from xaimaps._results import render
from xaimaps._results.attribution import Attribution
from xaimaps.parity._report import Report, Row

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .7rem; text-align: left }
tr { border-bottom: 1px solid #ddd } .differs { background: #fde0dc } .skipped { color: #777 }
figure { display: inline-block; margin: .3rem } img { width: 14rem; image-rendering: auto }
figcaption { font-size: 13px } .verdict { font-size: 17px }
"""

COLUMNS = ("backend", "what", "", "relative", "over deviation", "cosine", "rank", "tolerance")


def page(report: Report) -> str:
    """Return the page: the verdicts, the numbers, the maps side by side and their differences."""
    verdicts = "".join(
        f'<p class="verdict {"differs" if report.parting(name) else ""}">'
        f"{escape(report.verdict(name))}</p>"
        for name in report.backends
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    layers = [row for row in report.rows if row.kind == "layer"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>xaimaps parity</title>'
        f"<style>{STYLE}</style><h1>Do they agree?</h1>{verdicts}{notes}"
        f"<h2>Numbers</h2>{_table(report.summary())}"
        f"<h2>Maps</h2>{''.join(_maps(report))}"
        f"<h2>Layer by layer</h2>{_table(layers)}</html>"
    )


def _table(rows: list[Row]) -> str:
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    return f"<table><tr>{head}</tr>{''.join(map(_row, rows))}</table>"


def _row(row: Row) -> str:
    cells = [row.backend, row.kind, row.name]
    if row.measures is None:
        cells += [row.note]
    else:
        m = row.measures
        numbers = (m.relative, m.spread, m.cosine, m.rank)
        cells += [f"{number:.3g}" if number == number else "" for number in numbers]
        cells += [str(row.tolerance)]
    columns = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="{row.status}">{columns}</tr>'


def _maps(report: Report) -> Iterator[str]:
    """Yield, for each method and image, the reference's map, the other maps and differences."""
    for method, found in report.attributions.items():
        expected = found.get(report.reference)
        if expected is None or expected.maps.ndim not in (3, 4):
            continue
        yield f"<h3>{escape(method)}</h3>"
        for index in range(len(expected)):
            yield f"<div>{''.join(_figures(report.reference, found, index))}</div>"


def _figures(reference: str, found: Mapping[str, Attribution], index: int) -> Iterator[str]:
    expected = found[reference]
    yield _figure(_drawn(expected, index), reference)
    for name, one in found.items():
        if name == reference:
            continue
        yield _figure(_drawn(one, index), name)
        if one.maps.shape == expected.maps.shape:
            yield _figure(*_difference(name, one, expected, index))


def _drawn(one: Attribution, index: int) -> Any:
    return one.overlay(index) if one.views else one.heatmap(index, size=(224, 224))


def _difference(name: str, one: Attribution, expected: Attribution, index: int) -> tuple[Any, str]:
    """Draw the difference on its own scale, and caption it with its relative size."""
    from PIL import Image

    apart = (one.maps - expected.maps).reshape(len(one.maps), -1, *one.maps.shape[-2:])[index, 0]
    size = np.abs(expected.maps[index]).max() or 1.0
    drawn = render.heatmap(apart, (224, 224), signed=True)
    largest = np.abs(apart).max() / size
    return Image.fromarray(drawn), f"{name} minus the reference, at most {largest:.1e} relative"


def _figure(image: Any, caption: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
