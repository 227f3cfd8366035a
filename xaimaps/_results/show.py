"""How results are shown in notebooks, in a console and in the user's own figures."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps._results import render
from xaimaps._results.save import draw
from xaimaps.errors import ArrayInputError, BackendError

if TYPE_CHECKING:
    from xarray import DataArray

    from xaimaps._results.attribution import Attribution

ROWS = 4
"""The most images that a notebook shows."""
PANELS = 4
"""The most maps of each image that a notebook shows."""


def text(found: Attribution) -> str:
    """Return one line about a result."""
    images = "1 image" if len(found) == 1 else f"{len(found)} images"
    layer = f", layer {found.layer}" if found.layer else ""
    return (
        f"<{found.method} of {images}: {found.model.name} in {found.backend}{layer}, "
        f"target {found.target}, maps {found.maps.shape}>"
    )


def png(found: Attribution) -> bytes | None:
    """Return a figure of the first images, or None if the maps cannot be drawn."""
    if not len(found) or found.has_channels:
        return None
    panels, columns = [], 1
    for index in range(min(len(found), ROWS)):
        drawings = draw(found, index)[:PANELS]
        views = [("model input", render.flat(found.views[index]))] if found.views else []
        maps = [(one.title, np.asarray(one.overlay or one.heatmap)) for one in drawings]
        panels += [*views, *maps]
        columns = len(views) + len(maps)
    file = io.BytesIO()
    render.figure(panels, columns=columns).save(file, "PNG")
    return file.getvalue()


def page(found: Attribution) -> str:
    """Return the figure, the text and the notes as HTML; labels are text, never markup."""
    notes = dict.fromkeys(note for index in range(len(found)) for note in found.notes(index))
    more = len(found) - ROWS
    lines = [text(found), *([f"{more} more images are not shown"] if more > 0 else [])]
    lines += [f"note: {note}" for note in notes]
    caption = "<br>".join(map(html.escape, lines))
    picture = png(found)
    if picture is None:
        return f"<figure><figcaption>{caption}</figcaption></figure>"
    source = base64.b64encode(picture).decode()
    about = html.escape(text(found))
    return (
        f'<figure style="margin: 0"><img src="data:image/png;base64,{source}" alt="{about}" '
        f'style="max-width: 100%"><figcaption>{caption}</figcaption></figure>'
    )


def plot(
    found: Attribution,
    index: int,
    ax: Any,
    *,
    target: int,
    alpha: float,
    colormap: str | None,
) -> Any:
    """Draw a map into the axes of a figure of matplotlib; see `Attribution.plot`."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.gca()
    heatmap, overlay = found.drawn(index, target=target, alpha=alpha, colormap=colormap)
    name = f"{found.method}: {found.target_name(index, target)}"
    render.draw_panel(ax, name, np.asarray(overlay or heatmap))
    return ax


def data_array(found: Attribution) -> DataArray:
    """Return the maps with named axes; see `Attribution.to_xarray`."""
    try:
        from xarray import DataArray
    except ImportError as error:
        raise BackendError(
            f"`to_xarray` needs xarray, which does not import ({error}); pip install "
            "'xaimaps[xarray]'"
        ) from error
    if found.has_channels:
        raise ArrayInputError(
            f"maps must have no channels here, got shape {found.maps.shape}; choose a `reduce` "
            "other than None"
        )
    count = range(found.count)
    names = [[found.target_name(index, k) for k in count] for index in range(len(found))]
    coordinates: dict[str, Any] = {"explained": (("image", "target"), names)}
    if found.pictures:
        coordinates["picture"] = ("image", [picture.source for picture in found.pictures])
    attributes = {"method": found.method, "layer": found.layer or "", "backend": found.backend}
    attributes |= {"model": found.model.name, **{n: str(v) for n, v in found.options.items()}}
    axes = ("image", "target", *("z", "y", "x")[-len(found.input_size) :])
    return DataArray(found.by_target(), coordinates, axes, found.method, attributes)
