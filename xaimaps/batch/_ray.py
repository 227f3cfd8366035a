"""The work of a run on the machines of a Ray cluster.

Ray Data hands the chunks to actors and survives the loss of some: what an actor was doing is done
again by another. A chunk that the lost one had stored is not computed again.
"""

from __future__ import annotations

import functools
import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaimaps._load import load
from xaimaps._memory import keep_memory
from xaimaps._registry import import_extra
from xaimaps.backend import Backend
from xaimaps.batch._chunks import Chunk
from xaimaps.batch._store import Row, Store
from xaimaps.batch._work import Done, Order, explained
from xaimaps.errors import BackendError, ModelLoadError, XaimapsError, first_line

Loader = Callable[[], Backend]

STARTED_WITH = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_worker_niceness": "0",
}
"""The environment in which Ray is started: it reports nothing to its makers, and does not send the
current folder to the cluster, as it would under `uv run`."""


SECONDS_TO_CONNECT = 10


@dataclass(frozen=True)
class Share:
    """What the actors take of a cluster.

    Attributes:
        actors: how many there are.
        resources: what Ray reserves for each.
    """

    actors: int
    resources: dict[str, float]

    @classmethod
    def of(cls, nodes: Sequence[dict[str, Any]], threads: int) -> Share:
        """Return one actor for each GPU or, without any, for `threads` processors of a node."""
        gpus = sum(int(node["Resources"].get("GPU", 0)) for node in nodes if node["Alive"])
        cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
        actors = gpus or sum(max(1, count // threads) for count in cpus if count)
        # Half a processor only: tasks of Ray Data wait for ever if actors hold all processors.
        return cls(actors, {"num_cpus": 0.5, "num_gpus": int(gpus > 0)})


class Explainer:
    """An actor: loads the model once, and explains and stores a chunk at a time."""

    def __init__(self, loader: Loader, order: Order, place: Path, folder: Path) -> None:
        keep_memory()  # the process is the actor's own
        os.chdir(place)  # paths are relative to the user's folder
        self.order, self.store = order, Store(folder)
        self.task = order.task(loader(), folder)

    def described(self) -> tuple[Row, list[str]]:
        """Return the record of the run, and the notes."""
        return self.order.record(self.task), self.task.notes

    def __call__(self, row: dict[str, bytes]) -> dict[str, Any]:
        """Explain and store a chunk, and return what was done, or the error of ours."""
        try:
            outcome: Done | XaimapsError = self._done(pickle.loads(row["item"]))
        except XaimapsError as error:
            outcome = error
        return {"outcome": pickle.dumps(outcome), "notes": self.task.notes}

    def _done(self, chunk: Chunk) -> Done:
        failed = self.store.failed_in(chunk)
        if failed is None:
            (done,) = explained(self.task, self.store, self.order.settings, [chunk])
            return done
        # An actor has stored the chunk, and was lost before it could say so.
        return Done(chunk.index, len(chunk.items), failed, 0.0, 0.0)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to.

    Attributes:
        ray: the module.
        explainer: the arguments of each actor.
        share: what each actor takes of the cluster.
    """

    ray: Any
    explainer: tuple[Loader, Order, Path, Path]
    share: Share

    def described(self) -> tuple[Row, list[str]]:
        """Check the order on one machine, and return the record of the run and the notes."""
        task = self.ray.remote(**self.share.resources)(_described)
        try:
            found: tuple[Row, list[str]] = self.ray.get(task.remote(self.explainer))
        except self.ray.exceptions.RayTaskError as error:
            raise _ours(error.cause) from error
        return found

    def explained(self, notes: list[str], some: Iterable[Chunk]) -> Iterator[Done]:
        """Explain and store chunks on all machines, in any order."""
        waiting = [pickle.dumps(chunk) for chunk in some]
        if not waiting:
            return
        try:
            for row in self._rows(waiting):
                notes += [note for note in row["notes"] if note not in notes]
                outcome = pickle.loads(row["outcome"])
                if isinstance(outcome, XaimapsError):
                    raise outcome
                yield outcome
        except self.ray.exceptions.RayError as error:
            raise _ours(error) from error

    def _rows(self, waiting: list[bytes]) -> Iterator[dict[str, Any]]:
        data = self.ray.data
        rows = data.from_items(waiting, override_num_blocks=len(waiting)).map(
            Explainer,
            fn_constructor_args=self.explainer,
            # While one call computes, another decodes the pictures of the next chunk.
            compute=data.ActorPoolStrategy(
                size=min(self.share.actors, len(waiting)),
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            **self.share.resources,
        )
        rows.context.enable_progress_bars = False
        yield from rows.iter_rows()


def _described(explainer: tuple[Loader, Order, Path, Path]) -> tuple[Row, list[str]]:
    return Explainer(*explainer).described()


def _ours(error: Exception) -> XaimapsError:
    if isinstance(error, XaimapsError):
        return error
    return BackendError(f"the Ray cluster could not go on ({first_line(error)}); run again")


def _loader(model: Any) -> Loader:
    if isinstance(model, str | os.PathLike):
        return functools.partial(load, model)
    if callable(model):
        return model  # type: ignore[no-any-return]
    raise ModelLoadError(
        "with `ray`, `model` must be a path, a name or a function without arguments that returns "
        f"the model, as each process loads it; got {type(model).__name__}"
    )


@contextmanager
def connected(address: str, model: Any, order: Order, folder: Path) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine, until the run has ended.

    Raises:
        BackendError: Ray is not installed, or there is no cluster at the address.
    """
    loader = _loader(model)
    with _environment(STARTED_WITH):
        import_extra("ray.data", "ray", "a run on a cluster")
        ray = import_extra("ray", "ray", "a run on a cluster")
    with ExitStack() as stack:
        if not ray.is_initialized():
            stack.callback(ray.shutdown)
            _connect(ray, address)
        share = Share.of(ray.nodes(), order.settings.workers)
        yield Cluster(ray, (loader, order, Path.cwd(), folder), share)


def _connect(ray: Any, address: str) -> None:
    try:
        _require_reachable(address)
        with _environment(STARTED_WITH):
            ray.init(address, log_to_driver=False, logging_level="error", include_dashboard=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise BackendError(
            f"`ray` must be the address of a Ray cluster or 'local', got {address!r} "
            f"({first_line(error)}); see `ray status`"
        ) from error


def _require_reachable(address: str) -> None:
    """Raise an OSError if nothing answers at HOST:PORT; Ray tries for most of a minute."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables that are not set for the processes that are started meanwhile."""
    new = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in new})
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
