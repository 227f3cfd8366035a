"""Loading of weights from a file into a network of a known architecture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from xaimaps.errors import ModelLoadError, XaimapsError
from xaimaps_keras.archive import read_members
from xaimaps_keras.copies import HDF5, WEIGHTS, staged
from xaimaps_keras.failures import loading, require_finite
from xaimaps_keras.formats import Kind, kind_of
from xaimaps_keras.hdf5 import checked
from xaimaps_keras.messages import summary


@dataclass(frozen=True)
class WeightsFile:
    """A file whose structure has been checked.

    Attributes:
        path: the file.
        suffixes: the suffixes by which Keras recognises its format.
        layers: the names of its layers, including those without weights.
    """

    path: Path
    suffixes: tuple[str, ...]
    layers: tuple[str, ...]

    @classmethod
    def check(cls, path: Path) -> WeightsFile:
        """Check a `.keras`, `.weights.h5` or legacy `.h5` file.

        Raises:
            ModelLoadError: it is missing, damaged or unsafe.
        """
        name = repr(str(path))
        if kind_of(path) is Kind.ARCHIVE:
            with checked(read_members(path).weights, name) as file:
                return cls(path, (".keras",), _texts(file.get("layers", ())))
        with checked(path, name) as file:
            legacy = _legacy_group(file)
            if legacy is None:
                return cls(path, (WEIGHTS,), _texts(file.get("layers", ())))
            return cls(path, HDF5, _texts(legacy.attrs.get("layer_names", ())))

    def load_into(self, model: Any, architecture: str) -> None:
        """Set the weights of a network.

        Raises:
            ModelLoadError: the weights are those of another network, or are not finite.
        """
        try:
            with staged(self.path, self.suffixes) as file, loading():
                model.load_weights(str(file))
        except XaimapsError:
            raise
        except Exception as error:  # Keras and h5py may raise anything
            raise ModelLoadError(
                f"{str(self.path)!r} does not hold the weights of {architecture} with its 1000 "
                f"classes ({summary(error)}); give the file of this architecture, with its top"
            ) from error
        require_finite(model, repr(str(self.path)))


def _legacy_group(file: h5py.File) -> h5py.Group | None:
    """Return the group with the weights in a file of Keras 2, or None for another format."""
    if "layer_names" in file.attrs:
        return file
    return file.get("model_weights")


def _texts(names: Iterable[str | bytes]) -> tuple[str, ...]:
    return tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names)
