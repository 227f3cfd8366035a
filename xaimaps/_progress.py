"""Progress of compiled loops: a long loop reports each completed step.

A method is compiled as a whole, so that Python cannot count its steps from outside. Therefore the
step function of a long loop is wrapped, and the wrapper calls Python from inside the loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Teller = Callable[[int, int], None]
"""A function that receives the number of completed steps, and the number of all steps."""

Step = Callable[[Any, Any], tuple[Any, Any]]

LONG = 8
"""The smallest number of steps for which a loop reports progress."""


class Watch:
    """The receiver of a backend's progress, if there is one; all views of a backend share it."""

    def __init__(self) -> None:
        self._teller: Teller | None = None
        self._done = 0
        self._is_inside = False

    @property
    def is_on(self) -> bool:
        """Whether progress is reported.

        It is part of the key of a compiled program, because reporting changes the program.
        """
        return self._teller is not None

    @contextmanager
    def by(self, teller: Teller) -> Iterator[None]:
        """Report the steps of long loops to `teller` while the context is open."""
        self._teller, self._done = teller, 0
        try:
            yield
        finally:
            self._teller = None

    def telling(self, step: Step, count: int, call: Callable[[Callable[[], None]], object]) -> Step:
        """Return `step`, wrapped so that it reports progress if `is_on`.

        A loop inside another loop does not report.

        Args:
            step: the step function of a scan.
            count: the number of steps.
            call: calls a Python function from inside the framework's loops.
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
