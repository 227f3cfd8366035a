"""`xaimaps evaluate`: judge methods by metrics; `xaimaps metrics` lists the metrics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import load_model, print_json, print_table, printable
from xaimaps._cli.headings import Command, option
from xaimaps._cli.listing import print_row, print_rows
from xaimaps._cli.options import (
    json_option,
    layer_option,
    max_pixels_option,
    method_option,
    model_options,
    options_option,
    target_option,
)
from xaimaps._cli.parsing import (
    parse_layer,
    parse_methods,
    parse_options,
    parse_pairs,
    parse_targets,
)

if TYPE_CHECKING:
    from xaimaps.batch._sources import Item
    from xaimaps.metrics import Evaluation


def _complete_metric(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps.metrics import METRICS

    return [name for name in METRICS if name.startswith(incomplete)]


@click.command(cls=Command)
@click.argument("pictures", nargs=-1, required=True)
@model_options
@method_option("grad_cam, saliency")
@click.option(
    "-e", "--metric", "metrics", multiple=True, shell_complete=_complete_metric,
    help="A metric, or a comma-separated list; may be given several times.  "
    "[default: six, and two more with --regions]",
)  # fmt: skip
@click.option(
    "-E", "--metric-option", "metric_options", multiple=True, metavar="NAME=VALUE",
    help="An option for the metrics that have it.",
)  # fmt: skip
@click.option(
    "--regions", type=click.Path(path_type=Path),
    help="Where the objects are: a folder of masks with the pictures' names, or boxes in COCO's "
    "JSON.",
)  # fmt: skip
@target_option
@click.option(
    "--by-folder", is_flag=True, help="The target of each picture is the name of its folder."
)
@layer_option
@options_option
@max_pixels_option
@option("Output", "-o", "--output", type=click.Path(path_type=Path),
    help="A folder for evaluation.json and curves.png.",
)  # fmt: skip
@json_option
def evaluate(
    pictures: tuple[str, ...],
    model: str,
    backend: str | None,
    loading: dict[str, Any],
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    metric_options: tuple[str, ...],
    regions: Path | None,
    targets: tuple[str, ...],
    by_folder: bool,
    layers: tuple[str, ...],
    options: tuple[str, ...],
    max_pixels: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Judge methods by metrics on PICTURES.

    They are files, folders, patterns, lists of paths (.txt), tables (.csv, .parquet) with a column
    path and, if there is one, target, tar files, or - for a list of paths on stdin.
    """
    from xaimaps._prepare import require_files
    from xaimaps._results.atomic import prepare_folder
    from xaimaps.batch._sources import Source
    from xaimaps.metrics import evaluate

    settings, loaded = parse_options(options), load_model(model, backend, loading)
    require_files(loaded)
    rank = len(loaded.input_shape) - 1
    items = list(Source(pictures, output=output, rank=rank))
    target = parse_targets(targets) or _own_targets(items, by_folder)
    if output is not None:
        prepare_folder(output)
    found = evaluate(
        loaded,
        [item.open(max_pixels, rank) for item in items],
        parse_methods(methods) or ["grad_cam", "saliency"],
        parse_methods(metrics),
        target=target,
        layer=parse_layer(layers),
        regions=regions,
        metric_options=parse_pairs(metric_options),
        progress=sys.stderr.isatty(),
        **settings,
    )
    files = [] if output is None else found.save(output)
    _report(found, files, as_json)


def _own_targets(items: list[Item], by_folder: bool) -> list[int | str] | None:
    """Return the class of each picture, by its folder or as a list says it; None for the top class.

    Raises:
        TargetError: a list says the target of some pictures only.
    """
    from xaimaps.errors import TargetError

    if by_folder:
        return [Path(item.name).parent.name for item in items]
    found = [item.target for item in items]
    if not any(found):
        return None
    if not all(found):
        missing = items[found.index(None)].name
        raise TargetError(
            f"a list must have a target for every picture or none, got {missing!r} without"
        )
    return [int(one) if one.isdecimal() else one for one in found if one is not None]


def _report(found: Evaluation, files: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({**found.to_dict(), "files": [str(path) for path in files]})
        return
    count = len(found.pictures)
    title = f"{count} picture{'s' * (count != 1)}; in brackets: the better direction"
    print_table(title, found.columns, found.rows())
    for text in (*(f"note: {note}" for note in found.notes), *map(str, files)):
        click.echo(printable(text))


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=_complete_metric)
@json_option
def metrics(name: str | None, as_json: bool) -> None:
    """List the metrics of `evaluate`, or the options of the metric NAME."""
    from xaimaps.metrics import METRICS
    from xaimaps.metrics._registry import get_metric

    if name is None:
        more = "metrics; `xaimaps metrics NAME` has the paper and the options of one"
        columns = ("name", "family", "better", "summary")
        print_rows(list(METRICS.values()), more, columns, "better", as_json)
    else:
        print_row(get_metric(name), "better", as_json)
