"""A comparison in the formats of continuous integration: JUnit XML and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as XML

from xaimaps.parity._report import Report, Row


def junit(report: Report) -> str:
    """Return JUnit XML: a suite for each backend, and a test case for each compared value."""
    root = XML.Element("testsuites", name="xaimaps parity")
    for backend in report.backends:
        rows = report.of(backend)
        counts = {status: sum(row.status == status for row in rows) for status in STATUSES}
        suite = XML.SubElement(
            root,
            "testsuite",
            name=_printable(f"{backend} against {report.reference}"),
            tests=str(len(rows)),
            failures=str(counts["differs"]),
            skipped=str(counts["skipped"]),
            errors="0",
            timestamp=str(report.about.get("date", "")),
        )
        for row in rows:
            _case(suite, row)
    XML.indent(root)
    return XML.tostring(root, "unicode", xml_declaration=True)


STATUSES = ("agrees", "differs", "skipped")


def _case(suite: XML.Element, row: Row) -> None:
    names = {"classname": _printable(f"{row.backend}.{row.kind}"), "name": _printable(row.name)}
    case = XML.SubElement(suite, "testcase", names)
    if row.status == "skipped":
        XML.SubElement(case, "skipped", message=_printable(row.note))
    elif row.status == "differs":
        XML.SubElement(case, "failure", message=_printable(row.reason))


def _printable(text: str) -> str:
    """Replace what XML cannot hold, such as control characters in the name of a layer."""
    return re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def markdown(report: Report) -> str:
    """Return Markdown, such as for a comment on a pull request: verdicts, models and numbers."""
    lines = [
        "## Parity report",
        "",
        *(f"- {_mark(report, name)}: {_cell(report.verdict(name))}" for name in report.backends),
        "",
        "| backend | model | SHA-256 |",
        "|---|---|---|",
        *map(_model, report.about.get("models", ())),
        "",
        "| backend | value | status | relative | cosine | tolerance |",
        "|---|---|---|---|---|---|",
        *_rows(report),
    ]
    return "\n".join(lines) + "\n"


def _model(one: Mapping[str, Any]) -> str:
    cells = (one["name"], one["source"] or one["model"], one["sha256"][:12])
    return f"| {' | '.join(map(_cell, cells))} |"


def _mark(report: Report, backend: str) -> str:
    return "**differs**" if report.first_divergence(backend) else "agrees"


def _rows(report: Report) -> Iterator[str]:
    for row in report.summary():
        numbers = ("", "") if row.measures is None else (
            f"{row.measures.relative:.1e}", f"{row.measures.cosine:.6f}"
        )  # fmt: skip
        value = f"{row.kind} {row.name}"
        bound = row.note if row.measures is None else str(row.tolerance)
        cells = (row.backend, value, row.status, *numbers, bound)
        yield f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Escape what Markdown would read as a column or as HTML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
