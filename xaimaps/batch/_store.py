"""The store: a folder with one Parquet file for each chunk, each there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaimaps._results.atomic import output_errors, prepare_folder, write_atomic
from xaimaps.batch._chunks import Chunk, Shard
from xaimaps.batch._extra import extra_module
from xaimaps.errors import ManifestError, OutputError

Row = dict[str, Any]

DIGEST, FAILED = b"xaimaps.pictures", b"xaimaps.failed"
"""The keys, in the metadata of a file, of its chunk's digest and its number of failed pictures."""

NUMBER = "[0-9]" * 8
"""The pattern of the number of a chunk in the name of its file."""


def schema() -> Any:
    """Return the columns: one row for each map, or for a picture without any."""
    arrow = extra_module("pyarrow")
    text, texts, whole = arrow.string(), arrow.list_(arrow.string()), arrow.int32()
    floats = arrow.list_(arrow.float32())
    return arrow.schema(
        {
            "number": arrow.int64(),
            "picture": text,
            "sha256": text,
            "label": text,
            "method": text,
            "layer": text,
            "target": text,
            "explained": text,
            "class": whole,
            "score": arrow.float32(),
            "top_classes": arrow.list_(whole),
            "top_labels": texts,
            "top_scores": floats,
            "shape": arrow.list_(whole),
            "map": floats,
            "notes": texts,
            "error": text,
        }
    )


@dataclass(frozen=True)
class Store:
    """The maps of a run, in a folder that is locked for one shard of it.

    Attributes:
        folder: the folder of the run.
    """

    folder: Path

    @property
    def maps(self) -> Path:
        """The folder of the Parquet files."""
        return self.folder / "maps"

    def files(self) -> list[Path]:
        """Return the Parquet files in the order of the chunks."""
        return sorted(self.maps.glob(f"{NUMBER}.parquet"))

    def file(self, index: int) -> Path:
        """Return the file of a chunk."""
        return self.maps / f"{index:08}.parquet"

    def failed_in(self, chunk: Chunk) -> int | None:
        """Return how many pictures of a stored chunk have failed; None if it is not stored.

        Raises:
            OutputError: its file is damaged, or holds other pictures.
        """
        file = self.file(chunk.index)
        if not file.exists():
            return None
        about = _metadata(file)
        if about.get(DIGEST) != chunk.digest.encode():
            raise OutputError(
                f"{str(file)!r} holds other pictures than are now at its place; give the same "
                "pictures in the same order, or another folder"
            )
        return int(about[FAILED])

    def require_no_more(self, count: int) -> None:
        """Refuse files of chunks from `count` on, which the pictures no longer fill."""
        if more := [file for file in self.files() if int(file.stem) >= count]:
            raise OutputError(
                f"{str(more[0])!r} holds pictures that are no longer given; give the same "
                "pictures in the same order, or another folder"
            )

    def write(self, chunk: Chunk, rows: Sequence[Row]) -> int:
        """Store a chunk, and return how many of its pictures have failed.

        Its file gets its name when all of it is on the disk.
        """
        arrow, parquet = extra_module("pyarrow"), extra_module("pyarrow.parquet")
        failed = sum("error" in row for row in rows)
        about = {DIGEST: chunk.digest, FAILED: str(failed)}
        table = arrow.Table.from_pylist(rows, schema=schema().with_metadata(about))
        write_atomic(
            self.file(chunk.index),
            lambda file: parquet.write_table(table, file, compression="zstd"),
        )
        return failed

    def log(self, record: Row) -> None:
        """Append what differs from run to run, such as times, to a file of its own."""
        file = self.folder / "log.jsonl"
        with output_errors(file), file.open("a") as lines:
            lines.write(json.dumps(record) + "\n")


@contextmanager
def opened(folder: Path, run: Row, shard: Shard) -> Iterator[Store]:
    """Open a folder for one shard of a run.

    Args:
        folder: created if it does not exist.
        run: what all maps of the folder have in common, as JSON values.
        shard: the part of the pictures that this process computes.

    Raises:
        OutputError: another process computes the same pictures, or the folder is not writable.
        ManifestError: the folder holds another run.
    """
    store = Store(folder)
    prepare_folder(store.maps)
    with ExitStack() as stack:
        with _lock(folder / ".run.lock", wait=60):
            stack.enter_context(_shard_lock(folder, shard))
            _settle(store, run, shard)
        _remove_parts(store, shard)
        yield store


def _lock(file: Path, wait: float = 0) -> Any:
    """Lock a file; the system ends the lock with the process, even a killed one."""
    locks = extra_module("filelock")
    try:
        return locks.FileLock(file).acquire(timeout=wait)
    except locks.Timeout:
        raise OutputError(
            f"the folder {str(file.parent)!r} is in use by another process, which holds "
            f"{file.name}; wait for its end, or give another folder"
        ) from None


def _shard_lock(folder: Path, shard: Shard) -> Any:
    """Lock a shard, after a check that no process runs with another number of shards."""
    end = f"-of-{shard.count}.lock"
    for other in folder.glob(".shard-*-of-*.lock"):
        if not other.name.endswith(end):
            _lock(other).lock.release()
    return _lock(folder / f".shard-{shard.index}{end}")


def _settle(store: Store, run: Row, shard: Shard) -> None:
    """Write the manifest of a run, or refuse a folder that has another.

    Another run without maps, such as one that found no pictures, is forgotten; but not if one of
    several processes may still compute its first maps.
    """
    file, text = store.folder / "run.json", json.dumps(run, indent=1) + "\n"
    if not file.exists() or (shard.count == 1 and not store.files()):
        write_atomic(file, lambda out: out.write(text.encode("utf-8", "backslashreplace")))
        return
    try:
        known = dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ManifestError(f"cannot read {str(file)!r} ({error}); give another folder") from error
    now = json.loads(text)
    if others := [name for name in now | known if now.get(name) != known.get(name)]:
        raise ManifestError(
            f"the folder {str(file.parent)!r} holds a run with other values of "
            f"{', '.join(others)}; give the same options as in its run.json, or another folder"
        )


def _remove_parts(store: Store, shard: Shard) -> None:
    """Remove what a killed process has left of the shard's chunks."""
    for part in store.maps.glob(f".{NUMBER}.parquet.*.part"):
        if shard.has(int(part.name.split(".")[1])):
            part.unlink(missing_ok=True)


def _metadata(file: Path) -> dict[bytes, bytes]:
    arrow, parquet = extra_module("pyarrow"), extra_module("pyarrow.parquet")
    try:
        return parquet.read_schema(file).metadata or {}
    except (arrow.ArrowException, OSError) as error:
        raise OutputError(
            f"cannot read {str(file)!r} ({error}); delete it and run again"
        ) from error


def read(folder: str | os.PathLike[str]) -> Any:
    """Return the rows of a run as a data set of Arrow, without loading them.

    Args:
        folder: the folder of the run.

    Returns:
        A `pyarrow.dataset.Dataset`; `to_table(columns=[...])` loads some columns, and
        `to_batches()` one part after the other.

    Raises:
        ManifestError: the folder holds no run.
        BackendError: pyarrow is not installed.
    """
    dataset = extra_module("pyarrow.dataset")
    place = Path(folder)
    if not (place / "run.json").is_file():
        raise ManifestError(f"{os.fspath(folder)!r} must be the folder of a run, got no run.json")
    files = Store(place).files()
    return dataset.dataset([str(file) for file in files], schema=schema(), format="parquet")
