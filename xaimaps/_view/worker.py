"""`Worker`: one thread for all computation, which ends with the process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Runs one function at a time, as a model has one set of programs.

    A program cannot be interrupted. The thread is a daemon, so that Ctrl-C does not wait for it.

    Attributes:
        has_ended: whether nobody should wait for results any more.
    """

    def __init__(self) -> None:
        self.has_ended = False
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="xaimaps view", daemon=True).start()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run a function after those before it; a cancelled one is left out."""
        future: Future[Any] = Future()
        self._queue.put((future, lambda: function(*arguments)))
        return future

    def _work(self) -> None:
        while True:
            future, call = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
