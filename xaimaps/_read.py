"""`read`: give back results that were saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._images.open import open_picture
from xaimaps._images.picture import Picture
from xaimaps._results.attribution import Attribution, Display, Seconds
from xaimaps._results.stored import changed, preprocess_of, read_arrays, read_manifest, tuples
from xaimaps.backend import ModelInfo
from xaimaps.errors import ManifestError
from xaimaps.methods import get_method
from xaimaps.targets import Detection, parse_target

Array = np.ndarray[Any, Any]

Told = dict[str, Any]


def read(path: str | os.PathLike[str]) -> list[Attribution]:
    """Read results that `save` or the command line has written.

    Nothing is computed and no model is loaded. A picture that is missing or has changed since is
    left out, and a note says so; its maps can still be drawn as heat maps.

    Args:
        path: a `-manifest.json`, or a folder with some of them.

    Returns:
        One result of one image for each manifest, in the order of their names.

    Raises:
        ManifestError: there is no manifest, or a part of one cannot be read.

    Example:
        >>> import tempfile, xaimaps
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = xaimaps.explain("default", xaimaps.zoo.PICTURES["chelsea"]).save(folder)
        ...     [result] = xaimaps.read(folder)
        >>> result.top(1)[0].label
        'Egyptian cat'
    """
    place = Path(path)
    manifests = sorted(place.glob("*-manifest.json")) if place.is_dir() else [place]
    if not manifests:
        raise ManifestError(f"no -manifest.json in {str(place)!r}; give a folder with results")
    return [_result(manifest) for manifest in manifests]


def _result(path: Path) -> Attribution:
    told = read_manifest(path)
    arrays = read_arrays(path, told)
    try:
        return _attribution(told, arrays)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{str(path)!r} is not a manifest of this version of xaimaps ({error!r})"
        ) from error


def _attribution(told: Told, arrays: dict[str, Array]) -> Attribution:
    picture, reason = _picture(told)
    layers = told["layer"] or ()
    scores = [one["score"] for one in told["targets"] if "score" in one]
    is_several = bool(told["maps"]["several"])
    size = tuples(told["input_size"])
    return Attribution(
        maps=arrays["maps"][None],
        scores=arrays["scores"][None],
        target=parse_target(told["target"]),
        classes=arrays["classes"][None] if "classes" in arrays else None,
        target_scores=np.asarray([scores] if is_several else scores) if scores else None,
        method=told["method"],
        row=get_method(told["method"]),
        display=(Display(**told["display"]),),
        layers=(layers,) if isinstance(layers, str) else tuple(layers),
        options={name: tuples(value) for name, value in told["options"].items()},
        backend=told["backend"],
        model=_model(told, arrays["scores"], reason),
        seconds=Seconds(**told["seconds"]),
        versions=told["versions"],
        is_several=is_several,
        explained_boxes=(tuple(map(_box, told["targets"])),),
        input_size=size,
        pictures=(picture,) if picture else (),
        views=(preprocess_of(told).view(picture.pixels, size),) if picture else (),
    )


def _picture(told: Told) -> tuple[Picture | None, list[str]]:
    """Return the picture, and why there is none."""
    recorded = told["picture"]
    if recorded is None:
        return None, []
    if why := changed(recorded["source"], recorded["sha256"]):
        return None, [f"the picture {why}"]
    picture = open_picture(recorded["source"], rank=len(recorded["size"]))
    return picture.windowed(preprocess_of(told).window), []


def _model(told: Told, scores: Array, reason: list[str]) -> ModelInfo:
    """Return the metadata of the model; only the labels of the best and explained classes."""
    named = [*told["targets"], *({"class": one["index"], **one} for one in told["top"])]
    known = {one["class"]: one["label"] for one in named if "class" in one}
    about = told["model"]
    return ModelInfo(
        name=about["name"],
        source=about["source"],
        sha256=about["sha256"],
        labels=tuple(known.get(i, f"class {i}") for i in range(scores.shape[-1])),
        preprocess=preprocess_of(told) if told["preprocess"] else None,
        labels_name=about["labels_name"],
        ending=about["ending"],
        inputs=told["inputs"],
        notes=[*told["notes"], *reason],
    )


def _box(entry: Told) -> Detection | None:
    box = entry.get("box")
    return Detection(box["class"], box["score"], tuples(box["corners"]), ()) if box else None
