"""Work ahead of its use, in a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield the result of `work` for each item, in order.

    The work on at most three items for each worker is begun before its result is asked for, so that
    the memory does not grow if the results are used slowly.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, "xaimaps-decode")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
