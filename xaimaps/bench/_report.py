"""What a benchmark has measured: one row for each case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What is measured in one process: a program of a backend."""

    precision: str
    method: str
    batch_size: int


@dataclass(frozen=True)
class Row:
    """A measurement, or the reason why there is none.

    Attributes:
        model: the model, as it was given.
        backend: the backend's name.
        precision: that of the model's values and products.
        method: the method's name.
        batch_size: the number of images in each run.
        reason: why nothing was measured; empty for a measurement.
        compile_seconds: the time of the first run, beyond that of the median run.
        seconds: the median time of a run, from images in numpy to maps in numpy.
        quartiles: the first and the third quartile of these times.
        host_bytes: the peak memory of the process while the case was measured.
        device_bytes: the peak memory of the accelerator up to the end of the case, if there is one.
    """

    model: str
    backend: str
    precision: str
    method: str
    batch_size: int
    reason: str = ""
    compile_seconds: float = 0.0
    seconds: float = 0.0
    quartiles: tuple[float, float] = (0.0, 0.0)
    host_bytes: int | None = None
    device_bytes: int | None = None

    @property
    def images_per_second(self) -> float:
        """The number of images that are explained in a second; 0 without a measurement."""
        return self.batch_size / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values, without numbers if there is no measurement."""
        told = asdict(self)
        if self.reason:
            return {name: told[name] for name in (*Case._fields, "model", "backend", "reason")}
        return told | {"images_per_second": self.images_per_second}


@dataclass(frozen=True)
class Report:
    """The rows of a benchmark, and where it ran.

    Attributes:
        rows: one for each model, backend, precision, method and batch size.
        environment: the machine, the versions and the settings of the run.
    """

    rows: Sequence[Row]
    environment: dict[str, Any]

    @property
    def measured(self) -> list[Row]:
        """The rows with a measurement."""
        return [row for row in self.rows if not row.reason]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"environment": self.environment, "rows": [row.to_dict() for row in self.rows]}
