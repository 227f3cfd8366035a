"""What the commands share: options, tables, progress, and the end with an error."""

from __future__ import annotations

import ast
import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from xaimaps.backend import Backend

Command = TypeVar("Command", bound=Callable[..., Any])

WRONG_USE = 2
INTERRUPTED = 130
WIDEST = 10_000

WORDS = {"allow_unsafe=True": "--allow-unsafe"}
"""What options are called here that errors call by their names in Python."""

TAKEN = {"model", "pictures", "images", "method", "target", "layer"}
TAKEN |= {"input_size", "max_pixels", "batch_size"}
"""What is no method's option: it has an option of its own, or none."""


def fail(message: str) -> NoReturn:
    """End with one sentence on stderr."""
    click.echo(printable(f"xaimaps: {message}"), err=True)
    sys.exit(WRONG_USE)


def model_options(command: Command) -> Command:
    """The options that say which model, and how it is loaded."""
    for option in reversed(
        (
            click.option(
                "-m",
                "--model",
                default="default",
                show_default=True,
                help="A model file, keras:NAME, or the name of an embedded model.",
            ),
            click.option(
                "-b",
                "--backend",
                help="The backend's name, if several take the model.",
                shell_complete=_complete_backend,
            ),
        )
    ):
        command = option(command)
    return load_options(command)


def load_options(command: Command) -> Command:
    """The options that say how a model is loaded, handed on as one argument, `loading`."""

    @functools.wraps(command)
    def gathered(
        *args: Any,
        labels: str | None,
        preprocess: str | None,
        weights: Path | None,
        allow_unsafe: bool,
        load: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        own: dict[str, Any] = {} if weights is None else {"weights": weights}
        own |= {"allow_unsafe": True} if allow_unsafe else {}
        own |= parse_pairs(load)
        if reserved := own.keys() & {"model", "backend", "labels", "preprocess"}:
            raise click.UsageError(f"--load takes no {min(reserved)!r}; see --help")
        loading = {"labels": labels, "preprocess": preprocess, **own}
        with in_words(WORDS):
            return command(*args, loading=loading, **rest)

    for option in reversed(
        (
            click.option(
                "--labels", help="A text file with a class name in each line, or imagenet-1k."
            ),
            click.option(
                "-p",
                "--preprocess",
                help="How a picture becomes an input: unit, tf, torch, caffe, raw.",
            ),
            click.option(
                "--weights",
                type=click.Path(path_type=Path),
                help="The weights' file of a keras:NAME model.  [default: ImageNet's, downloaded]",
            ),
            click.option(
                "--allow-unsafe", is_flag=True, help="Load a file that runs code of its own."
            ),
            click.option(
                "--load",
                multiple=True,
                metavar="NAME=VALUE",
                help="An option of the backend's load, such as output=logits.",
            ),
        )
    ):
        gathered = option(gathered)
    return cast("Command", gathered)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """Let errors call options as they are called on the command line."""
    from xaimaps.errors import XaimapsError

    try:
        yield
    except XaimapsError as error:
        text = functools.reduce(lambda text, pair: text.replace(*pair), words.items(), str(error))
        raise type(error)(text) from error


def load_model(model: str, backend: str | None, loading: dict[str, Any]) -> Backend:
    """Load what `model_options` describe."""
    from xaimaps._load import load

    return load(model, backend=backend, **loading)


def printable(text: str) -> str:
    """The text, with an escape for each byte of a file name that is no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def print_json(value: Any) -> None:
    """Print a value as JSON; undecodable file names stay as escapes."""
    click.echo(json.dumps(value, indent=1))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as wide as the terminal, or as wide as it takes in a pipe; nothing is cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:
        click.echo(printable(title))
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDEST).print(table)


def progress_bar() -> Progress:
    """A bar on stderr for long work, gone when done; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def steps_shown(progress: Progress, model: Backend) -> Iterator[None]:
    """A second bar, for the steps of a long method while it runs; only where bars are shown."""
    if progress.disable:
        yield
        return
    task = progress.add_task("steps", visible=False)

    def tell(done: int, count: int) -> None:
        progress.update(task, completed=done, total=count, visible=done < count)

    with model.watch.by(tell):
        yield


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs; a value is a Python literal, or else text."""
    from xaimaps.errors import MethodError

    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise MethodError(f"an option must be NAME=VALUE, got {pair!r}")
        found[name] = _literal(text)
    return found


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs as options of a method."""
    from xaimaps.errors import MethodError

    found = parse_pairs(pairs)
    for name in found:
        if name in TAKEN:
            raise MethodError(f"{name!r} is no method's option; see `xaimaps explain --help`")
    return found


def _literal(text: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


def parse_targets(texts: Sequence[str]) -> Any:
    """Read the values of `--target`: a number is a class index, several are explained at once."""
    from xaimaps.targets import several

    targets = [int(text) if text.removeprefix("-").isdecimal() else text for text in texts]
    if not targets:
        return None
    return targets[0] if len(targets) == 1 else several(*targets)


def _complete_backend(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps._registry import installed

    return [name for name in installed() if name.startswith(incomplete)]


def complete_method(context: Any, parameter: Any, incomplete: str) -> list[str]:
    """The names of methods for the shell."""
    from xaimaps.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


def able_methods(model: Backend, names: Iterable[str]) -> list[str]:
    """Those of the methods `names` that this model and backend can do."""
    from xaimaps.errors import XaimapsError
    from xaimaps.methods import METHODS

    able = [name for name in names if METHODS[name].needs <= model.capabilities]
    try:
        model.classifier()
    except XaimapsError:
        return [name for name in able if "classifier" not in METHODS[name].needs]
    return able
