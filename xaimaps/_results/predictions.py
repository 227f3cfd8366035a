"""The classes with the highest scores, as a table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps._results.notes import is_distribution

if TYPE_CHECKING:
    from xaimaps.backend import ModelInfo


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


def probabilities(scores: np.ndarray[Any, Any], model: ModelInfo) -> Sequence[float | None]:
    """Return the probability of each class, from the float64 scores of one image."""
    if model.ending == "sigmoid":
        found = 0.5 * (1 + np.tanh(scores / 2))
    elif model.ending is None and is_distribution(scores):
        found = scores
    elif model.ending == "softmax" or model.labels_name:
        powers = np.exp(scores - scores.max())
        found = powers / powers.sum()
    else:
        return [None] * scores.size
    return [float(one) for one in found]


def _shown(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.3f}"
