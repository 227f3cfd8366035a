"""Functions that the commands share: loading models, tables, progress, and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from xaimaps.backend import Backend

WRONG_USE = 2
INTERRUPTED = 130
WIDEST = 10_000
LONGEST = 2_000


def fail(message: str) -> NoReturn:
    """Print one sentence on stderr and exit; a name of a megabyte in it is not printed whole."""
    short = message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."
    click.echo(printable(f"xaimaps: {short}"), err=True)
    sys.exit(WRONG_USE)


def load_model(model: str, backend: str | None, loading: dict[str, Any]) -> Backend:
    """Load the model that `model_options` describe."""
    from xaimaps._load import load

    with _stated(f"loading {model}"):
        return load(model, backend=backend, **loading)


@contextmanager
def _stated(what: str) -> Iterator[None]:
    """Show on a terminal's stderr what is done."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(printable(what)):
        yield


def printable(text: str) -> str:
    """Escape each byte of a file name that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def print_json(value: Any) -> None:
    """Print a value as JSON; undecodable file names stay as escapes."""
    click.echo(json.dumps(value, indent=1))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], whole: str = ""
) -> None:
    """Print a table as wide as the terminal, or without a limit in a pipe; nothing is cut.

    Args:
        title: the line above.
        columns: the names of the columns.
        rows: the cells.
        whole: the column whose cells are short, and never folded.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:
        click.echo(printable(title))
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == whole)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDEST).print(table)


def names_of(targets: Sequence[dict[str, Any]]) -> str:
    """Return the targets of a method in one cell of a table."""
    return ", ".join(one["target"] for one in targets)


def print_boxes(boxes: Sequence[dict[str, Any]]) -> None:
    """Print the boxes of a detector; * marks those that a map explains."""
    print_table(
        "",
        ("", "box", "class", "label", "score", "x0, y0, x1, y1"),
        [
            (
                "*" if box.get("explained") else "",
                str(rank),
                str(box["class"]),
                box["label"],
                f"{box['score']:.3f}",
                ", ".join(f"{corner:.0f}" for corner in box["corners"]),
            )
            for rank, box in enumerate(boxes, 1)
        ],
    )


def progress_bar(*, hidden: bool = False) -> Progress:
    """Make a transient progress bar on stderr; silent if hidden or if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=hidden or not console.is_terminal)


@contextmanager
def paused(progress: Progress) -> Iterator[None]:
    """Take the bars from the terminal while something else is printed."""
    if progress.disable:
        yield
        return
    progress.stop()
    yield
    progress.start()


@contextmanager
def steps_shown(progress: Progress, model: Backend) -> Iterator[None]:
    """Show a second bar for the steps of a long method while it runs."""
    if progress.disable:
        yield
        return
    from xaimaps._progress import bar

    with model.watch.by(bar(progress, "steps")):
        yield
