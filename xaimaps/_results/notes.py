"""Notes on the maps of one image: what a reader must know before trusting them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from xaimaps._images.preprocess import seen_notes

if TYPE_CHECKING:
    from xaimaps._results.attribution import Array, Attribution

ROUNDING = float(np.finfo(np.float32).eps)
FAINT = 1 / 8
"""The part of the range below which the values of a picture have a note."""


def notes_of(found: Attribution, index: int) -> list[str]:
    """Return the notes on the picture, the model, the outputs and the maps, in this order."""
    picture = found.pictures[index].notes if found.pictures else ()
    seen = (*_range(found, index), *_crop(found, index))
    about = (*found.model.notes, *found.remarks)
    said = (*picture, *seen, *about, *_outputs(found, index), *_maps(found, index))
    return list(dict.fromkeys(said))


def _range(found: Attribution, index: int) -> Iterator[str]:
    """Say that a picture of more than 8 bits is nearly uniform for the model."""
    if not found.pictures or found.model.preprocess is None or found.model.preprocess.native:
        return
    picture = found.pictures[index]
    if picture.range is not None and picture.values.dtype.name != "uint8" and picture.used < FAINT:
        low, high = sorted(picture.range)
        yield (
            f"the values, {picture.values.min():g} to {picture.values.max():g}, are a small part "
            f"of the range from black to white, {low:g} to {high:g}; `window` (--window LOW HIGH) "
            "gives another range"
        )


def _crop(found: Attribution, index: int) -> Iterator[str]:
    """Say that the model did not see a whole picture, or a volume of another size."""
    if found.pictures:
        yield from seen_notes(found.pictures[index].size, found.views[index], found.input_size)


def _outputs(found: Attribution, index: int) -> Iterator[str]:
    """Say that a part of the outputs are no numbers, or that they are probabilities."""
    values = found.scores[index]
    if found.model.ending is None and found.has_classes and is_distribution(values):
        yield (
            "the scores are probabilities, as of several networks whose softmaxes are averaged, so "
            "that gradients are those of a probability, which are near 0 where it is near 1"
        )
    if count := np.count_nonzero(~np.isfinite(values)):
        yield (
            f"{count} of the model's {values.size} outputs are NaN or infinite; check the "
            "preprocessing and the weights"
        )


def is_distribution(values: Array) -> bool:
    """Return whether values are the probabilities of classes of which one holds."""
    return bool(values.size > 1 and values.min() >= 0 and abs(values.sum() - 1) < 1e-3)


def _maps(found: Attribution, index: int) -> Iterator[str]:
    """Say which maps of an image explain nothing."""
    maps = found.maps[index] if found.is_several else found.maps[index : index + 1]
    for k, values in enumerate(maps):
        reason = _reason(values, _score(found, index, k))
        if reason:
            yield f"the {found.method} map of {found.target_name(index, k)} {reason}"


def _score(found: Attribution, index: int, k: int) -> float | None:
    if found.target_scores is None:
        return None
    return float(np.atleast_1d(found.target_scores[index])[k])


def _reason(values: Array, score: float | None) -> str | None:
    """Return why a map explains nothing, None if it may explain something."""
    if not np.isfinite(values).all():
        return "has values that are NaN or infinite"
    if not values.any():
        return (
            "is zero everywhere: nothing at this layer speaks for the score; for the score of one "
            "position, such as of a box, layer_cam and hires_cam keep it apart from the others"
        )
    if values.size > 1 and np.ptp(values) == 0:
        return f"has the same value everywhere, {values.flat[0]:.3g}"
    if score is not None and np.abs(values).sum(dtype=np.float64) < ROUNDING * abs(score):
        return "is smaller than the rounding of the score, so that it is noise"
    return None
