"""Chunks: the parts of the input that are computed and stored as a whole."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from xaimaps.batch._sources import Item
from xaimaps.errors import ArrayInputError


@dataclass(frozen=True)
class Chunk:
    """Consecutive pictures; chunk i of size n has the pictures i * n to (i + 1) * n - 1.

    Attributes:
        index: its place among the chunks.
        first: the place of its first picture in the input.
        items: the pictures.
    """

    index: int
    first: int
    items: tuple[Item, ...]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of what was asked: names, labels and targets, not the files themselves."""
        text = "\n".join(f"{item.name}\t{item.label}\t{item.target}" for item in self.items)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Shard:
    """The chunks of one of several processes: every `count`-th, from `index` on."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ArrayInputError(
                f"`shard` must be I/N with I from 0 to N - 1, got {self.index}/{self.count}"
            )

    def has(self, index: int) -> bool:
        """Whether a chunk belongs to the shard."""
        return index % self.count == self.index

    def share(self, count: int, size: int) -> int:
        """Return how many of `count` pictures are in the chunks of the shard."""
        starts = range(self.index * size, count, self.count * size)
        return sum(min(size, count - start) for start in starts)


def chunks(items: Iterable[Item], size: int) -> Iterator[Chunk]:
    """Divide pictures into chunks of `size`."""
    rest = iter(items)
    for index in itertools.count():
        some = tuple(itertools.islice(rest, size))
        if not some:
            return
        yield Chunk(index, index * size, some)
