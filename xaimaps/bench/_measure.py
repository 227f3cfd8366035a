"""Measure programs of one backend in this process."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xaimaps._attribute import plan
from xaimaps._load import load
from xaimaps._run import run_all
from xaimaps.backend import Backend
from xaimaps.bench._memory import peak_bytes, reset_peak
from xaimaps.bench._report import Case
from xaimaps.errors import XaimapsError
from xaimaps.targets import Scene, as_spec

Fields = dict[str, Any]

SIDE = 224
"""The size of images for a model that takes any."""


def measured(order: Fields) -> Iterator[Fields]:
    """Yield what each case of an order has measured, or the reason why it could not be."""
    loaded = functools.cache(
        lambda precision: load(
            order["model"], backend=order["backend"], precision=precision, **order["loading"]
        )
    )
    for case in (Case(*values) for values in order["cases"]):
        try:
            yield _measured(loaded(case.precision), case, order["rounds"])
        except XaimapsError as error:
            yield {"reason": str(error)}
        except Exception as error:  # of a framework; the other cases are measured all the same
            yield {"reason": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"}


def _measured(backend: Backend, case: Case, rounds: int) -> Fields:
    reset_peak()
    run = _program(backend, case)
    first, *times = [_seconds(run) for _ in range(rounds + 1)]
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
    device = backend.device
    return {
        "compile_seconds": max(first - median, 0.0),
        "seconds": median,
        "quartiles": (low, high),
        "host_bytes": peak_bytes(),
        "device_bytes": device.peak_bytes,
        "about": {"device": device.kind, "versions": backend.versions()},
    }


def _program(backend: Backend, case: Case) -> Callable[[], Any]:
    """Return a function that explains a batch, from numpy to numpy, so that the device is done."""
    job = plan(backend, case.method, None, {})
    shape = [SIDE if size is None else size for size in backend.input_shape]
    random = np.random.default_rng(0)
    images = random.random((case.batch_size, *shape), dtype=np.float32)
    spec = as_spec(None, len(images)).settled(Scene(backend, images, ()))
    goal = spec.resolve(len(images), backend.info.labels)
    return lambda: list(run_all(backend, [job], images, goal, len(images)))


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
