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
from xaimaps.parity._measures import Tolerance
from xaimaps.parity._report import Report, Row

Array = np.ndarray[Any, Any]

STYLE = """
:root { color-scheme: light dark; --line: #ccc; --good: #e0f2e5; --bad: #fde0dc; --faint: #666 }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --good: #16351f; --bad: #4d1c16; --faint: #aaa }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .7rem; text-align: left; white-space: nowrap }
td.text { white-space: normal; min-width: 16rem; overflow-wrap: anywhere }
tr { border-bottom: 1px solid var(--line) } .skipped { color: var(--faint) }
tr.differs, .verdict.differs { background: var(--bad) } .verdict.agrees { background: var(--good) }
.verdict { font-size: 17px; padding: .4rem .7rem; border-radius: .3rem }
figure { display: inline-block; margin: .3rem; vertical-align: top; width: 14rem }
img { width: 100%; image-rendering: auto } figcaption { font-size: 13px }
"""

COLUMNS = ("backend", "what", "", "relative", "over deviation", "cosine", "rank", "tolerance")


def page(report: Report) -> str:
    """Return the page: the verdicts, the numbers, the maps side by side and their differences."""
    verdicts = "".join(
        f'<p class="verdict {"differs" if report.first_divergence(name) else "agrees"}">'
        f"{escape(report.verdict(name))}</p>"
        for name in report.backends
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
    layers = [row for row in report.rows if row.kind == "layer"]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Parity report</title><style>{STYLE}</style><h1>Parity report</h1>"
        f"{verdicts}{notes}<h2>Numbers</h2>{_table(report.summary())}"
        f"<h2>Maps</h2>{''.join(_maps(report))}"
        f"<h2>Layers</h2><details><summary>{len(layers)} values</summary>{_table(layers)}</details>"
        f"<h2>What was compared</h2>{_about(report.about)}</html>"
    )


def _about(about: Mapping[str, Any]) -> str:
    rows = "".join(_about_row(name, value) for name, value in _lines(about))
    return f'<div class="scroll"><table>{rows}</table></div>'


def _about_row(name: str, value: str) -> str:
    return f'<tr><th>{escape(name)}</th><td class="text">{escape(value)}</td></tr>'


def _lines(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for everything that the report says of itself."""
    for name, value in about.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            for one in value:
                yield name.removesuffix("s"), ", ".join(f"{k} {_text(v)}" for k, v in one.items())
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "unknown")


def _table(rows: list[Row]) -> str:
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    body = "".join(map(_row, rows))
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _row(row: Row) -> str:
    cells = [row.backend, row.kind, row.name]
    if row.measures is not None:
        m = row.measures
        numbers = (m.relative, m.spread, m.cosine, m.rank)
        cells += [f"{number:.3g}" if number == number else "" for number in numbers]
        cells += [str(row.tolerance)]
    columns = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    if row.measures is None:
        columns += f'<td class="text" colspan="{len(COLUMNS) - 3}">{escape(row.note)}</td>'
    return f'<tr class="{row.status}">{columns}</tr>'


def _maps(report: Report) -> Iterator[str]:
    """Yield, for each method and image, the reference's map, the other maps and differences."""
    tolerances = {row.name: row.tolerance for row in report.rows if row.kind == "map"}
    for method, found in report.attributions.items():
        reference = next(iter(found), None)
        if reference is None or found[reference].has_channels:
            continue
        yield f"<h3>{escape(method)}</h3>"
        for index in range(len(found[reference])):
            figures = _figures(reference, found, index, tolerances.get(method))
            yield f"<div>{''.join(figures)}</div>"


def _figures(
    reference: str, found: Mapping[str, Attribution], index: int, tolerance: Tolerance | None
) -> Iterator[str]:
    expected = found[reference]
    yield _figure(_drawn(expected, index), reference)
    for name, one in found.items():
        if name == reference:
            continue
        yield _figure(_drawn(one, index), name)
        if one.maps.shape == expected.maps.shape:
            yield _figure(*_difference(name, one, expected, index, tolerance))


def _first(found: Attribution, index: int) -> Array:
    """Return the map of an image for its first target."""
    maps: Array = found.maps[index]
    return maps[0] if found.is_several else maps


def _drawn(one: Attribution, index: int) -> Any:
    return one.overlay(index) if one.views else one.heatmap(index, size=(224, 224))


def _difference(
    name: str,
    one: Attribution,
    expected: Attribution,
    index: int,
    tolerance: Tolerance | None,
) -> tuple[Any, str]:
    """Draw a difference with the tolerance as the scale, and caption it with its size."""
    from PIL import Image

    apart = _first(one, index) - _first(expected, index)
    size = np.abs(expected.maps[index]).max() or 1.0
    allowed = 1.0 if tolerance is None else tolerance.as_relative()
    scaled = render.resize_maps(render.plane(apart) / size, (224, 224)) / (allowed or 1.0)
    drawn = render.colorize(np.clip(scaled, -1, 1), signed=True)
    largest = np.abs(apart).max() / size
    return Image.fromarray(drawn), (
        f"{name} minus the reference, at most {largest:.1e} of its maximum; full colour is "
        f"{allowed:.1e}"
    )


def _figure(image: Any, caption: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
