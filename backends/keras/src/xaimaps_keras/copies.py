"""Copies of model files, because Keras chooses its reader by the file's name."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from xaimaps_keras.archive import CONFIG
from xaimaps_keras.formats import Kind

HDF5 = (".h5", ".hdf5")
"""Suffixes for which Keras expects the format of Keras 2, unless the whole suffix is `WEIGHTS`."""

WEIGHTS = ".weights.h5"


@contextmanager
def staged(path: Path, suffixes: tuple[str, ...], config: str | None = None) -> Iterator[Path]:
    """Provide a file under a name with a suffix of its format, as a temporary copy if necessary.

    Args:
        path: the file.
        suffixes: the suffixes by which Keras recognises the format.
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


@contextmanager
def without_weights(config: str | bytes, kind: Kind) -> Iterator[Path]:
    """Provide a temporary file without weights: Keras builds the model of it, and then fails."""
    with tempfile.TemporaryDirectory(prefix="xaimaps-") as folder:
        if kind is Kind.ARCHIVE:
            path = Path(folder) / "model.keras"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(CONFIG, config)
        else:
            path = Path(folder) / f"model{HDF5[0]}"
            with h5py.File(path, "w") as file:
                file.attrs["model_config"] = config
        yield path
