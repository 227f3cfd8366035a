"""`run`: every model, backend, precision, method and batch size, in processes of their own."""

from __future__ import annotations

import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from subprocess import PIPE
from typing import IO, Any, get_args

from xaimaps import _registry
from xaimaps._load import located
from xaimaps._progress import Teller
from xaimaps.backend import Precision
from xaimaps.bench._report import Case, Report, Row
from xaimaps.errors import ArrayInputError, BackendError, ModelLoadError
from xaimaps.methods import get_method

METHODS = ("saliency", "cam", "grad_cam")
ROUNDS = 10


def run(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "default",
    *,
    backends: Sequence[str] = (),
    methods: Sequence[str] = METHODS,
    batch_sizes: Sequence[int] = (1, 8),
    precisions: Sequence[Precision] = ("float32",),
    rounds: int = ROUNDS,
    progress: Teller | None = None,
    **loading: Any,
) -> Report:
    """Measure how fast models are explained on this machine.

    Each model runs in each backend in a process of its own, which explains random images: once to
    compile, and then `rounds` times, from images in numpy to maps in numpy. What cannot run is a
    row with the reason, also if it ends the process.

    Args:
        models: files, or names as of `load`; one or several.
        backends: the names of backends; none for all that take the model.
        methods: the names of methods.
        batch_sizes: the numbers of images in a run.
        precisions: those of `load`.
        rounds: the number of measured runs of each program.
        progress: called with the number of finished cases and of all.
        loading: other options of `load`, which must be JSON values.

    Raises:
        XaimapsError: an argument is invalid, or a backend is not installed.

    Example:
        >>> from xaimaps import bench
        >>> report = bench.run("default", methods=["cam"], batch_sizes=[1])  # doctest: +SKIP
        >>> report.measured[0].images_per_second  # doctest: +SKIP
        17.2
    """
    names = [models] if isinstance(models, str | os.PathLike) else list(models)
    _check(batch_sizes, precisions, rounds, loading)
    _check_models(names)
    rows = [get_method(name).name for name in methods]
    cases = [*itertools.starmap(Case, itertools.product(precisions, rows, batch_sizes))]
    orders = [
        {"model": os.fspath(model), "backend": name, "loading": loading, "rounds": rounds}
        for model in names
        for name in backends or _able(model)
    ]
    for order in orders:
        _registry.get_backend(order["backend"])
    found: list[Row] = []
    environment = _environment(rounds)
    for order in orders:
        for row in _rows(order, cases, environment["backends"]):
            found.append(row)
            if progress is not None:
                progress(len(found), len(orders) * len(cases))
    return Report(found, environment)


def _check(
    batch_sizes: Sequence[int], precisions: Sequence[str], rounds: int, loading: Mapping[str, Any]
) -> None:
    for name, values in {"batch_sizes": batch_sizes, "rounds": [rounds]}.items():
        if not values or not all(isinstance(n, int) and n > 0 for n in values):
            raise ArrayInputError(f"`{name}` must be integers of at least 1, got {[*values]}")
    known = get_args(Precision)
    if not precisions or set(precisions) - {*known}:
        raise BackendError(
            f"`precisions` must be some of {', '.join(known)}, got {', '.join(precisions)!r}"
        )
    try:
        json.dumps(loading)
    except (TypeError, ValueError) as error:
        raise ModelLoadError(
            f"options of `load` must be JSON values, as another process gets them, got one that "
            f"is not ({error})"
        ) from None


def _check_models(models: Sequence[Any]) -> None:
    for model in models:
        if not isinstance(model, str | os.PathLike):
            raise ModelLoadError(
                "`models` must be files or names, which another process can load, got "
                f"{type(model).__name__}; save the model"
            )
        located(model)


def _able(model: str | os.PathLike[str]) -> list[str]:
    """Return the installed backends that take a model.

    Raises:
        BackendError: none does.
    """
    place = located(model)
    _registry.find_backend(place)
    return list(_registry.takers(place, []))


def _environment(rounds: int) -> dict[str, Any]:
    return {
        "xaimaps": version("xaimaps"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
        "rounds": rounds,
        "backends": {},
    }


def _rows(order: dict[str, Any], cases: list[Case], about: dict[str, Any]) -> Iterator[Row]:
    """Measure cases in one process, and in another those behind a case that ends it."""
    name = {"model": order["model"], "backend": order["backend"]}
    left = list(cases)
    while left:
        for found in _measured({**order, "cases": left}):
            about.setdefault(order["backend"], {}).update(found.pop("about", {}))
            yield Row(**name, **left.pop(0)._asdict(), **found)


def _measured(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each case's row from a process; the last may be the reason of its end."""
    # a program from disk would take no time to compile
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, "-m", "xaimaps.bench._worker"]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=PIPE, stdout=PIPE, stderr=errors, env=environment
        ) as process,
    ):
        try:
            done = 0
            for line in _answers(process, order):
                done += 1
                yield json.loads(line)
            if process.wait() or done < len(order["cases"]):
                errors.seek(0)
                yield {"reason": _end(process.returncode, errors.read().decode(errors="replace"))}
        finally:
            process.kill()


def _answers(process: subprocess.Popen[bytes], order: dict[str, Any]) -> IO[bytes]:
    """Send an order to a process, and return the lines that it answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError), process.stdin as file:  # `_end` says why a process has ended
        file.write(json.dumps(order).encode())
    return process.stdout


def _end(status: int, errors: str) -> str:
    """Return why a process ended before its work was done."""
    if status < 0:
        return (
            f"the process was ended by {signal.Signals(-status).name}, as when the memory does not "
            "suffice; choose a smaller batch"
        )
    last = errors.strip().rpartition("\n")[2][:200]
    return f"the process ended with status {status}{last and ': ' + last}"
