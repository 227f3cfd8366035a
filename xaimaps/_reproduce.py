"""`reproduce`: recompute the maps of a manifest, and compare them with the stored ones."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._arrays import as_batch
from xaimaps._attribute import plan, run_jobs
from xaimaps._images.open import MAX_PIXELS
from xaimaps._load import load
from xaimaps._prepare import Batch, prepare
from xaimaps._results.attribution import Attribution
from xaimaps._results.manifest import file_digest, labels_digest
from xaimaps._results.stored import (
    changed,
    preprocess_of,
    read_arrays,
    read_manifest,
    tuples,
)
from xaimaps.backend import Backend
from xaimaps.errors import InputImageError, ManifestError, ModelLoadError, TargetError
from xaimaps.targets import TargetSpec, parse_target

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-4
"""The largest difference of a map, relative to its largest value, that counts as the same."""


@dataclass(frozen=True)
class Reproduction:
    """The result of running a manifest again.

    Attributes:
        result: the new maps.
        differences: the largest difference of each map from the stored one, relative to the
            largest stored value, by the name of the target.
        tolerance: the largest allowed difference.
    """

    result: Attribution
    differences: dict[str, float]
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether every map equals the stored one within the tolerance."""
        return all(difference <= self.tolerance for difference in self.differences.values())


def reproduce(
    manifest: str | os.PathLike[str],
    *,
    model: Any = None,
    allow_unsafe: bool = False,
    tolerance: float = TOLERANCE,
) -> Reproduction:
    """Recompute the maps of a manifest, and compare them with the stored ones.

    Paths in the manifest may be relative to the folder in which it was made, so call this there.

    Args:
        manifest: the path of a `-manifest.json`, with its `-maps.npz` in the same folder.
        model: a backend from `load` or an argument of `load`, if the model has moved.
        allow_unsafe: load a model that contains code; a manifest alone never allows it.
        tolerance: the largest relative difference that counts as equal.

    Raises:
        ManifestError: the manifest cannot be read, or cannot be reproduced.
        ModelLoadError: the model or its labels have changed.
        InputImageError: the picture has changed or is missing.
        TargetError: a file of the target has changed or is missing.

    Example:
        >>> import tempfile, xaimaps
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = xaimaps.explain("default", xaimaps.zoo.PICTURES["chelsea"])
        ...     xaimaps.reproduce(result.save(folder)[-1]).agrees
        True
    """
    path = Path(manifest)
    told = read_manifest(path)
    _require_recorded(path, told, is_model_given=model is not None)
    stored = read_arrays(path, told)["maps"]
    picture = None if told["picture"] is None else _picture(told)
    target = _target(told)
    backend = _model(told, model, allow_unsafe)
    batch = _of_vector(backend, told) if picture is None else _prepared(backend, picture, told)
    layer, options = tuples(told["layer"]), {n: tuples(v) for n, v in told["options"].items()}
    job = plan(backend, told["method"], layer, options)
    (result,) = run_jobs(backend, [job], batch, target)
    return Reproduction(result, _differences(result, stored), tolerance)


def _require_recorded(path: Path, told: dict[str, Any], *, is_model_given: bool) -> None:
    reasons = [
        reason
        for reason in told["not_recorded"]
        if not (is_model_given and reason.startswith("the model "))
    ]
    if reasons:
        raise ManifestError(f"{str(path)!r} cannot be reproduced: {'; '.join(reasons)}")


def _picture(told: dict[str, Any]) -> str:
    source = str(told["picture"]["source"])
    if why := changed(source, told["picture"]["sha256"]):
        raise InputImageError(f"the picture {why}")
    return source


def _target(told: dict[str, Any]) -> TargetSpec:
    for file, sha256 in told["target_files"].items():
        if why := changed(file, sha256):
            raise TargetError(f"the target's file {why}")
    return parse_target(told["target"])


def _model(told: dict[str, Any], model: Any, allow_unsafe: bool) -> Backend:
    """Load the model with the recorded settings, and check that it has not changed."""
    about = told["model"]
    source = about["source"] if model is None else model
    is_file = isinstance(source, str | os.PathLike) and Path(source).is_file()
    if about["sha256"] and is_file and file_digest(source) != about["sha256"]:
        raise ModelLoadError(
            f"the model {str(source)!r} has changed since the manifest was written"
        )
    for file, sha256 in told["input_files"].items():
        if why := changed(file, sha256):
            raise ModelLoadError(f"the model's input {why}")
    backend = source if isinstance(source, Backend) else _loaded(told, source, allow_unsafe)
    if backend.info.sha256 != about["sha256"]:
        raise ModelLoadError(
            f"the model must be {str(about['source'])!r} of the manifest, got a different one"
        )
    if backend.info.inputs != told["inputs"]:
        raise ModelLoadError(
            f"the model must have the inputs {told['inputs']} of the manifest, got "
            f"{backend.info.inputs}"
        )
    if backend.precision != told["precision"]:
        raise ModelLoadError(
            f"the model must have the precision {told['precision']!r} of the manifest, got "
            f"{backend.precision!r}"
        )
    if labels_digest(backend.info.labels) != about["labels_sha256"]:
        raise ModelLoadError("the labels have changed since the manifest was written")
    return backend


def _loaded(told: dict[str, Any], source: Any, allow_unsafe: bool) -> Backend:
    # A manifest is untrusted, so it cannot allow a model to run code.
    stored = told["model"]["load"].items()
    options: dict[str, Any] = {n: tuples(v) for n, v in stored if n != "allow_unsafe"}
    options |= {"allow_unsafe": True} if allow_unsafe else {}
    options |= {"inputs": told["inputs"], "precision": told["precision"]}
    return load(source, backend=told["backend"], preprocess=preprocess_of(told), **options)


def _prepared(backend: Backend, picture: str, told: dict[str, Any]) -> Batch:
    pixels = math.prod(told["picture"]["size"])
    size: Any = tuples(told["input_size"])
    return prepare(backend, picture, size, max(MAX_PIXELS, pixels))


def _of_vector(backend: Backend, told: dict[str, Any]) -> Batch:
    try:
        values = np.asarray(told["vector"]["values"])
        return Batch(as_batch(values[:, None], backend.input_shape))
    except (KeyError, IndexError, TypeError) as error:
        raise ManifestError(f"the manifest's `vector` cannot be used ({error})") from None


def _differences(result: Attribution, stored: Array) -> dict[str, float]:
    maps = result.maps[0]
    if maps.shape != stored.shape:
        raise ManifestError(
            f"the stored maps have shape {stored.shape}, but the manifest gives {maps.shape}"
        )
    pairs = zip(maps, stored, strict=True) if result.is_several else [(maps, stored)]
    return {result.target_name(0, k): _relative(*pair) for k, pair in enumerate(pairs)}


def _relative(found: Array, stored: Array) -> float:
    """Return the largest difference relative to the largest stored value."""
    apart, largest = np.abs(found - stored).max(initial=0), np.abs(stored).max(initial=0)
    if largest == 0:
        return 0.0 if apart == 0 else float("inf")
    return float(apart / largest)
