"""Run a batch: from the pictures to the store, chunk by chunk."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xaimaps._attribute import Layers
from xaimaps._load import load
from xaimaps.backend import Backend
from xaimaps.batch._chunks import Chunk, chunks
from xaimaps.batch._settings import Settings
from xaimaps.batch._sources import Source
from xaimaps.batch._store import Row, Store, opened
from xaimaps.batch._work import Done, Order, explained
from xaimaps.errors import InputImageError


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
        source: the pictures.
        store: where the maps go.
        settings: how.
        work: explains and stores chunks, and yields what it has done.
        notes: what happened on the way, for the user.
    """

    source: Source
    store: Store
    settings: Settings
    work: Callable[[Iterable[Chunk]], Iterable[Done]]
    notes: list[str]

    def __post_init__(self) -> None:
        self.summary = Summary(workers=self.settings.workers, notes=self.notes)

    def total(self) -> int | None:
        """Return the number of pictures of the shard; None if it is not known before the end."""
        count = self.source.count()
        return None if count is None else self.settings.shard.share(count, self.settings.chunk_size)

    def __iter__(self) -> Generator[Summary]:
        """Yield the same summary after each chunk that is stored."""
        begin = time.perf_counter()
        for done in self.work(self._missing()):
            self.summary.decode_seconds += done.decode_seconds
            self.summary.compute_seconds += done.compute_seconds
            self.summary.seconds = time.perf_counter() - begin
            self._count(done.pictures, done.failed)
            yield self.summary

    def _missing(self) -> Iterator[Chunk]:
        """Yield the chunks that are not stored."""
        count = 0
        for chunk in chunks(self.source, self.settings.chunk_size):
            count = chunk.index + 1
            if not self.settings.shard.has(chunk.index):
                continue
            failed = self.store.failed_in(chunk)
            if failed is None:
                yield chunk
            else:
                self.summary.there += len(chunk.items)
                self._count(len(chunk.items), failed)
        self.store.require_no_more(count)

    def _count(self, pictures: int, failed: int) -> None:
        """Add a stored chunk to the summary, and end the run if too many pictures have failed."""
        self.summary.pictures += pictures
        self.summary.failed += failed
        most = self.settings.max_errors
        if most is not None and self.summary.failed > most:
            raise InputImageError(
                f"at most {most} pictures may fail, got {self.summary.failed}; the column `error` "
                "in the store says why"
            )


@contextmanager
def started(
    model: Any, pictures: Sequence[str], folder: Path, order: Order, ray: str | None = None
) -> Iterator[Run]:
    """Check all arguments, lock the folder, and yield the run; see `run`."""
    settings = order.settings
    if ray is not None:
        from xaimaps.batch._ray import connected

        with connected(ray, model, order, folder) as cluster:
            record, notes = cluster.described()
            source = _source(pictures, folder, settings, record)
            with opened(folder, record, settings.shard) as store:
                yield Run(
                    source, store, settings, functools.partial(cluster.explained, notes), notes
                )
        return
    task = order.task(model if isinstance(model, Backend) else load(model), folder)
    record = order.record(task)
    source = _source(pictures, folder, settings, record)
    with opened(folder, record, settings.shard) as store:
        work = functools.partial(explained, task, store, settings)
        yield Run(source, store, settings, work, task.notes)


def _source(pictures: Sequence[str], folder: Path, settings: Settings, record: Row) -> Source:
    rank: int = record["spatial_axes"]
    return Source(tuple(pictures), settings.column, settings.follow_symlinks, folder, rank)


def run(
    model: Any,
    pictures: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    method: str | Sequence[str] = "grad_cam",
    *,
    target: Any = None,
    layer: Layers = None,
    settings: Settings | None = None,
    ray: str | None = None,
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
        ray: the address of a Ray cluster, or "local" for one on this machine, whose processes load
            the model each: `model` is then a path or a name, or a function without arguments that
            returns the model. The pictures and the folder must be on a file system of all machines.
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
    given = [pictures] if isinstance(pictures, str | os.PathLike) else pictures
    methods = [method] if isinstance(method, str) else method
    order = Order(methods, target, layer, options, settings or Settings())
    names = [os.fspath(one) for one in given]
    with started(model, names, Path(folder), order, ray) as found:
        for _ in found:
            pass
        return found.summary
