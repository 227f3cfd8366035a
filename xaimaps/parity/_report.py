"""The result of a comparison: rows of numbers, the first divergence, and the maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xaimaps._results.attribution import Attribution
from xaimaps.parity._measures import Measures, Tolerance

Kind = Literal["input", "layer", "logits", "gradient", "map"]


@dataclass(frozen=True)
class Row:
    """One value of one backend, compared with the reference's.

    Attributes:
        backend: the name of the backend.
        kind: the kind of value, in the order of computation.
        name: of the layer or the method.
        measures: the difference; None if it could not be compared.
        tolerance: the allowed difference; None if it could not be compared.
        top: for logits, the smallest fraction of common classes among the top five.
        note: the reason why it could not be compared, or cannot agree.
        reference: the backend that it is compared with, if the report's reference cannot compute
            the value; otherwise empty.
    """

    backend: str
    kind: Kind
    name: str
    measures: Measures | None = None
    tolerance: Tolerance | None = None
    top: float | None = None
    note: str = ""
    reference: str = ""

    @property
    def status(self) -> Literal["agrees", "differs", "skipped"]:
        """Whether the two values agree."""
        if self.measures is None or self.tolerance is None:
            return "skipped"
        return "agrees" if self.tolerance.allows(self.measures) else "differs"

    @property
    def reason(self) -> str:
        """Why the two values differ."""
        return self.note or f"{_decisive(self)}, but {self.tolerance} is required"

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {
            "backend": self.backend,
            "kind": self.kind,
            "name": self.name,
            "status": self.status,
            **({} if self.measures is None else _finite(self.measures._asdict())),
            "tolerance": str(self.tolerance or ""),
            "top_agreement": self.top,
            "note": self.note,
            "reference": self.reference,
        }


@dataclass(frozen=True, eq=False)
class Report:
    """The comparison of backends with a reference.

    Attributes:
        reference: the name of the reference backend.
        backends: the names of the others.
        rows: all compared values, in the order of computation for each backend.
        attributions: the maps by method and backend, including the reference's.
        notes: remarks for the reader, a sentence each.
        about: the date, versions, models with their hashes, pictures and settings.
    """

    reference: str
    backends: tuple[str, ...]
    rows: tuple[Row, ...]
    attributions: Mapping[str, Mapping[str, Attribution]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every compared value of every backend is within its tolerance."""
        return not any(self.first_divergence(name) for name in self.backends)

    def first_divergence(self, backend: str) -> Row | None:
        """Return the first value, in the order of computation, at which a backend diverges."""
        return next((row for row in self.of(backend) if row.status == "differs"), None)

    def of(self, backend: str, kind: Kind | None = None) -> list[Row]:
        """Return the rows of one backend, optionally of one kind."""
        rows = [row for row in self.rows if row.backend == backend]
        return [row for row in rows if kind in (None, row.kind)]

    def verdict(self, backend: str) -> str:
        """Return one sentence on one backend."""
        rows = self.of(backend)
        first = self.first_divergence(backend)
        if first is not None:
            reference = first.reference or self.reference
            return (
                f"{backend} diverges from {reference} at the {first.kind} {first.name!r}: "
                f"{first.reason}"
            )
        compared = sum(row.status == "agrees" for row in rows)
        skipped = len(rows) - compared
        rest = f"; {skipped} could not be compared" if skipped else ""
        return f"{backend} agrees with {self.reference} in all {compared} values compared{rest}"

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON, without the maps."""
        return {
            "agrees": self.agrees,
            "about": dict(self.about),
            "reference": self.reference,
            "verdicts": {name: self.verdict(name) for name in self.backends},
            "first_divergence": {
                name: row.as_dict() if (row := self.first_divergence(name)) else None
                for name in self.backends
            },
            "rows": [row.as_dict() for row in self.rows],
            "notes": list(self.notes),
        }

    def summary(self) -> list[Row]:
        """Return the rows to print: all except layers, and each backend's worst layer."""
        shown = []
        for backend in self.backends:
            layers = [row for row in self.of(backend, "layer") if row.measures is not None]
            worst = max(layers, key=_distance, default=None)
            rows = [row for row in self.of(backend) if row.kind != "layer" or row is worst]
            shown += rows
        return shown


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN and infinity, which JSON lacks, by None."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _decisive(row: Row) -> str:
    assert row.tolerance is not None
    assert row.measures is not None
    value = f"{row.tolerance.measure} {getattr(row.measures, row.tolerance.measure):.3g}"
    is_cosine = row.tolerance.measure == "cosine"
    return f"{value}, length off by {row.measures.length:.2g}" if is_cosine else value


def _distance(row: Row) -> float:
    """Return the relative difference, with infinity for NaN."""
    assert row.measures is not None
    return row.measures.relative if row.measures.relative >= 0 else float("inf")
