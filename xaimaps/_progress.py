"""Progress of compiled loops: a long loop reports each completed step.

A method is compiled as a whole, so that Python cannot count its steps from outside. Therefore the
step function of a long loop is wrapped, and the wrapper calls Python from inside the loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")

Teller = Callable[[int, int], None]
"""A function that receives the number of completed steps, and the number of all steps."""

Step = Callable[[Any, Any], tuple[Any, Any]]

LONG = 8
"""The smallest number of steps for which a loop reports progress."""


class Watch:
    """The receiver of a backend's progress, if there is one; all views of a backend share it."""

    def __init__(self) -> None:
        self._teller: Teller | None = None
        self._images: Teller | None = None
        self._done = 0
        self._is_inside = False

    @property
    def is_on(self) -> bool:
        """Whether progress is reported.

        It is part of the key of a compiled program, because reporting changes the program.
        """
        return self._teller is not None

    @contextmanager
    def by(self, teller: Teller, images: Teller | None = None) -> Iterator[None]:
        """Report progress while the context is open.

        Args:
            teller: receives the steps of long loops.
            images: receives the images of a batch that is run in several parts.
        """
        self._teller, self._images, self._done = teller, images, 0
        try:
            yield
        finally:
            self._teller = self._images = None

    def tell_images(self, done: int, count: int) -> None:
        """Report that `done` of `count` images are explained."""
        if self._images is not None:
            self._images(done, count)

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


def bar(progress: Progress, name: str) -> Teller:
    """Return a function that shows a bar while something is not complete."""
    task = progress.add_task(name, visible=False)

    def tell(done: int, count: int) -> None:
        progress.update(task, completed=done, total=count, visible=done < count)

    return tell


def shown(items: Iterable[Item], count: int, watch: Watch) -> Iterator[Item]:
    """Yield items, with bars for them, and for the images and steps that `watch` reports.

    The bars are on stderr, or in a notebook below the cell, and vanish at the end.
    """
    from rich.console import Console
    from rich.progress import Progress

    with (
        Progress(console=Console(stderr=True), transient=True) as progress,
        watch.by(bar(progress, "steps"), bar(progress, "images")),
    ):
        yield from progress.track(items, total=count, description="explaining")
