"""`xaimaps batch`: explain a data set into a store, which a later run completes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import load_model, print_json, printable, progress_bar
from xaimaps._cli.headings import Command, option
from xaimaps._cli.options import (
    batch_size_option,
    json_option,
    layer_option,
    max_pixels_option,
    method_option,
    model_options,
    options_option,
    symlinks_option,
    target_option,
)
from xaimaps._cli.parsing import in_words, parse_layer, parse_methods, parse_options, parse_targets

if TYPE_CHECKING:
    from xaimaps.batch import Shard, Summary
    from xaimaps.batch._run import Run

OPTIONS = {"`column` (--column)": "--column", "`ray`": "--ray"}
"""The command line's names of options that errors call by their Python names."""


class _Stop:
    """The first signal lets the chunk in flight end, the second ends the process at once.

    Attributes:
        signal: the number of the first signal; 0 if there was none.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal = 0

    def __enter__(self) -> _Stop:
        self._before = {one: signal.signal(one, self._asked) for one in self.SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _asked(self, number: int, frame: object) -> None:
        self.signal = number
        for one in self.SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        # `print` is not allowed in a handler, as the signal may have interrupted another `print`.
        os.write(2, b"\nxaimaps: ends after the chunk in flight; a second signal ends it at once\n")


def _shard(context: Any, parameter: Any, text: str) -> Shard:
    from xaimaps.batch import Shard

    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise click.BadParameter(f"must be I/N, such as 0/4, got {text!r}")
    return Shard(int(index), int(count))


@click.command(cls=Command)
@click.argument("pictures", nargs=-1, required=True)
@model_options
@method_option("grad_cam")
@target_option
@layer_option
@options_option
@option("Output", "-o", "--output", type=click.Path(path_type=Path), required=True,
        help="The folder of the run, which the same command completes.")  # fmt: skip
@option(
    "Output", "--overlays", is_flag=True, help="Write overlays, too, in the folders of the input."
)
@click.option("--column", default="path", show_default=True,
              help="The column of the paths in a .csv or .parquet file.")  # fmt: skip
@click.option("--shard", default="0/1", metavar="I/N", callback=_shard,
              help="Explain the I-th of N parts, from 0, for N processes.")  # fmt: skip
@click.option("--max-errors", type=click.IntRange(0), default=None,
              help="End when more pictures than this have failed.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=lambda: os.cpu_count() or 1,
              show_default="one for each processor",
              help="The number of threads that read pictures.")  # fmt: skip
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=None,
    show_default="all",
    help="The number of devices of this machine to use; JAX alone uses several.",
)
@click.option("--chunk-size", default=128, show_default=True, type=click.IntRange(1),
              help="The number of pictures to store at a time.")  # fmt: skip
@click.option("--ray", metavar="ADDRESS",
              help="Explain on this Ray cluster; local starts one here.")  # fmt: skip
@batch_size_option
@max_pixels_option
@symlinks_option
@json_option
def batch(
    pictures: tuple[str, ...],
    model: str,
    backend: str | None,
    loading: dict[str, Any],
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    layers: tuple[str, ...],
    options: tuple[str, ...],
    output: Path,
    ray: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Explain a data set, and store the maps in the folder OUTPUT.

    PICTURES are files, folders with all their subfolders, patterns, lists of paths (.txt), tables
    with a column of paths (.csv, .parquet), tar files (.tar), or - for a list of paths on stdin.

    Exit status 1 means that some pictures failed; 130 and 143 that a signal has ended the run.
    """
    from xaimaps.batch import Settings
    from xaimaps.batch._run import started
    from xaimaps.batch._work import Order

    chosen, names = Settings(**settings), parse_methods(methods) or ["grad_cam"]
    target, layer, own = parse_targets(targets), parse_layer(layers), parse_options(options)
    order = Order(names, target, layer, own, chosen)
    loader = functools.partial(load_model, model, backend, loading)
    with (
        in_words(OPTIONS),
        started(loader if ray else loader(), pictures, output, order, ray) as run,
    ):
        status = _complete(run)
    _report(run.summary, output, as_json)
    sys.exit(status or int(run.summary.failed > 0))


def _complete(run: Run) -> int:
    """Go through the pictures until the end or a signal, and return its exit status or 0."""
    with progress_bar() as progress, contextlib.closing(iter(run)) as steps:
        task = progress.add_task("explaining", total=run.total())
        with _Stop() as stop:
            for summary in steps:
                progress.update(task, completed=summary.pictures, description=_progress(summary))
                if stop.signal:
                    break
    return stop.signal and 128 + stop.signal


def _progress(summary: Summary) -> str:
    failed = f", {summary.failed} failed" if summary.failed else ""
    return f"{summary.rates()['all']:.1f} pictures per second{failed}"


def _report(summary: Summary, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), **asdict(summary), "rates": summary.rates()})
        return
    click.echo(
        printable(
            f"{folder}: {summary.pictures} pictures, {summary.failed} failed, "
            f"{summary.there} were there before"
        )
    )
    rates = (f"{name} {rate:.1f}" for name, rate in summary.rates().items())
    click.echo(f"pictures per second: {', '.join(rates)}")
    for note in summary.notes:
        click.echo(printable(f"note: {note}"))
