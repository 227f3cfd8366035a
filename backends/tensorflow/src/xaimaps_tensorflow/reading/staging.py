"""Copies of model files, for Keras chooses its reader by the file's name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

HDF5 = (".h5", ".hdf5")
"""Where Keras expects the format of Keras 2, unless `WEIGHTS` stands before it."""

WEIGHTS = ".weights.h5"


@contextmanager
def staged(path: Path, suffixes: tuple[str, ...], config: str | None = None) -> Iterator[Path]:
    """Give a file under a name with a suffix of its format: itself, or a copy for the while.

    Args:
        path: the file.
        suffixes: one of these Keras must see.
        config: for an HDF5 file of a model, another configuration.
    """
    fits = path.name.endswith(suffixes) and (WEIGHTS in suffixes or not path.name.endswith(WEIGHTS))
    if config is None and fits:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="xaimaps-") as folder:
        copy = Path(folder) / f"model{suffixes[0]}"
        shutil.copyfile(path, copy)
        if config is not None:
            with h5py.File(copy, "r+") as file:
                file.attrs["model_config"] = config
        yield copy
