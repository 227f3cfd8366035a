"""What can be asked of a model on one picture: each choice with its target as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xaimaps._results.manifest import box_record
from xaimaps._results.predictions import probabilities
from xaimaps.targets import ClassSpec, Scene, class_scores, is_binary, predicted_classes


def outputs(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the outputs; the first is explained, and --load output=NAME chooses another."""
    own = scene.backend.network.output_name
    yield {"name": own, "shape": list(scene.outputs.shape), "explained": True}
    for name, value in scene.backend.named_outputs(scene.images).items():
        if name != own:
            yield {"name": name, "shape": list(value.shape), "explained": False}


def classes(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the classes of a classifier, or of a detector by their best boxes, best first."""
    if scene.is_detector:
        scores = scene.detector[0].scores.max(axis=0)
        shares: Sequence[float | None] = [None] * scores.size
    elif scene.outputs.ndim > 2 or not scene.has_classes:
        return
    else:
        scores = class_scores(np, scene.outputs, is_binary=is_binary(scene.labels))[0]
        shares = probabilities(scores.astype(np.float64), scene.backend.info)
    known = np.flatnonzero(scores) if scene.is_detector else np.arange(scores.size)
    best = known[np.argsort(-scores[known], kind="stable")].tolist()
    for index, row in zip(best, _named(scene, best), strict=True):
        yield {**row, "score": float(scores[index]), "probability": shares[index]}


def regions(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the classes that a segmentation predicts, with their share of the area."""
    if not scene.is_segmentation:
        return
    indices, counts = np.unique(predicted_classes(scene)[0], return_counts=True)
    areas = {i: c / counts.sum() for i, c in zip(indices.tolist(), counts, strict=True) if i >= 0}
    largest = sorted(areas, key=lambda index: -areas[index])
    for index, row in zip(largest, _named(scene, largest), strict=True):
        yield {**row, "target": f"class:{row['target']}", "area": float(areas[index])}


def boxes(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the boxes of a detector, best first."""
    found = scene.boxes[0] if scene.boxes else ()
    rows = _named(scene, [box.category for box in found])
    for rank, (box, row) in enumerate(zip(found, rows, strict=True), 1):
        yield {"target": f"box:{rank}", **box_record(row["label"], box)}


def characters(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the characters that a recogniser reads, with the step of each."""
    found = scene.text[0] if scene.is_text else ()
    rows = _named(scene, [one.category for one in found])
    for position, (one, row) in enumerate(zip(found, rows, strict=True), 1):
        score = float(scene.outputs[0, one.step, one.category])
        yield {**row, "target": f"text:{position}", "step": one.step, "score": score}


def _named(scene: Scene, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return the text of each class as a target, its index and its label."""
    labels = scene.labels or ()
    uses = Counter(label.casefold() for label in labels)

    def named(index: int) -> dict[str, Any]:
        label = labels[index] if index < len(labels) else f"class {index}"
        text = str(ClassSpec(label if uses[label.casefold()] == 1 else index))
        return {"target": text, "class": index, "label": label}

    return list(map(named, indices))
