"""What is done with each picture: decoding, and the maps of a few at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._attribute import each_of_size
from xaimaps._prepare import Batch, joined, prepare
from xaimaps._results.attribution import Attribution
from xaimaps._results.manifest import backend_version, file_digest, model_record, recorded
from xaimaps._run import Job
from xaimaps.backend import Backend
from xaimaps.batch._rows import failed_row, rows_of, write_overlays
from xaimaps.batch._sources import Item
from xaimaps.batch._store import Row
from xaimaps.errors import (
    ImageTargetError,
    InputImageError,
    OutOfMemoryError,
    TargetError,
    first_line,
)
from xaimaps.targets import ClassSpec, TargetSpec, class_index, parse_target


@dataclass(frozen=True)
class Decoded:
    """A picture that is prepared for the model, or the reason why it is not.

    Attributes:
        number: its place in the input.
        item: the picture.
        seconds: the time of reading and preparing it.
        batch: a batch of this picture; None if it cannot be read.
        target: the class to explain, if the input says it for each picture.
        error: the reason.
    """

    number: int
    item: Item
    seconds: float
    batch: Batch | None = None
    target: int | str | None = None
    error: str = ""


@dataclass
class Task:
    """The methods and settings that apply to all pictures.

    Attributes:
        model: the model.
        jobs: the methods.
        target: what is explained of each picture that has no target of its own.
        size: the number of pictures to run at a time, which falls if the memory does not suffice.
        max_pixels: the largest number of pixels of a picture.
        overlays: the folder for the overlays; None for none.
        notes: what happened on the way, for the user.
    """

    model: Backend
    jobs: Sequence[Job]
    target: TargetSpec
    size: int
    max_pixels: int
    overlays: Path | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.model.info.sha256:
            self.notes.append(
                "the model did not come from a file, so that a later run cannot check that it is "
                "the same"
            )

    def record(self) -> Row:
        """Describe all that the maps depend on besides the pictures, as JSON values."""
        model = self.model
        about = model_record(model.info)
        return {
            "xaimaps": version("xaimaps"),
            "model": {name: about[name] for name in about if name not in ("file", "source")},
            "backend": model.name,
            "backend_version": backend_version(model.name),
            "precision": model.precision,
            "versions": {"numpy": np.__version__, **model.versions()},
            "methods": [
                {
                    "method": job.row.name,
                    "layers": list(job.layers),
                    "options": {name: recorded(value) for name, value in job.all_options.items()},
                }
                for job in self.jobs
            ],
            "target": str(self.target),
            "target_files": {file: file_digest(file) for file in self.target.files},
            "spatial_axes": len(model.input_shape) - 1,
            "inputs": model.info.inputs,
            "preprocess": asdict(model.info.preprocess) if model.info.preprocess else None,
            "max_pixels": self.max_pixels,
            "overlays": self.overlays is not None,
        }

    def decode(self, number: int, item: Item) -> Decoded:
        """Read a picture and prepare it for the model."""
        begin, batch, target, reason = time.perf_counter(), None, None, ""
        try:
            target = None if item.target is None else self._class(item.target)
            rank = len(self.model.input_shape) - 1
            batch = prepare(self.model, item.open(self.max_pixels, rank))
        except (InputImageError, TargetError) as error:
            reason = str(error)
        except MemoryError:
            reason = f"{item.name!r} must fit into the memory, got too large a one; scale it down"
        return Decoded(number, item, time.perf_counter() - begin, batch, target, reason)

    def _class(self, text: str) -> int | str:
        """Return the class that the input asks for, after a check against the labels."""
        spec = parse_target(text)
        if not isinstance(spec, ClassSpec):
            raise TargetError(
                f"the target of one picture must be a class, got {text!r}; give it for all "
                "pictures, with `target` (--target)"
            )
        class_index(spec.name, self.model.info.labels)
        return spec.name

    def rows(self, some: Sequence[Decoded]) -> list[Row]:
        """Return the rows of some pictures, in their order."""
        failed = [failed_row(one.number, one.item, one.error) for one in some if one.error]
        good = [one for one in some if not one.error]
        own = [one for one in good if one.target is not None]
        rest = [one for one in good if one.target is None]
        rows = [*failed, *self._explained(own), *self._explained(rest)]
        return sorted(rows, key=lambda row: row["number"])

    def _explained(self, some: Sequence[Decoded]) -> Iterator[Row]:
        """Yield the rows of pictures which all have a target of their own, or all have none."""
        rest = some
        while rest:
            batch = rest[: self.size]
            try:
                found = self._results(batch)
            except MemoryError as error:
                self._halve(error)
                continue
            except TargetError as error:
                if batch[0].target is None and not isinstance(error, ImageTargetError):
                    raise  # it suits no picture
                yield from self._apart(batch, error)
            else:
                for index, one in enumerate(batch):
                    yield from self._rows_of(one, [each[index] for each in found])
            rest = rest[len(batch) :]

    def _apart(self, batch: Sequence[Decoded], error: TargetError) -> Iterator[Row]:
        """Explain pictures one by one, as some of them do not have what is asked for."""
        if len(batch) == 1:
            yield failed_row(batch[0].number, batch[0].item, str(error))
            return
        for one in batch:
            yield from self._explained([one])

    def _results(self, some: Sequence[Decoded]) -> list[Attribution]:
        batch = joined([one.batch for one in some if one.batch is not None])
        own = [one.target for one in some if one.target is not None]
        target: Any = own or self.target
        found = dict(each_of_size(self.model, self.jobs, batch, target, self.size))
        return [found[i] for i in range(len(self.jobs))]

    def _halve(self, error: MemoryError) -> None:
        if self.size == 1:
            raise OutOfMemoryError(
                "the memory must suffice for one picture at a time, got too little "
                f"({first_line(error)}); give a smaller input size"
            ) from error
        before, self.size = self.size, self.size // 2
        self.notes.append(
            f"the memory did not suffice for {before} pictures at a time; the later ones ran "
            f"{self.size} at a time"
        )

    def _rows_of(self, one: Decoded, found: Sequence[Attribution]) -> Iterator[Row]:
        if self.overlays is not None:
            write_overlays(self.overlays, one.item, found)
        return rows_of(one.number, one.item, found)
