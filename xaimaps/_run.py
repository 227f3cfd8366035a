"""Run methods on a batch, in compiled programs of a fixed batch size."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xaimaps._ahead import late
from xaimaps._arrays import Floats
from xaimaps._levels import Levels, looked_up
from xaimaps._results.attribution import Seconds
from xaimaps.backend import Backend
from xaimaps.errors import OutOfMemoryError
from xaimaps.graph import require_rows
from xaimaps.methods import Maps, Method
from xaimaps.methods._augment import augmented
from xaimaps.methods._batching import chunk_size, images_in_place, images_within, memory_of
from xaimaps.targets import EveryTarget, Target

Array = np.ndarray[Any, Any]

AHEAD = 2
"""How many chunks an accelerator has before the first is fetched, so that it never waits for one.

A device that shares the host's memory has none: its programs need the same processors and memory.
"""


@dataclass(frozen=True)
class Job:
    """One method with checked settings.

    Attributes:
        row: the method.
        layers: the layer's name, or several; empty for a method that explains the input.
        options: the method's own options, without its defaults.
        around: the options of wrappers of the method, such as `augment`.
    """

    row: Method
    layers: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    around: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The keywords of the method's function."""
        if not self.layers:
            return self.options
        layer = self.layers if len(self.layers) > 1 else self.layers[0]
        return {**self.options, "layer": layer}

    @property
    def all_options(self) -> dict[str, Any]:
        """The method's own options, with its defaults, and those of the wrappers."""
        return {**self.row.options, **self.options, **self.around}

    @property
    def is_light(self) -> bool:
        """Whether the method needs few passes, so that sharing the forward pass pays off."""
        return re.fullmatch(r"\d F( \+ \d [Bb])*", self.row.cost) is not None

    @property
    def reads_each_image(self) -> bool:
        """Whether the arrays depend on the image: those of superpixels, whose number differs."""
        return isinstance(self.all_options.get("segments"), str)

    def explains(self, goal: Target) -> Target:
        """Return the target of the method: `goal`, if the method uses one."""
        return goal if self.row.uses_target else EveryTarget()

    def arrays(self, batch: Any) -> dict[str, Array]:
        """Return the arrays that are arguments of the program: random arrays and the user's."""
        draws = self.row.draws
        drawn = draws(batch.shape[1:], images=batch, **self.settings) if draws else {}
        given = {**drawn, **self.settings}
        return {name: value for name, value in given.items() if isinstance(value, np.ndarray)}

    def run(self, backend: Backend, images: Any, goal: Target, arrays: Mapping[str, Any]) -> Maps:
        """Run the method on native arrays, inside of a compiled program.

        Args:
            backend: the model.
            images: `(N, H, W, C)`.
            goal: the target.
            arrays: those of `arrays`, as native arrays or in numpy.
        """
        explain = augmented(self.row.fn, **self.around)
        return explain(backend, images, self.explains(goal), **{**self.settings, **arrays})

    def most_images(self, backend: Backend, batch: Floats, wanted: int) -> int:
        """Return how many images to run at a time, at most `wanted`, as the memory allows."""
        if self.reads_each_image:
            return 1
        if "memory" not in self.row.options:
            return images_in_place(backend, batch.shape[1:], wanted)
        return chunk_size(wanted, self._images_within(backend, batch))

    def _images_within(self, backend: Backend, batch: Floats) -> int:
        """Return how many images the method passes at a time, as its option `memory` allows."""
        memory, needs_gradient = self.all_options["memory"], "grad" in self.row.needs
        return images_within(backend, batch.shape[1:], memory, gradient=needs_gradient)

    def with_less_memory(self, backend: Backend, batch: Floats) -> Job | None:
        """Return this job with half of its memory; None if it passes one image at a time already.

        A method with this option passes as many images as it allows, whatever the batch's size.
        """
        if "memory" not in self.row.options or self._images_within(backend, batch) == 1:
            return None
        memory = memory_of(backend, self.all_options["memory"]) / 2
        return replace(self, options={**self.options, "memory": memory})

    @property
    def less_memory_note(self) -> str:
        """What a result says if its job had to run with less memory."""
        return (
            "the memory did not suffice for as many images at a time as the method runs; "
            f"`memory` was {self.options['memory']:g} MB"
        )


def run_all(
    backend: Backend,
    jobs: Sequence[Job],
    batch: Floats,
    goal: Target,
    batch_size: int,
    levels: Levels | None = None,
) -> Iterator[tuple[int, Job, Maps, Seconds]]:
    """Run every job; those of a few passes share one program and its forward pass.

    An accelerator gets the images as levels, where they are known.

    Yields:
        A job's index, the job as it ran, its maps, and the time of its program.
    """
    is_apart = backend.device.memory is not None
    light = [i for i, job in enumerate(jobs) if job.is_light]
    groups = [light] if light else []
    groups += [[i] for i in range(len(jobs)) if i not in light]
    for group in groups:
        chosen, found, seconds = _run_within_memory(
            backend,
            [jobs[i] for i in group],
            batch,
            goal,
            batch_size,
            levels if is_apart else None,
        )
        for i, job, maps in zip(group, chosen, found, strict=True):
            yield i, job, maps, seconds


def _run_within_memory(
    backend: Backend,
    jobs: Sequence[Job],
    batch: Floats,
    goal: Target,
    batch_size: int,
    levels: Levels | None,
) -> tuple[Sequence[Job], list[Maps], Seconds]:
    """Run jobs in one program; a single one of many passes with half of its memory if needed."""
    size = min(job.most_images(backend, batch, batch_size) for job in jobs)
    try:
        return (jobs, *_run(backend, jobs, batch, goal, size, levels))
    except OutOfMemoryError:
        less = jobs[0].with_less_memory(backend, batch)
        if less is None:
            raise
    return _run_within_memory(backend, [less], batch, goal, batch_size, levels)


@dataclass(frozen=True)
class _Call:
    """A job inside a program: its fixed settings, and the names of its arrays."""

    job: Job
    names: tuple[str, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        around = tuple(sorted(self.job.around.items()))
        fixed = {n: v for n, v in self.job.settings.items() if n not in self.names}
        return (self.job.row.fn, tuple(sorted(fixed.items())), around, self.names)

    def __call__(self, backend: Backend, images: Any, target: Target, arrays: Any) -> Maps:
        given = {name: next(arrays) for name in self.names}
        return self.job.run(backend, images, target, given)


def _run(
    backend: Backend,
    jobs: Sequence[Job],
    batch: Floats,
    goal: Target,
    size: int,
    levels: Levels | None,
) -> tuple[list[Maps], Seconds]:
    """Run a batch in chunks of one size through one compiled program."""
    extra = [job.arrays(batch[:size]) for job in jobs]
    calls = [_Call(job, tuple(arrays)) for job, arrays in zip(jobs, extra, strict=True)]
    copied, tables = (batch, []) if levels is None else (levels.values, [levels.table])
    count = len(goal.arrays)

    def program(backend: Backend, images: Any, *arrays: Any) -> list[Maps]:
        if tables:
            images, arrays = looked_up(backend.xp, images, arrays[0]), arrays[1:]
        target, rest = goal.with_arrays(arrays[:count]), iter(arrays[count:])
        found = [call(backend, images, target, rest) for call in calls]
        require_rows(found[0].outputs, images.shape[0])
        return found

    key = (goal.key, tuple(call.key for call in calls), bool(tables))
    first, shared = [*map(backend.asarray, tables)], _native(backend, extra)
    compiling, begin = 0.0, time.perf_counter()

    def dispatched() -> Iterator[list[Maps]]:
        """Yield the results of each chunk, which an accelerator may still compute."""
        nonlocal shared, compiling
        for start in range(0, max(len(batch), 1), size):
            chunk = _chunk(copied, goal.arrays, start, size)
            if start and any(job.reads_each_image for job in jobs):
                shared = _native(backend, [job.arrays(batch[start : start + 1]) for job in jobs])
            images, *targets = backend.arguments(*chunk)
            own = [images, *first, *targets]
            before = time.perf_counter()
            compiled = backend.compiled(key, program, *own, *shared)
            compiling += time.perf_counter() - before
            yield compiled(*own, *shared)

    chunks = []
    for found in late(dispatched(), 0 if backend.device.memory is None else AHEAD):
        chunks.append([_to_numpy(backend, maps) for maps in found])
        backend.watch.tell_images(min(len(chunks) * size, len(batch)), len(batch))
    running = time.perf_counter() - begin - compiling
    joined = [
        _joined(list(each), len(batch), job.explains(goal))
        for job, each in zip(jobs, zip(*chunks, strict=True), strict=True)
    ]
    return joined, Seconds(compiling, running)


def _native(backend: Backend, arrays: Sequence[Mapping[str, Array]]) -> list[Any]:
    return [backend.asarray(value) for each in arrays for value in each.values()]


def _to_numpy(backend: Backend, found: Maps) -> Maps:
    details = {name: backend.to_numpy(value) for name, value in found.details.items()}
    return Maps(backend.to_numpy(found.maps), backend.to_numpy(found.outputs), details)


def _chunk(batch: Array, arrays: Sequence[Array], start: int, size: int) -> list[Array]:
    """Return one chunk of the images and the target's arrays, padded to `size` with zeros."""
    parts = [batch[start : start + size], *(a[..., start : start + size] for a in arrays)]
    short = size - len(parts[0])
    if not short:
        return parts
    images = np.pad(parts[0], [(0, short)] + [(0, 0)] * (batch.ndim - 1))
    return [images, *(np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, short)]) for a in parts[1:])]


def _joined(parts: Sequence[Maps], count: int, goal: Target) -> Maps:
    """Join the chunks without the padding; the axis of K targets moves after the batch axis."""

    def join(arrays: list[Array]) -> Array:
        whole = np.concatenate(_padded(arrays), axis=int(goal.is_several))
        return np.moveaxis(whole, 1, 0)[:count] if goal.is_several else whole[:count]

    outputs = np.concatenate([part.outputs for part in parts])[:count]
    details = {name: join([p.details[name] for p in parts]) for name in parts[0].details}
    return Maps(join([part.maps for part in parts]), outputs, details)


def _padded(arrays: list[Array]) -> list[Array]:
    """Give all chunks the longest last axis, with zeros: that of segments, where it differs."""
    missing = [max(a.shape[-1] for a in arrays) - a.shape[-1] for a in arrays]
    pads = ([(0, 0)] * (a.ndim - 1) + [(0, n)] for a, n in zip(arrays, missing, strict=True))
    return list(map(np.pad, arrays, pads)) if any(missing) else arrays
