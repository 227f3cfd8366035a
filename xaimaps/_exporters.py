"""Exporters, found by entry point: they write a backend's models as files for other backends."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from xaimaps._registry import how_to_install
from xaimaps.errors import BackendError

GROUP = "xaimaps.exporters"
"""The entry point group; each entry point names a class that is an `Exporter`."""


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        bytes: the size of the file.
        layers: the number of layers that the file has by name.
        of: the number of layers of the model.
        lost: the layers that the file does not have.
        difference: the largest relative difference between the outputs of file and model.
        seconds: the duration.
        peak_bytes: the peak memory, if the system reports it.
    """

    bytes: int
    layers: int
    of: int
    lost: Sequence[str]
    difference: float
    seconds: float
    peak_bytes: int | None


class Exporter(Protocol):
    """Write the models of one backend in one format.

    Attributes:
        backend: the name of the backend.
        suffix: the suffix of the files.
    """

    backend: str
    suffix: str

    def require(self) -> None:
        """Raise a BackendError if a library is missing, without importing it."""

    def export(self, source: str, file: Path, *, loud: bool, **options: Any) -> Exported:
        """Write the model that `source` names, with the options of `xaimaps convert`."""

    def export_loaded(
        self, model: Any, native: Any, file: Path, options: Mapping[str, Any]
    ) -> None:
        """Write `model`, which `xaimaps.load` loaded as `native` with these options."""


@functools.cache
def installed() -> tuple[Exporter, ...]:
    """Return all exporters."""
    return tuple(entry.load()() for entry in entry_points(group=GROUP))


def find_exporter(suffix: str) -> Exporter:
    """Return the installed exporter for a suffix.

    Raises:
        BackendError: there is none.
    """
    for exporter in installed():
        if exporter.suffix == suffix:
            return exporter
    raise BackendError(f"no installed exporter writes {suffix}; {how_to_install('convert')}")
