"""The rows of the store, and the overlays, of one explained picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from xaimaps._results.atomic import joined_stem, prepare_folder, safe_stem
from xaimaps._results.attribution import Attribution
from xaimaps._results.formats import write_picture
from xaimaps._results.manifest import targets_of
from xaimaps._results.save import draw
from xaimaps.batch._sources import Item
from xaimaps.batch._store import Row

TOP = 5
"""The number of best classes in a row."""


def failed_row(number: int, item: Item, error: str) -> Row:
    """Return the row of a picture that could not be explained."""
    return _encodable({"number": number, "picture": item.name, "label": item.label, "error": error})


def rows_of(number: int, item: Item, found: Sequence[Attribution]) -> Iterator[Row]:
    """Yield a row for each map of one picture.

    Args:
        number: the place of the picture in the input.
        item: the picture.
        found: the results of each method, of one image.
    """
    for one in found:
        top = one.top(TOP) if one.has_classes else []
        for said, values in zip(targets_of(one, 0), one.by_target()[0], strict=True):
            yield _encodable(
                {
                    "number": number,
                    "picture": item.name,
                    "sha256": one.pictures[0].sha256,
                    "label": item.label,
                    "method": one.method,
                    "layer": one.layer,
                    "target": str(one.target),
                    "explained": said["target"],
                    "class": said.get("class"),
                    "score": said.get("score"),
                    "top_classes": [each.index for each in top],
                    "top_labels": [each.label for each in top],
                    "top_scores": [each.score for each in top],
                    "shape": list(values.shape),
                    "map": values.ravel(),
                    "notes": one.notes(),
                }
            )


def _encodable(row: Row) -> Row:
    """Escape the bytes of file names that are not UTF-8, which Parquet does not take."""
    return {name: _escaped(value) for name, value in row.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    is_text = isinstance(value, str)
    return value.encode("utf-8", "backslashreplace").decode() if is_text else value


def write_overlays(folder: Path, item: Item, found: Sequence[Attribution]) -> None:
    """Write the overlays of one picture, in the folders of its own path."""
    parts = [safe_stem(part, set()) for part in PurePath(item.name).parts]
    place = prepare_folder(folder.joinpath(*parts[:-1]))
    for one in found:
        for drawing in draw(one):
            if drawing.overlay is not None:
                # A run has one target, unless it has several, or a list says that of each picture.
                target = drawing.name if one.is_several else item.target or ""
                end = safe_stem("-".join(filter(None, (one.method, target))), set())
                write_picture(place / f"{joined_stem(parts[-1], end)}.png", drawing.overlay)
