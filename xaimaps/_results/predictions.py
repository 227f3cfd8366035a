"""The classes with the highest scores, as a table."""

from __future__ import annotations

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """One class of a prediction.

    The probability is the softmax or sigmoid in which the model ends, or the softmax if the labels
    are an embedded list, whose classes exclude each other; the score itself, if the outputs are
    probabilities; else None, as for a regression or an embedding. In a binary model with one
    output, the score of the first class is minus that of the second.
    """

    index: int
    label: str
    score: float
    probability: float | None


class Predictions(list[Prediction]):
    """Classes with their scores, best first, which print as a table."""

    def __repr__(self) -> str:
        rows = [(str(p.index), p.label, f"{p.score:.3f}", _shown(p.probability)) for p in self]
        return "\n".join(f"{i:>6}  {label:<30}  {s:>9}  {p:>5}".rstrip() for i, label, s, p in rows)

    def _repr_html_(self) -> str:
        head = "<tr><th>class</th><th>label</th><th>score</th><th>probability</th></tr>"
        rows = [
            f"<tr><td>{p.index}</td><td>{html.escape(p.label)}</td><td>{p.score:.3f}</td>"
            f"<td>{_shown(p.probability)}</td></tr>"
            for p in self
        ]
        return f"<table>{head}{''.join(rows)}</table>"


def _shown(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.3f}"
