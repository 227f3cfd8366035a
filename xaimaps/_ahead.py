"""Work ahead of its use, in a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, most: int
) -> Iterator[Result]:
    """Yield the result of `work` for each item, in order.

    Args:
        work: run in a thread.
        items: what it is called with.
        workers: the number of threads.
        most: how many items are begun before their result is asked for, so that the memory does not
            grow if the results are used slowly.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, "xaimaps-decode")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
