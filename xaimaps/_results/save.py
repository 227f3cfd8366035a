"""Writing an attribution to a folder: pictures, raw maps and what it takes to reproduce them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from xaimaps import _registry
from xaimaps._results import render
from xaimaps._results.atomic import prepare_folder, safe_stem, write_atomic

if TYPE_CHECKING:
    from PIL import Image

    from xaimaps._results.attribution import Attribution


def save(
    found: Attribution,
    folder: Path,
    stems: Sequence[str] | None = None,
    *,
    colormap: str | None = None,
) -> list[Path]:
    """Write every image's maps into `folder`, each file whole or not at all.

    For each image: NAME-METHOD-overlay.png and -heatmap.png (with the class in the name where
    there are several targets, the overlay only where there is a picture), -maps.npz with the raw
    `maps`, `scores` and `target`, and -manifest.json.

    Args:
        found: what to write.
        folder: made if it does not exist.
        stems: NAME for each image; None for the pictures' own names, made distinct.
        colormap: a name of matplotlib's; None for inferno, or RdBu_r for signed maps.

    Returns:
        The files, in the order of writing; a manifest comes after what it lists.

    Raises:
        OutputError: a file cannot be written.
        ArrayInputError: the maps cannot be drawn, as they still have their channels.
    """
    prepare_folder(folder)
    names = stems or output_stems([picture.source for picture in found.pictures], len(found))
    return [
        path
        for index, name in enumerate(names)
        for path in _save_one(found, index, folder, name, colormap)
    ]


def output_stems(sources: Sequence[str], count: int) -> list[str]:
    """A distinct, safe file name without suffix for each source, or for each of `count` arrays."""
    taken: set[str] = set()
    names = [Path(source).stem for source in sources] or [f"image-{i}" for i in range(count)]
    return [safe_stem(name, taken) for name in names]


def save_figure(found: Sequence[Attribution], path: Path) -> Path:
    """Draw the first picture beside its overlay by each method, and write that; returns `path`."""
    panels = [("what the model saw", found[0].views[0])]
    for one in found:
        for k in range(one.maps.shape[1] if one.is_several else 1):
            title = f"{one.method}: {_title(one, k)}"
            panels.append((title, np.asarray(one.overlay(target=k))))
    picture = render.figure(panels)
    write_atomic(path, lambda file: picture.save(file, "PNG"))
    return path


def _title(found: Attribution, k: int) -> str:
    if found.target is None:
        return f"target {k}"
    return found.label(int(np.atleast_1d(found.target[0])[k]))


def _save_one(
    found: Attribution, index: int, folder: Path, name: str, colormap: str | None
) -> list[Path]:
    stem = f"{name}-{found.method}"
    written = []
    for name, picture in _drawings(found, index, colormap):
        written.append(folder / f"{stem}{name}.png")
        write_atomic(written[-1], lambda file, p=picture: p.save(file, "PNG"))  # type: ignore[misc]
    written.append(folder / f"{stem}-maps.npz")
    write_atomic(written[-1], lambda file: _write_arrays(file, found, index))
    text = json.dumps(manifest(found, index, written), indent=1, ensure_ascii=False) + "\n"
    written.append(folder / f"{stem}-manifest.json")
    write_atomic(written[-1], lambda file: _write_text(file, text))
    return written


def _drawings(
    found: Attribution, index: int, colormap: str | None
) -> list[tuple[str, Image.Image]]:
    """Each picture to write, and what its name says after the method."""
    drawings = []
    for k in range(found.maps.shape[1] if found.is_several else 1):
        which = f"-{_target_name(found, index, k)}" if found.is_several else ""
        if found.views:
            drawings.append((f"{which}-overlay", found.overlay(index, target=k, colormap=colormap)))
        drawings.append((f"{which}-heatmap", found.heatmap(index, target=k, colormap=colormap)))
    return drawings


def _target_name(found: Attribution, index: int, k: int) -> str:
    return f"{k}" if found.target is None else f"{found.target[index, k]}"


def _write_arrays(file: BinaryIO, found: Attribution, index: int) -> None:
    target = {} if found.target is None else {"target": found.target[index]}
    np.savez_compressed(file, maps=found.maps[index], scores=found.scores[index], **target)


def _write_text(file: BinaryIO, text: str) -> None:
    # A file name that is no UTF-8 stays readable, as an escape.
    file.write(text.encode("utf-8", "backslashreplace"))


def manifest(found: Attribution, index: int, files: list[Path]) -> dict[str, Any]:
    """All that it takes to reproduce the maps of one image, as JSON values.

    Args:
        found: the attribution.
        index: which image.
        files: what was written, to be listed by name.
    """
    model = found.model
    return {
        "xaimaps": version("xaimaps"),
        "method": found.method,
        "options": {name: _recorded(value) for name, value in found.options.items()},
        "layer": found.layer,
        "backend": found.backend,
        "backend_version": _backend_version(found.backend),
        "versions": found.versions,
        "model": {"name": model.name, "file": Path(model.source).name, "sha256": model.sha256},
        "preprocess": asdict(model.preprocess) if model.preprocess else None,
        "picture": _picture(found, index),
        "targets": _targets(found, index),
        "display": found.display,
        "maps": {"shape": list(found.maps.shape[1:]), "dtype": str(found.maps.dtype)},
        "seconds": found.seconds._asdict(),
        "notes": list(model.notes),
        "files": [path.name for path in files],
    }


def _recorded(value: Any) -> Any:
    """An option as a JSON value; an array by its shape and digest."""
    if not isinstance(value, np.ndarray):
        return value
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}


def _backend_version(name: str) -> str | None:
    """The version of the distribution that brings a backend; None for one that is no plugin."""
    entry = _registry.installed().get(name)
    return entry.dist.version if entry is not None and entry.dist is not None else None


def _picture(found: Attribution, index: int) -> dict[str, Any] | None:
    if not found.pictures:
        return None
    picture = found.pictures[index]
    return {
        "source": picture.source,
        "sha256": picture.sha256,
        "mode": picture.mode,
        "size": list(picture.pixels.shape[:2]),
        "notes": list(picture.notes),
    }


def _targets(found: Attribution, index: int) -> list[dict[str, Any]] | None:
    """Class, label and score of each target; None for functions of the outputs."""
    if found.target is None:
        return None
    classes = np.atleast_1d(found.target[index]).tolist()
    return [
        {"class": c, "label": found.label(c), "score": float(found.scores[index, c])}
        for c in classes
    ]
