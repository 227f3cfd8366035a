"""Draw raw maps as pictures: resize, normalise, colour, overlay, figure."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps._resampling import linear_weights
from xaimaps.errors import ArrayInputError, nearest

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, Any]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]

COLORMAP = "inferno"
"""The colours of positive maps, with lightness proportional to the value."""
SIGNED_COLORMAP = "RdBu_r"
"""The colours of signed maps: blue below zero, white at zero, red above."""
ALPHA = 0.5
"""The weight of the map in an overlay."""
TITLE_WIDTH = 36
"""The number of letters in a line of a panel's title."""


def resize_maps(maps: Array, size: tuple[int, int]) -> Floats:
    """Resize maps bilinearly; see `linear_weights`.

    Args:
        maps: `(..., h, w)`.
        size: the new height and width.

    Returns:
        `(..., H, W)` float32.

    Raises:
        ArrayInputError: if a value is not finite, or there are fewer than two axes.
    """
    rows = linear_weights(_finite(maps).shape[-2], size[0])
    columns = linear_weights(maps.shape[-1], size[1])
    result: Floats = rows @ np.asarray(maps, np.float32) @ columns.T
    return result


def resize_volume(map: Array, size: Sequence[int]) -> Floats:
    """Resize a map `(d, h, w)` linearly along every axis; see `linear_weights`."""
    planes = resize_maps(map, (size[1], size[2]))
    depths = linear_weights(len(map), size[0])
    result: Floats = np.tensordot(depths, planes, 1)
    return result


def plane(values: Array) -> Array:
    """Return a map as a picture `(h, w)`.

    Args:
        values: `(h, w)`, which is returned as it is; `(d, h, w)`, of which the slices through the
            largest magnitude are shown; or `(l,)`, which becomes a strip.
    """
    if values.ndim == 1:
        return np.repeat(values[None], max(1, len(values) // 8), axis=0)
    return values if values.ndim == 2 else slices(values, hottest(values))


def hottest(values: Array) -> tuple[int, ...]:
    """Return the indices of the largest magnitude."""
    return tuple(int(i) for i in np.unravel_index(np.abs(values).argmax(), values.shape))


def slices(volume: Array, voxel: Sequence[int]) -> Array:
    """Put the three slices through a voxel side by side: across each axis in turn.

    Args:
        volume: `(d, h, w)`, or `(d, h, w, C)`.
        voxel: the indices of the voxel.
    """
    cuts = [np.take(volume, at, axis) for axis, at in enumerate(voxel)]
    height = max(map(len, cuts))
    rest = [(0, 0)] * (volume.ndim - 2)
    return np.hstack([np.pad(one, [(0, height - len(one)), *rest]) for one in cuts])


def flat(view: Pixels) -> Pixels:
    """Return a picture `(H, W, 3)` as it is, and the middle slices of a volume `(D, H, W, 3)`."""
    return view if view.ndim == 3 else slices(view, [side // 2 for side in view.shape[:3]])


def normalize(
    maps: Array, *, signed: bool = False, percentile: float = 100, relative: bool = False
) -> Floats:
    """Scale each map by its own maximum; a map without positive values becomes all zeros.

    Args:
        maps: `(..., h, w)`, finite; every map is scaled separately.
        signed: keep the negative part too.
        percentile: the percentile of the magnitude that becomes 1; larger values are clipped. 100
            is the maximum, with which a few extreme pixels leave a noisy map dark.
        relative: subtract each map's minimum first.

    Returns:
        `(..., h, w)` float32: the positive part divided by its maximum, 0 to 1; if signed, the map
        divided by its largest magnitude, -1 to 1.

    Raises:
        ArrayInputError: if a value is not finite, or there are fewer than two axes.
    """
    # float64, as the division of the largest or smallest float32 would overflow or underflow.
    values = _finite(maps).astype(np.float64)
    if relative and values.size:
        values = values - values.min(axis=(-2, -1), keepdims=True)
    values = values if signed else np.maximum(values, 0)
    size = np.abs(values)
    most = size.max(axis=(-2, -1), keepdims=True, initial=0)
    if percentile < 100 and values.size:
        cut = np.percentile(size, percentile, axis=(-2, -1), keepdims=True)
        most = np.where(cut > 0, cut, most)
    return np.clip(values / np.where(most > 0, most, 1), -1, 1).astype(np.float32)


def colorize(map01: Array, *, signed: bool = False, colormap: str | None = None) -> Pixels:
    """Colour normalised values.

    Args:
        map01: `(...)`, 0 to 1, or -1 to 1 if signed; values outside are clipped.
        signed: put zero in the middle of the colours.
        colormap: a matplotlib name; by default "inferno", or "RdBu_r" if signed.

    Returns:
        `(..., 3)` uint8, RGB.

    Raises:
        ArrayInputError: if a value is not finite or no colour map has the name.
    """
    table = colour_table(colormap or (SIGNED_COLORMAP if signed else COLORMAP))
    values = np.asarray(map01, np.float64)
    return table[_to_uint8((values + 1) * 127.5 if signed else values * 255)]


def heatmap(
    map: Array,
    size: tuple[int, int],
    *,
    signed: bool = False,
    percentile: float = 100,
    relative: bool = False,
    colormap: str | None = None,
) -> Pixels:
    """Colour one raw map: resize, normalise, colour, in this order.

    Args:
        map: `(h, w)`, finite.
        size: the height and width of the picture.
        signed: show the negative part too.
        percentile: see `normalize`.
        relative: see `normalize`.
        colormap: see `colorize`.

    Returns:
        `(H, W, 3)` uint8, RGB.

    Raises:
        ArrayInputError: if the map is not finite or not 2-D, or no colour map has the name.
    """
    if np.ndim(map) != 2:
        raise ArrayInputError(
            f"`map` must be one map (h, w), got shape {np.shape(map)}; pick one, such as maps[0]"
        )
    shown = normalize(
        resize_maps(map, size), signed=signed, percentile=percentile, relative=relative
    )
    return colorize(shown, signed=signed, colormap=colormap)


def blend(pixels: Pixels, colours: Pixels, alpha: float) -> Pixels:
    """Blend a map's colours into a picture, with the same weight for all pixels.

    Args:
        pixels: `(H, W, 3)` uint8, RGB.
        colours: the result of `heatmap`, of the same shape.
        alpha: the weight of the colours, 0 (picture only) to 1 (colours only).

    Returns:
        `(H, W, 3)` uint8, RGB.

    Raises:
        ArrayInputError: if `alpha` or the pixels are not as above.
    """
    _check_blend(pixels, alpha)
    weight = np.float32(alpha)
    return _to_uint8(pixels * (1 - weight) + colours * weight)


def outlined(
    pixels: Pixels,
    boxes: Sequence[tuple[float, float, float, float]],
    size: tuple[int, ...],
    names: Sequence[str] = (),
) -> Pixels:
    """Draw the outlines of boxes, white within black, and their names.

    Args:
        pixels: `(H, W, 3)` uint8.
        boxes: x0, y0, x1, y1 in pixels of an image of `size`, of which `pixels` is a resized copy.
        size: height and width.
        names: a text for each box, or none.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    scale = np.asarray([pixels.shape[1] / size[1], pixels.shape[0] / size[0]] * 2)
    width = max(1, min(pixels.shape[:2]) // 150)
    for box, name in zip_longest(boxes, names, fillvalue=""):
        x0, y0, x1, y1 = np.rint(np.asarray(box) * scale).tolist()
        draw.rectangle((x0 - width, y0 - width, x1 + width, y1 + width), None, "black", 3 * width)
        draw.rectangle((x0, y0, x1, y1), None, "white", width)
        place = (x0 + 3 * width, y0 + 2 * width)
        draw.text(place, name, "white", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)


def figure(panels: Sequence[tuple[str, Pixels]], *, columns: int = 5) -> Image.Image:
    """Draw rows of titled pictures on white, without changing matplotlib's global state.

    Args:
        panels: titles and pictures, `(H, W, 3)` uint8.
        columns: the number of pictures in a row.

    Returns:
        One RGB picture.

    Raises:
        ArrayInputError: if there is no panel.
    """
    if not panels:
        raise ArrayInputError(
            "`panels` must hold at least one panel, got none; give (title, pixels) pairs"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    width, height = min(columns, len(panels)), math.ceil(len(panels) / columns)
    drawing = Figure(
        figsize=(2.6 * width, 2.9 * height), dpi=150, facecolor="white", layout="constrained"
    )
    canvas: Any = FigureCanvasAgg(drawing)
    axes = drawing.subplots(height, width, squeeze=False).flat
    for axis, panel in zip_longest(axes, panels):
        draw_panel(axis, *(panel or ("", None)))
    with warnings.catch_warnings():  # a label may have letters that the font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        canvas.draw()
    return Image.fromarray(np.array(canvas.buffer_rgba())[..., :3])


def draw_panel(axis: Any, title: str, pixels: Pixels | None) -> None:
    """Draw a picture with its title; None leaves the panel empty."""
    if pixels is not None:
        axis.imshow(pixels, interpolation="antialiased")
    # parse_math would read a "$" in a label as a formula.
    lines = textwrap.fill(title, TITLE_WIDTH)
    axis.set_title(lines, fontsize=9, color="black", parse_math=False)
    axis.set_axis_off()


def _finite(maps: Array) -> Array:
    if np.ndim(maps) < 2:
        raise ArrayInputError(
            f"`maps` must be (..., h, w), got shape {np.shape(maps)}; a map has two axes"
        )
    _reject_nan(maps)
    return np.asarray(maps)


def _reject_nan(values: Array) -> None:
    if not np.isfinite(values).all():
        raise ArrayInputError(
            "values must be finite, got NaN or infinity; check the model's input and weights"
        )


def _to_uint8(values: Array) -> Pixels:
    _reject_nan(values)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def colour_table(name: str) -> Pixels:
    """Return the 256 colours of a colour map, `(256, 3)`."""
    from matplotlib import colormaps

    if name not in colormaps:
        raise ArrayInputError(
            f"`colormap` must be a name of matplotlib's, such as {COLORMAP!r}, got {name!r}"
            f"{nearest(name, colormaps)}"
        )
    colours: Pixels = colormaps[name](np.linspace(0, 1, 256), bytes=True)[:, :3]
    return colours


def _check_blend(pixels: Array, alpha: float) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ArrayInputError(
            f"`pixels` must be uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}; "
            "use open_picture(...).pixels"
        )
    if not (math.isfinite(alpha) and 0 <= alpha <= 1):
        raise ArrayInputError(
            f"`alpha` must be from 0 to 1, got {alpha}; 0.5 shows picture and map equally"
        )
