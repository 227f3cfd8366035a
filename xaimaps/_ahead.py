"""Work ahead of its use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    pool = ThreadPoolExecutor(workers, "xaimaps-decode")
    try:
        for begun in late((pool.submit(work, item) for item in items), most):
            yield begun.result()
    finally:
        pool.shutdown(cancel_futures=True)


def late(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield items in their order, each when `count` more are made, or none is left."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
