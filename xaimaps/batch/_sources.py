"""The pictures of a batch run, one after the other, in an order that is the same each time."""

from __future__ import annotations

import csv
import functools
import glob
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from xaimaps._images.find import has_picture_name, refuse_leaving, walk
from xaimaps._images.open import MAX_BYTES, open_picture
from xaimaps._images.picture import Picture
from xaimaps.batch._extra import extra_module
from xaimaps.errors import InputImageError

STDIN = "-"
"""The input that stands for a list of paths on the standard input."""


@dataclass(frozen=True)
class Item:
    """One picture to explain.

    Attributes:
        name: its path as given; for a member of a tar file, the path of that file and its own.
        file: the file to read.
        part: the first byte and the number of bytes in a tar file; None for the whole file.
        folder: the folder that a link must not leave, if there is one.
        label: what a list says about the picture, such as its true class.
        target: the class to explain, if a list says it.
    """

    name: str
    file: Path
    part: tuple[int, int] | None = None
    folder: Path | None = None
    label: str | None = None
    target: str | None = None

    def open(self, max_pixels: int, rank: int = 2) -> Picture:
        """Read the picture, or a volume for three spatial axes.

        Raises:
            InputImageError: it cannot be read, or is a link out of its folder.
        """
        if self.folder is not None:
            refuse_leaving(self.file, self.folder)
        if self.part is None:
            return open_picture(self.file, max_pixels=max_pixels, rank=rank)
        file = io.BytesIO(_member(self.name, self.file, *self.part))
        file.name = self.name
        picture = open_picture(file, max_pixels=max_pixels, rank=rank)
        return replace(picture, sha256=hashlib.sha256(file.getvalue()).hexdigest())


@dataclass(frozen=True)
class Source:
    """The pictures of several inputs.

    Attributes:
        inputs: pictures, folders with all their subfolders, patterns, lists of paths (`.txt`),
            tables (`.csv`, `.parquet`), tar files (`.tar`), or "-" for a list of paths on stdin.
        column: the column of the paths in a table.
        follow_symlinks: accept links to files outside of their folder.
        output: a folder that is written to, and not read where it is a subfolder.
        rank: the number of spatial axes: 2 for pictures, 3 for volumes and clips.
    """

    inputs: tuple[str, ...]
    column: str = "path"
    follow_symlinks: bool = False
    output: Path | None = None
    rank: int = 2

    def __iter__(self) -> Iterator[Item]:
        return (item for one in self.inputs for item in self._not_empty(one))

    def count(self) -> int | None:
        """Return the number of pictures; None for stdin, which can be read only once."""
        return None if STDIN in self.inputs else sum(1 for _ in self)

    def _not_empty(self, name: str) -> Iterator[Item]:
        item = None
        for item in self._items(name):
            yield item
        if item is None:
            raise InputImageError(f"no pictures in {name!r}; check the path")

    def _items(self, name: str) -> Iterator[Item]:
        path = Path(name)
        if name == STDIN:
            return _of_lines(sys.stdin.buffer)
        if path.is_dir():
            return self._of_folder(path)
        if glob.has_magic(name) and not os.path.lexists(name):
            return _of_pattern(name)
        read = self._readers().get(path.suffix.lower())
        return iter([_item(name)]) if read is None else read(_regular(path))

    def _readers(self) -> Mapping[str, Callable[[Path], Iterator[Item]]]:
        return {
            ".txt": _of_list,
            ".csv": self._of_csv,
            ".parquet": self._of_parquet,
            ".tar": functools.partial(_of_tar, rank=self.rank),
        }

    def _of_folder(self, folder: Path) -> Iterator[Item]:
        bound = None if self.follow_symlinks else folder
        return (
            Item(str(file), file, folder=bound) for file in walk(folder, self.output, self.rank)
        )

    def _of_csv(self, path: Path) -> Iterator[Item]:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            self._require_column(path, reader.fieldnames or ())
            try:
                yield from map(self._of_row, reader)
            except csv.Error as error:
                raise InputImageError(
                    f"{str(path)!r} must be a CSV file, got one with a damaged line "
                    f"{reader.line_num} ({error}); save it again"
                ) from error

    def _of_parquet(self, path: Path) -> Iterator[Item]:
        parquet, arrow = extra_module("pyarrow.parquet"), extra_module("pyarrow")
        try:
            file = parquet.ParquetFile(path)
            names = file.schema_arrow.names
            self._require_column(path, names)
            wanted = [name for name in (self.column, "label", "target") if name in names]
            for batch in file.iter_batches(columns=wanted):
                yield from map(self._of_row, batch.to_pylist())
        except arrow.ArrowException as error:
            raise InputImageError(
                f"{str(path)!r} must be a Parquet file, got one that cannot be read ({error}); "
                "save it again"
            ) from error

    def _require_column(self, path: Path, names: Iterable[str]) -> None:
        if self.column not in names:
            raise InputImageError(
                f"{str(path)!r} must have the column {self.column!r} with paths, got "
                f"{', '.join(names) or 'none'}; give `column` (--column)"
            )

    def _of_row(self, row: Mapping[str, Any]) -> Item:
        label, target = (_text(row.get(name)) for name in ("label", "target"))
        return replace(_item(_text(row[self.column]) or ""), label=label, target=target)


def _text(value: object) -> str | None:
    """Return the text of a cell; None if it is empty."""
    return None if value is None or value == "" else str(value)


def _item(name: str) -> Item:
    return Item(name, Path(name))


def _regular(path: Path) -> Path:
    """Refuse a missing list and, without opening it, a pipe, which would block."""
    if not path.is_file():
        got = "something else" if path.exists() else "no such file"
        raise InputImageError(f"{str(path)!r} must be a file, got {got}; check the path")
    return path


def _of_pattern(pattern: str) -> Iterator[Item]:
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - of any folder
    return (_item(name) for name in found if not Path(name).is_dir())


def _of_list(path: Path) -> Iterator[Item]:
    with path.open("rb") as file:
        yield from _of_lines(file)


def _of_lines(file: BinaryIO) -> Iterator[Item]:
    names = (os.fsdecode(line.rstrip(b"\r\n")) for line in file)
    return (_item(name) for name in names if name.strip())


def _of_tar(path: Path, rank: int) -> Iterator[Item]:
    """Yield the pictures of a tar file; a file `KEY.cls` right after `KEY.jpg` is its label."""
    waiting: Item | None = None
    for name, part in _members(path):
        stem, _, suffix = name.rpartition(".")
        if waiting is not None and suffix == "cls" and waiting.name.startswith(f"{path}/{stem}."):
            label = _member(name, path, *part).decode(errors="replace").strip()
            waiting = replace(waiting, label=label)
        elif has_picture_name(name.rpartition("/")[2], rank):
            if waiting is not None:
                yield waiting
            waiting = Item(f"{path}/{name}", path, part)
    if waiting is not None:
        yield waiting


def _members(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the name, and the first byte and the number of bytes, of each file in a tar file."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined] # would grow with the file
                if member.isreg() and not member.issparse():
                    yield member.name, (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise InputImageError(
            f"{str(path)!r} must be a tar file without compression, got one that cannot be read "
            f"({error}); pack it again"
        ) from error


def _member(name: str, path: Path, start: int, size: int) -> bytes:
    """Read a member of a tar file."""
    if size > MAX_BYTES:
        raise InputImageError(
            f"{name!r} must have at most {MAX_BYTES} bytes, got {size}; leave it out"
        )
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise InputImageError(
            f"cannot read {name!r} in {str(path)!r} ({error.strerror}); check the file"
        ) from error
