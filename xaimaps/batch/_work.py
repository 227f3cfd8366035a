"""What is asked of a run, and how one process does it."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xaimaps._ahead import ahead
from xaimaps._attribute import Layers
from xaimaps._plan import plan_all
from xaimaps._prepare import require_files
from xaimaps.backend import Backend
from xaimaps.batch._chunks import Chunk
from xaimaps.batch._settings import Settings
from xaimaps.batch._store import Row, Store
from xaimaps.batch._task import Decoded, Task
from xaimaps.errors import TargetError
from xaimaps.targets import PerImageSpec, TargetSpec, as_spec


@dataclass(frozen=True)
class Order:
    """What is asked of each process of a run, whatever loads the model.

    Attributes:
        methods: the names of the methods.
        target: what is explained.
        layer: the layer, or several, whose maps are fused.
        options: the options of the methods.
        settings: how the run goes through its pictures.
    """

    methods: Sequence[str]
    target: Any
    layer: Layers
    options: dict[str, Any]
    settings: Settings

    def task(self, model: Backend, folder: Path) -> Task:
        """Check the order for a model, and return what is done with each picture."""
        require_files(model)
        model = model.on_devices(self.settings.devices)
        jobs = plan_all(model, self.methods, self.layer, self.options, self.target)
        target, given = _one_target(self.target), self.settings
        overlays = folder / "overlays" if given.overlays else None
        size = given.batch_size * model.devices
        return Task(model, jobs, target, size, given.max_pixels, overlays)

    def record(self, task: Task) -> Row:
        """Describe all that the store depends on besides the pictures, as JSON values."""
        given = self.settings
        sizes = {"batch_size": given.batch_size, "chunk_size": given.chunk_size}
        return {**task.record(), **sizes}


@dataclass(frozen=True)
class Done:
    """What was done for a chunk: a line of the log.

    Attributes:
        chunk: the index of the chunk.
        pictures: how many pictures it has.
        failed: how many of them could not be explained.
        decode_seconds: the time of decoding, of all threads together.
        compute_seconds: the time of computing.
    """

    chunk: int
    pictures: int
    failed: int
    decode_seconds: float
    compute_seconds: float


def explained(
    task: Task, store: Store, settings: Settings, some: Iterable[Chunk]
) -> Iterator[Done]:
    """Explain and store chunks, with the pictures of the next ones decoded ahead."""
    places = ((chunk, place) for chunk in some for place in range(len(chunk.items)))
    most = max(3 * settings.workers, 2 * task.size)  # a batch waits while another is computed
    stream = ahead(functools.partial(_decode, task), places, settings.workers, most)
    for chunk, decoded in itertools.groupby(stream, key=lambda pair: pair[0]):
        done = _complete(task, store, chunk, (one for _, one in decoded))
        store.log(asdict(done))
        yield done


def _complete(task: Task, store: Store, chunk: Chunk, decoded: Iterator[Decoded]) -> Done:
    """Explain the pictures of a chunk and store it."""
    rows, decoding, computing = list[Row](), 0.0, 0.0
    while some := list(itertools.islice(decoded, task.size)):
        decoding += sum(one.seconds for one in some)
        begin = time.perf_counter()
        rows += task.rows(some)
        computing += time.perf_counter() - begin
    failed = store.write(chunk, rows)
    return Done(chunk.index, len(chunk.items), failed, decoding, computing)


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
