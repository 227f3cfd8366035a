"""Draw maps of volumes slice by slice, and write them for viewers of volumes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps._images.picture import Picture
from xaimaps._images.volume import as_nifti
from xaimaps._results import render
from xaimaps._results.atomic import write_atomic
from xaimaps._results.formats import write_picture

if TYPE_CHECKING:
    from xaimaps._results.attribution import Attribution

COLUMNS = 4
"""The number of slices in a row of a montage, which has as many rows."""


@dataclass(frozen=True)
class SliceDrawing:
    """One map of a volume, at the size of the volume.

    Attributes:
        values: the map, `(D, H, W)`.
        overlays: the map over each slice across the first axis, `(D, H, W, 3)`.
        volume: the file that was explained.
    """

    values: render.Floats
    overlays: render.Pixels
    volume: Picture

    def write(self, stem: Path, format: str) -> list[Path]:
        """Write the montage, for animations one with the map, and for NIfTI the map."""
        montage = stem.with_name(f"{stem.name}-montage.{format}")
        write_picture(montage, _montage(self.overlays))
        written = [montage]
        if self.volume.duration is not None:
            written.append(stem.with_name(f"{stem.name}-overlay.gif"))
            write_atomic(written[-1], self._write_animation)
        if self.volume.affine is not None:
            written.append(stem.with_name(f"{stem.name}-map.nii.gz"))
            data = as_nifti(self.values, self.volume.affine)
            write_atomic(written[-1], lambda file: file.write(data))
        return written

    def _write_animation(self, file: Any) -> None:
        from PIL import Image

        first, *others = map(Image.fromarray, self.overlays)
        duration = self.volume.duration
        first.save(file, "GIF", save_all=True, append_images=others, duration=duration, loop=0)


def draw_slices(
    found: Attribution, index: int, k: int, *, colormap: str | None, alpha: float
) -> SliceDrawing | None:
    """Draw a map over every slice of the volume file that was explained, if one was."""
    if not found.pictures or len(found.input_size) != 3:
        return None
    values, view = found.volume(index, target=k), found.views[index]
    # One scale for all slices, which are put below each other.
    rows = values.reshape(-1, values.shape[2])
    display = found.display[index]._asdict()
    colours = render.heatmap(rows, rows.shape, colormap=colormap, **display)
    overlays = render.blend(view.reshape(*rows.shape, 3), colours, alpha)
    return SliceDrawing(values, overlays.reshape(view.shape), found.pictures[index])


def _montage(slices: render.Pixels) -> Any:
    """Put evenly chosen slices, the first and the last among them, in rows."""
    from PIL import Image

    count = min(len(slices), COLUMNS**2)
    chosen = slices[np.linspace(0, len(slices) - 1, count).round().astype(int)]
    depth, height, width, _ = chosen.shape
    lines = math.ceil(depth / COLUMNS)
    blank = np.zeros((lines * COLUMNS - depth, height, width, 3), np.uint8)
    grid = np.concatenate([chosen, blank]).reshape(lines, COLUMNS, height, width, 3)
    return Image.fromarray(grid.swapaxes(1, 2).reshape(lines * height, COLUMNS * width, 3))
