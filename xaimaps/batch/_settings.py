"""How a run goes through its pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from xaimaps._images.open import MAX_PIXELS
from xaimaps.batch._chunks import Shard
from xaimaps.errors import ArrayInputError


@dataclass(frozen=True)
class Settings:
    """How a run goes through its pictures.

    Attributes:
        batch_size: the number of pictures to run at a time on each device.
        devices: the number of devices of this machine to use; None for all of them.
        chunk_size: the number of pictures to store at a time.
        workers: the number of threads that read pictures.
        shard: which of several processes this is.
        column: the column of the paths in a table.
        follow_symlinks: accept links to files outside of their folder.
        max_pixels: the largest number of pixels of a picture.
        max_errors: how many pictures may fail before the run ends; None for any number.
        overlays: write overlays, too.
    """

    batch_size: int = 8
    devices: int | None = None
    chunk_size: int = 128
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    shard: Shard = field(default_factory=Shard)
    column: str = "path"
    follow_symlinks: bool = False
    max_pixels: int = MAX_PIXELS
    max_errors: int | None = None
    overlays: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk_size", "workers", "max_pixels"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ArrayInputError(f"`{name}` must be an integer of at least 1, got {value!r}")
        if self.devices is not None and (not isinstance(self.devices, int) or self.devices < 1):
            raise ArrayInputError(
                f"`devices` must be an integer of at least 1, or None for all, got {self.devices!r}"
            )
