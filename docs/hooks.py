"""Fills in what the code knows best, so that no page repeats it by hand."""

from typing import Any

from xaimaps.methods import METHODS


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholders of a page."""
    return markdown.replace("{{ methods table }}", methods_table()).replace(
        "{{ methods reference }}", methods_reference()
    )


def methods_table() -> str:
    """The table of methods, in the order of METHODS."""
    head = "| method | what it shows | cost | needs | paper |\n|---|---|---|---|---|\n"
    rows = [
        f"| [`{m.name}`](#{m.name}) | {m.summary} | {m.cost} | {', '.join(sorted(m.needs))} | "
        f"{m.paper} |"
        for m in METHODS.values()
    ]
    return head + "\n".join(rows)


def methods_reference() -> str:
    """A heading and the full documentation of each method."""
    return "\n\n".join(
        f"## {m.name} {{ #{m.name} }}\n\n::: {m.fn.__module__}.{m.fn.__name__}\n"
        "    options:\n      show_root_heading: false\n      show_root_toc_entry: false"
        for m in METHODS.values()
    )
