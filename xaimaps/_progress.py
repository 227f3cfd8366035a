"""Progress of what is compiled whole: a long loop tells of each of its steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Teller = Callable[[int, int], None]
"""Is told how many steps are done, and of how many."""

Step = Callable[[Any, Any], tuple[Any, Any]]

LONG = 8
"""From so many steps on, a loop is worth telling of."""


class Watch:
    """Whether someone wants to know of a backend's loops; shared by all views of the backend."""

    def __init__(self) -> None:
        self._teller: Teller | None = None
        self._done = 0
        self._is_inside = False

    @property
    def is_on(self) -> bool:
        """Whether anyone is told; a program that tells is another one than one that does not."""
        return self._teller is not None

    @contextmanager
    def by(self, teller: Teller) -> Iterator[None]:
        """Tell `teller` of the steps of long loops in whatever runs inside."""
        self._teller, self._done = teller, 0
        try:
            yield
        finally:
            self._teller = None

    def telling(self, step: Step, count: int, call: Callable[[Callable[[], None]], object]) -> Step:
        """Return `step`, telling of itself if someone is to be told.

        A loop inside a loop keeps quiet.

        Args:
            step: of a scan.
            count: how often it will run.
            call: how Python is called from the framework's loops.
        """
        if not self.is_on or self._is_inside or count < LONG:
            return step

        def told(carry: Any, x: Any) -> tuple[Any, Any]:
            self._is_inside = True
            try:
                result = step(carry, x)
            finally:
                self._is_inside = False
            call(functools.partial(self._tell, count))
            return result

        return told

    def _tell(self, count: int) -> None:
        self._done = self._done % count + 1
        if self._teller is not None:
            self._teller(self._done, count)
