"""Fills in what the code knows best, and renders formulas, so that a browser needs no script."""

import html
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

from xaimaps.methods import METHODS
from xaimaps.metrics import METRICS

# The benchmarks are not installed.
sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import over_forward
from benchmarks.peers import report


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholders of a page."""
    for placeholder, make in PLACEHOLDERS.items():
        markdown = markdown.replace(f"{{{{ {placeholder} }}}}", make())
    return markdown


def on_page_content(content: str, **_: Any) -> str:
    """Replace the formulas that arithmatex has marked, of a page and of docstrings, by MathML."""
    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', formula, content, flags=re.DOTALL)


def formula(found: re.Match[str]) -> str:
    """Return a formula in LaTeX as MathML.

    Raises:
        ValueError: it has a command that is not known, which would be shown as it is written.
    """
    is_block, text = found[1] == "div", html.unescape(found[2]).strip()
    made = convert(text[2:-2], display="block" if is_block else "inline")
    if "\\" in made:
        raise ValueError(f"a formula must have known commands only, got {text}")
    # A box that scrolls must be in reach of the keyboard.
    return f'<div class="formula" tabindex="0">{made}</div>' if is_block else made


def methods_table() -> str:
    """The table of methods, in the order of METHODS."""
    head = "| method | what it shows | cost | needs | paper |\n|---|---|---|---|---|\n"
    rows = [
        f"| [`{m.name}`](#{m.name}) | {m.summary} | {m.cost} | {', '.join(sorted(m.needs))} | "
        f"{m.paper} |"
        for m in METHODS.values()
    ]
    return head + "\n".join(rows)


def metrics_table() -> str:
    """The table of metrics, in the order of METRICS."""
    columns = ("metric", "family", "what it measures", "better", "needs", "paper")
    head = f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"
    rows = [
        f"| [`{m.name}`](#{m.name}) | {m.family} | {m.summary} | {m.better} | "
        f"{', '.join(sorted(m.needs))} | {m.paper} |"
        for m in METRICS.values()
    ]
    return head + "\n".join(rows)


def reference(rows: Iterable[Any]) -> str:
    """A heading and the full documentation of each method or metric."""
    return "\n\n".join(
        f"## {row.name} {{ #{row.name} }}\n\n::: {row.fn.__module__}.{row.fn.__name__}\n"
        "    options:\n      show_root_heading: false\n      show_root_toc_entry: false"
        for row in rows
    )


PLACEHOLDERS: dict[str, Callable[[], str]] = {
    "methods table": methods_table,
    "methods reference": lambda: reference(METHODS.values()),
    "metrics table": metrics_table,
    "metrics reference": lambda: reference(METRICS.values()),
    "peers summary": lambda: report.summary(report.rows_of("cpu")),
    "peers losses": lambda: report.losses(report.rows_of("cpu")),
    "over forward": lambda: over_forward.table("cpu"),
}
