"""Read what `save` has written: a manifest, and the arrays in the file next to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._images.preprocess import Preprocess
from xaimaps._results.manifest import file_digest
from xaimaps.errors import ManifestError

Array = np.ndarray[Any, Any]

_KEYS = {"method", "options", "layer", "target", "target_files", "targets", "backend", "model"}
_KEYS |= {"inputs", "input_files", "preprocess", "input_size", "picture", "files", "not_recorded"}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        ManifestError: it cannot be read, or lacks a part.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"no such file: {str(path)!r}; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{str(path)!r} is not a readable manifest ({error})") from None
    missing = _KEYS - told.keys() if isinstance(told, dict) else _KEYS
    if missing:
        raise ManifestError(
            f"{str(path)!r} is not a manifest of this version of xaimaps: it lacks "
            f"{', '.join(sorted(missing))}"
        )
    return {"precision": "float32", **told}  # manifests were written before there was a choice


def read_arrays(path: Path, told: dict[str, Any]) -> dict[str, Array]:
    """Read the arrays that were stored with a manifest: `maps`, `scores` and `classes`.

    Raises:
        ManifestError: they cannot be read.
    """
    name = ""
    try:
        name = next((name for name in told["files"] if name.endswith("-maps.npz")), "")
        with np.load(path.with_name(name or "-maps.npz"), allow_pickle=False) as arrays:
            return {"maps": arrays["maps"], **arrays}
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError) as error:
        raise ManifestError(
            f"cannot read the maps {name!r} of {str(path)!r} ({error}); keep both files in the "
            "same folder"
        ) from None


def changed(file: str, sha256: str) -> str:
    """Return how a file has changed, or an empty text if it has not."""
    if not Path(file).exists():
        return f"{file!r} is missing; run this in the folder that the manifest was made in"
    return (
        ""
        if file_digest(file) == sha256
        else f"{file!r} has changed since the manifest was written"
    )


def preprocess_of(told: dict[str, Any]) -> Preprocess:
    """Return the preprocessing that a manifest records.

    Raises:
        ManifestError: its values are of no preprocessing.
    """
    try:
        return Preprocess(**{name: tuples(value) for name, value in told["preprocess"].items()})
    except (AttributeError, TypeError) as error:
        raise ManifestError(f"the manifest's `preprocess` cannot be used ({error})") from None


def tuples(value: Any) -> Any:
    """Replace lists by tuples, which JSON lacks."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value
