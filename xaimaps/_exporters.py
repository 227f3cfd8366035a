"""What writes a backend's models as files that other backends read, found by entry point."""

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
"""The group of entry points; each leads to a class that is an `Exporter`."""


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        bytes: the size of the file.
        layers: how many layers it knows by name.
        of: how many the model has.
        lost: the others.
        difference: the largest between the outputs of file and model, relative.
        seconds: what it took.
        peak_bytes: the most memory that it held, where the system says so.
    """

    bytes: int
    layers: int
    of: int
    lost: Sequence[str]
    difference: float
    seconds: float
    peak_bytes: int | None


class Exporter(Protocol):
    """Writes the models of one backend in one format.

    Attributes:
        backend: the name of the backend.
        suffix: of the files.
    """

    backend: str
    suffix: str

    def require(self) -> None:
        """Raise a BackendError where a library is missing, without importing it."""

    def export(self, source: str, file: Path, *, loud: bool, **options: Any) -> Exported:
        """Write the model that `source` names, with the options of `xaimaps convert`."""

    def export_loaded(
        self, model: Any, native: Any, file: Path, options: Mapping[str, Any]
    ) -> None:
        """Write `model`, which `xaimaps.load` made `native` of with these options."""


@functools.cache
def installed() -> tuple[Exporter, ...]:
    """All exporters."""
    return tuple(entry.load()() for entry in entry_points(group=GROUP))


def find_exporter(suffix: str) -> Exporter:
    """The installed exporter that writes files of this suffix.

    Raises:
        BackendError: none does.
    """
    for exporter in installed():
        if exporter.suffix == suffix:
            return exporter
    raise BackendError(f"nothing is installed that writes {suffix}; {how_to_install('convert')}")
