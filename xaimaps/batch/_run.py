"""Run a batch: from the pictures to the store, chunk by chunk."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xaimaps._load import load
from xaimaps._plan import plan_all
from xaimaps.backend import Backend
from xaimaps.batch._ahead import ahead
from xaimaps.batch._chunks import Chunk, chunks
from xaimaps.batch._settings import Settings
from xaimaps.batch._sources import Source
from xaimaps.batch._store import Row, Store, opened
from xaimaps.batch._task import Decoded, Task
from xaimaps.errors import InputImageError, TargetError
from xaimaps.targets import PerImageSpec, TargetSpec, as_spec


@dataclass
class Summary:
    """What a run has done.

    Attributes:
        pictures: how many pictures are in the store, of the shard.
        failed: how many of them could not be explained.
        there: how many of them were in the store before.
        seconds: the time since the first picture.
        decode_seconds: the time of decoding, of all threads together.
        compute_seconds: the time of computing.
        workers: the number of threads that decode.
        notes: what happened on the way.
    """

    pictures: int = 0
    failed: int = 0
    there: int = 0
    seconds: float = 0.0
    decode_seconds: float = 0.0
    compute_seconds: float = 0.0
    workers: int = 1
    notes: list[str] = field(default_factory=list)

    def rates(self) -> dict[str, float]:
        """Return the pictures per second: of decoding alone, of computing alone, and of all."""
        count = self.pictures - self.there
        seconds = {
            "decoding": self.decode_seconds / self.workers,
            "computing": self.compute_seconds,
            "all": self.seconds,
        }
        return {name: count / value if value else 0.0 for name, value in seconds.items()}


@dataclass
class Run:
    """A run over a source into a store.

    Attributes:
        task: what is done with each picture.
        source: the pictures.
        store: where the maps go.
        settings: how.
    """

    task: Task
    source: Source
    store: Store
    settings: Settings

    def __post_init__(self) -> None:
        self.summary = Summary(workers=self.settings.workers, notes=self.task.notes)

    def total(self) -> int | None:
        """Return the number of pictures of the shard; None if it is not known before the end."""
        count = self.source.count()
        return None if count is None else self.settings.shard.share(count, self.settings.chunk_size)

    def __iter__(self) -> Generator[Summary]:
        """Yield the same summary after each chunk that is stored."""
        begin = time.perf_counter()
        work = functools.partial(_decode, self.task)
        stream = ahead(work, self._missing(), self.settings.workers)
        for chunk, decoded in itertools.groupby(stream, key=lambda pair: pair[0]):
            self._complete(chunk, (one for _, one in decoded))
            self.summary.seconds = time.perf_counter() - begin
            yield self.summary

    def _missing(self) -> Iterator[tuple[Chunk, int]]:
        """Yield the pictures that are not stored, each as its chunk and its place in it."""
        count = 0
        for chunk in chunks(self.source, self.settings.chunk_size):
            count = chunk.index + 1
            if not self.settings.shard.has(chunk.index):
                continue
            failed = self.store.failed_in(chunk)
            if failed is None:
                yield from ((chunk, place) for place in range(len(chunk.items)))
            else:
                self.summary.there += len(chunk.items)
                self._count(chunk, failed)
        self.store.require_no_more(count)

    def _complete(self, chunk: Chunk, decoded: Iterator[Decoded]) -> None:
        """Explain the pictures of a chunk and store it."""
        rows, decoding, computing = list[Row](), 0.0, 0.0
        while some := list(itertools.islice(decoded, self.task.size)):
            decoding += sum(one.seconds for one in some)
            begin = time.perf_counter()
            rows += self.task.rows(some)
            computing += time.perf_counter() - begin
        self.summary.decode_seconds += decoding
        self.summary.compute_seconds += computing
        failed = self.store.write(chunk, rows)
        self.store.log(
            {
                "chunk": chunk.index,
                "pictures": len(chunk.items),
                "failed": failed,
                "decode_seconds": decoding,
                "compute_seconds": computing,
            }
        )
        self._count(chunk, failed)

    def _count(self, chunk: Chunk, failed: int) -> None:
        """Add a stored chunk to the summary, and end the run if too many pictures have failed."""
        self.summary.pictures += len(chunk.items)
        self.summary.failed += failed
        most = self.settings.max_errors
        if most is not None and self.summary.failed > most:
            raise InputImageError(
                f"at most {most} pictures may fail, got {self.summary.failed}; the column `error` "
                "in the store says why"
            )


def _decode(task: Task, at: tuple[Chunk, int]) -> tuple[Chunk, Decoded]:
    chunk, place = at
    return chunk, task.decode(chunk.first + place, chunk.items[place])


def _one_target(target: Any) -> TargetSpec:
    """Return the target of all pictures, whose number a list of targets would have to match."""
    spec = as_spec(target)
    if isinstance(spec, PerImageSpec) or spec.for_image(0) != spec:
        raise TargetError(
            f"`target` must be one for all pictures, got {str(spec)!r}; give each its class in the "
            "column `target` of a table"
        )
    return spec


@contextmanager
def started(
    model: Backend,
    pictures: Sequence[str],
    folder: Path,
    methods: Sequence[str],
    target: Any,
    layer: str | tuple[str, ...] | None,
    options: dict[str, Any],
    settings: Settings,
) -> Iterator[Run]:
    """Check all arguments, lock the folder, and yield the run; see `run`."""
    jobs = plan_all(model, methods, layer, options)
    overlays = folder / "overlays" if settings.overlays else None
    task = Task(
        model, jobs, _one_target(target), settings.batch_size, settings.max_pixels, overlays
    )
    source = Source(tuple(pictures), settings.column, settings.follow_symlinks)
    record = {**task.record(), "chunk_size": settings.chunk_size}
    with opened(folder, record, settings.shard) as store:
        yield Run(task, source, store, settings)


def run(
    model: Any,
    pictures: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    method: str | Sequence[str] = "grad_cam",
    *,
    target: Any = None,
    layer: str | tuple[str, ...] | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> Summary:
    """Explain any number of pictures, and store the maps in a folder.

    A run that has ended early, in whatever way, is completed by the same call: what is stored is
    not computed again.

    Args:
        model: a backend from `load`, or an argument of `load`.
        pictures: a picture; a folder, with all its subfolders; a pattern such as "scans/*.png"; a
            list of paths (`.txt`, one per line); a table with a column of paths, and perhaps the
            columns `label` and `target` (`.csv`, `.parquet`); a tar file of pictures (`.tar`); "-"
            for a list of paths on stdin; or a list of these.
        folder: created if it does not exist.
        method: the name of a method, or a list of names, which share the forward pass.
        target: see `attribute`; the column `target` of a table has a class for each picture.
        layer: see `attribute`.
        settings: how the run goes through its pictures.
        options: `augment`, `low_pass`, and the methods' own options.

    Returns:
        How many pictures are explained, and how fast.

    Raises:
        ManifestError: the folder has maps of another model or other options.
        OutputError: the folder cannot be written, or another process writes to it.
        InputImageError: there is no picture, or more have failed than the settings allow.
        XaimapsError: another argument is invalid.

    Example:
        >>> import tempfile, xaimaps
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     xaimaps.batch.run("default", xaimaps.zoo.PICTURES["chelsea"], folder).pictures
        1
    """
    loaded = model if isinstance(model, Backend) else load(model)
    given = [pictures] if isinstance(pictures, str | os.PathLike) else pictures
    methods = [method] if isinstance(method, str) else method
    names, place = [os.fspath(one) for one in given], Path(folder)
    chosen = settings or Settings()
    with started(loaded, names, place, methods, target, layer, options, chosen) as found:
        for _ in found:
            pass
        return found.summary
