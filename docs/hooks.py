"""Fills in what the code knows best, so that no page repeats it by hand."""

from collections.abc import Callable, Iterable
from typing import Any

from xaimaps.methods import METHODS
from xaimaps.metrics import METRICS


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholders of a page."""
    for placeholder, make in PLACEHOLDERS.items():
        markdown = markdown.replace(f"{{{{ {placeholder} }}}}", make())
    return markdown


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
}
