"""Copies of model files, for Keras chooses its reader by the file's name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py


@contextmanager
def staged(path: Path, suffix: str, config: str | None = None) -> Iterator[Path]:
    """Give a file under a name with the suffix of its format: itself, or a copy for the while.

    Args:
        path: the file.
        suffix: what Keras must see.
        config: for an HDF5 file of a model, another configuration.
    """
    if config is None and path.name.endswith(suffix):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="xaimaps-") as folder:
        copy = Path(folder) / f"model{suffix}"
        shutil.copyfile(path, copy)
        if config is not None:
            with h5py.File(copy, "r+") as file:
                file.attrs["model_config"] = config
        yield copy
