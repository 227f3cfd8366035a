"""Write an attribution to a folder: pictures, raw maps and the manifest."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from xaimaps._results import render
from xaimaps._results.atomic import joined_stem, prepare_folder, safe_stem, write_atomic
from xaimaps._results.formats import (
    DEFAULT_FORMAT,
    checked_format,
    format_of,
    write_picture,
)
from xaimaps._results.manifest import manifest
from xaimaps._results.volumes import SliceDrawing, draw_slices

if TYPE_CHECKING:
    from PIL import Image

    from xaimaps._results.attribution import Attribution


@dataclass(frozen=True)
class Drawing:
    """One map as pictures.

    Attributes:
        name: the target in file names; empty for a method without one.
        title: the method and the target.
        heatmap: the map alone.
        overlay: the map over the picture, if there is one.
        slices: the map over all slices, if a volume file was explained.
    """

    name: str
    title: str
    heatmap: Image.Image
    overlay: Image.Image | None
    slices: SliceDrawing | None = None


def draw(
    found: Attribution,
    index: int = 0,
    *,
    colormap: str | None = None,
    alpha: float = render.ALPHA,
) -> list[Drawing]:
    """Draw each of an image's maps, rendering each map once."""
    taken: set[str] = set()
    drawings = []
    for k in range(found.count):
        target = found.target_name(index, k)
        name = safe_stem(target, taken) if found.row.uses_target else ""
        heatmap, overlay = found.drawn(index, target=k, alpha=alpha, colormap=colormap)
        slices = draw_slices(found, index, k, colormap=colormap, alpha=alpha)
        drawings.append(Drawing(name, f"{found.method}: {target}", heatmap, overlay, slices))
    return drawings


def save(
    found: Attribution,
    folder: Path,
    *,
    format: str = DEFAULT_FORMAT,
    colormap: str | None = None,
    alpha: float = render.ALPHA,
) -> list[Path]:
    """Write every image's maps into `folder`, each file atomically.

    For each image: NAME-METHOD-TARGET-overlay.png and -heatmap.png (without TARGET for methods that
    use none, and the overlay only if there is a picture), for volumes from files -montage.png, and
    -overlay.gif or -map.nii.gz by the kind of file, -maps.npz with the raw `maps`, `scores` and
    `classes`, and -manifest.json. Several targets share the last two, which name all of them.

    Args:
        found: the attribution.
        folder: created if it does not exist.
        format: of the pictures.
        colormap: a matplotlib name; None for inferno, or RdBu_r for signed maps.
        alpha: the weight of the map in overlays, 0 to 1.

    Returns:
        The files in the order of writing; a manifest comes after the files that it lists.

    Raises:
        OutputError: a file cannot be written.
        ArrayInputError: the maps have channels and cannot be drawn.
    """
    checked_format(format)
    prepare_folder(folder)
    names = output_stems([picture.source for picture in found.pictures], len(found))
    written = []
    for index, name in enumerate(names):
        drawings = draw(found, index, colormap=colormap, alpha=alpha)
        written += save_one(found, index, folder / name, drawings, format)
    return written


def output_stems(sources: Sequence[str], count: int) -> list[str]:
    """Return a distinct file name without suffix for each source, or each of `count` arrays.

    Files of the same name in several folders also have the name of their folder.
    """
    taken: set[str] = set()
    paths = [Path(source) for source in sources] or [Path(f"image-{i}") for i in range(count)]
    folders = defaultdict(set)
    for path in paths:
        folders[path.stem.casefold()].add(path.parent)
    several = {stem for stem, found in folders.items() if len(found) > 1}
    return [safe_stem(_with_folder(path, several), taken) for path in paths]


def _with_folder(path: Path, several: set[str]) -> str:
    folder = path.parent.name if path.stem.casefold() in several else ""
    return "-".join(filter(None, (folder, path.stem)))


def targets_stem(found: Attribution, index: int) -> str:
    """Return all targets of an image in file names; empty for a method without one."""
    if not found.row.uses_target:
        return ""
    return safe_stem("+".join(found.target_name(index, k) for k in range(found.count)), set())


def figure_stem(stem: str, found: Sequence[Attribution], index: int) -> str:
    """Return the name of a figure of several methods, with their targets."""
    return joined_stem(stem, *dict.fromkeys(targets_stem(one, index) for one in found))


def save_one(
    found: Attribution,
    index: int,
    stem: Path,
    drawings: Sequence[Drawing],
    format: str = DEFAULT_FORMAT,
) -> list[Path]:
    """Write one image's files: its drawings, raw maps and manifest.

    Args:
        found: the attribution.
        index: which image.
        stem: the folder and the first part of each name, before the method and the target.
        drawings: the result of `draw` for the image.
        format: of the pictures.
    """
    method = safe_stem(found.method, set())
    written = []
    for one in drawings:
        own = stem.with_name(joined_stem(stem.name, method, one.name))
        written += _write_drawing(one, own, format)
    stem = stem.with_name(joined_stem(stem.name, method, targets_stem(found, index)))
    written.append(stem.with_name(f"{stem.name}-maps.npz"))
    write_atomic(written[-1], lambda file: _write_arrays(file, found, index))
    text = json.dumps(manifest(found, index, written), indent=1, ensure_ascii=False) + "\n"
    written.append(stem.with_name(f"{stem.name}-manifest.json"))
    write_atomic(written[-1], lambda file: _write_text(file, text))
    return written


def _write_drawing(drawing: Drawing, stem: Path, format: str) -> list[Path]:
    """Write the pictures of one map, whose names begin with that of `stem`."""
    pictures = {"overlay": drawing.overlay, "heatmap": drawing.heatmap}
    written = []
    for kind, picture in pictures.items():
        if picture is not None:
            written.append(stem.with_name(f"{stem.name}-{kind}.{format}"))
            write_picture(written[-1], picture)
    return written + (drawing.slices.write(stem, format) if drawing.slices else [])


def save_figure(view: render.Pixels, drawings: Sequence[Drawing], path: Path) -> Path:
    """Draw a picture and its overlays side by side in a file, and return `path`.

    Args:
        view: the part of the picture that the model saw; of a volume, its middle slices are drawn.
        drawings: the maps.
        path: the file, in the format of its suffix.
    """
    format_of(path)
    write_picture(path, figure_of(view, drawings))
    return path


def figure_of(view: render.Pixels, drawings: Sequence[Drawing]) -> Image.Image:
    """Draw a picture, or the middle slices of a volume, and its overlays side by side."""
    overlays = [(one.title, np.asarray(one.overlay)) for one in drawings]
    return render.figure([("model input", render.flat(view)), *overlays])


def _write_arrays(file: BinaryIO, found: Attribution, index: int) -> None:
    classes = {} if found.classes is None else {"classes": found.classes[index]}
    np.savez_compressed(file, maps=found.maps[index], scores=found.scores[index], **classes)


def _write_text(file: BinaryIO, text: str) -> None:
    # The bytes of a file name that is not UTF-8 become escapes.
    file.write(text.encode("utf-8", "backslashreplace"))
