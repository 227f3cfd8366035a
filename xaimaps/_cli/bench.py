"""`xaimaps bench`: how fast a model is explained on this machine."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.completions import complete_files
from xaimaps._cli.console import print_table, printable, progress_bar
from xaimaps._cli.headings import Command, option
from xaimaps._cli.options import (
    DEFAULT_METHODS,
    backends_option,
    load_options,
    method_option,
    precisions_option,
)
from xaimaps._cli.parsing import parse_methods

if TYPE_CHECKING:
    from xaimaps.bench import Report, Row

COLUMNS = (
    *("model", "backend", "precision", "method", "batch", "images/s", "ms", "quartiles"),
    *("compile s", "host MB", "device MB"),
)


@click.command(cls=Command)
@click.argument(
    "models", nargs=-1, required=True, metavar="MODEL...", shell_complete=complete_files("MODELS")
)
@backends_option
@functools.partial(load_options, precision_option=precisions_option)
@method_option(", ".join(DEFAULT_METHODS))
@click.option("--batch-size", "batch_sizes", multiple=True, type=click.IntRange(1), default=(1, 8),
              show_default=True, help="A number of images in a run; may be given several "
              "times.")  # fmt: skip
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1),
              help="The number of measured runs of each program.")  # fmt: skip
@option("Output", "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the measurements and the environment as JSON.")  # fmt: skip
@option("Output", "--figure", "figure_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Write a figure, such as rates.png.")  # fmt: skip
def bench(
    models: tuple[str, ...],
    methods: tuple[str, ...],
    json_file: Path | None,
    figure_file: Path | None,
    loading: dict[str, Any],
    **settings: Any,
) -> None:
    """Measure how fast MODEL... are explained on this machine, with random images.

    Each model runs in each backend in a process of its own. Times are medians of whole runs, from
    images in numpy to maps in numpy, with the quartiles; the first run, which compiles, is apart.
    """
    from xaimaps._results.atomic import prepare_folder
    from xaimaps._results.formats import format_of
    from xaimaps.bench import run

    if figure_file is not None:
        format_of(figure_file)
    for file in filter(None, (json_file, figure_file)):
        prepare_folder(file.parent)
    given = {name: value for name, value in loading.items() if value is not None}
    settings["precisions"] = given.pop("precision")
    names = parse_methods(methods) or DEFAULT_METHODS
    with progress_bar() as progress:
        task = progress.add_task("measuring", total=None)

        def tell(done: int, count: int) -> None:
            progress.update(task, completed=done, total=count)

        report = run(models, methods=names, progress=tell, **settings, **given)
    _show(report)
    _write(report, json_file, figure_file)
    sys.exit(0 if report.measured else 1)


def _show(report: Report) -> None:
    if report.measured:
        print_table("", COLUMNS, map(_cells, report.measured))
    reasons = {(row.model, row.backend, row.reason) for row in report.rows if row.reason}
    for model, backend, reason in sorted(reasons):
        click.echo(printable(f"{model}, {backend}: {reason}"))


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row.quartiles
    return (
        *(Path(row.model).name, row.backend, row.precision, row.method, str(row.batch_size)),
        f"{row.images_per_second:.1f}",
        f"{1e3 * row.seconds:.1f}",
        f"{1e3 * low:.1f} to {1e3 * high:.1f}",
        f"{row.compile_seconds:.1f}",
        *(
            "" if size is None else f"{size / 1e6:.0f}"
            for size in (row.host_bytes, row.device_bytes)
        ),
    )


def _write(report: Report, json_file: Path | None, figure_file: Path | None) -> None:
    from xaimaps._results.atomic import write_atomic
    from xaimaps._results.formats import write_picture
    from xaimaps.bench._figure import figure

    if json_file is not None:
        text = json.dumps(report.to_dict(), indent=1) + "\n"
        write_atomic(json_file, lambda file: file.write(text.encode()))
    if figure_file is not None and report.measured:
        write_picture(figure_file, figure(report))
