"""`xaimaps compare`: several methods on one picture, in one figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import (
    load_model,
    names_of,
    print_json,
    print_table,
    printable,
    progress_bar,
    steps_shown,
)
from xaimaps._cli.headings import Command, option
from xaimaps._cli.options import (
    alpha_option,
    colormap_option,
    json_option,
    layer_option,
    max_pixels_option,
    method_option,
    model_options,
    options_option,
    target_option,
)
from xaimaps._cli.parsing import parse_layer, parse_methods, parse_options, parse_targets

if TYPE_CHECKING:
    from xaimaps._prepare import Batch
    from xaimaps._results.attribution import Attribution
    from xaimaps._run import Job
    from xaimaps.backend import Backend


@click.command(cls=Command)
@click.argument("picture", type=click.Path(path_type=Path))
@model_options
@method_option("all that the model supports")
@target_option
@layer_option
@options_option
@option("Output", "-o", "--output", type=click.Path(path_type=Path), default=None,
              help="The figure's file: .png, .jpg, .webp or .pdf.  "
              "[default: xaimaps-output/NAME-TARGET-compare.png]")  # fmt: skip
@colormap_option
@alpha_option
@max_pixels_option
@json_option
def compare(
    picture: Path,
    model: str,
    backend: str | None,
    loading: dict[str, Any],
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    layers: tuple[str, ...],
    options: tuple[str, ...],
    output: Path | None,
    colormap: str | None,
    alpha: float,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Draw several methods' maps of PICTURE in one figure."""
    from xaimaps._plan import plan_all
    from xaimaps._prepare import prepare
    from xaimaps._results.atomic import prepare_folder
    from xaimaps._results.formats import format_of
    from xaimaps._results.save import draw, figure_stem, output_stems, save_figure

    if output is not None:
        format_of(output)
    target, settings = parse_targets(targets), parse_options(options)
    loaded = load_model(model, backend, loading)
    names = parse_methods(methods) or ["all"]
    jobs = plan_all(loaded, names, parse_layer(layers), settings, target)
    batch = prepare(loaded, picture, max_pixels=max_pixels)
    folder = prepare_folder(Path("xaimaps-output") if output is None else output.parent)
    found = _explain_all(loaded, batch, jobs, target)
    (stem,) = output_stems([str(picture)], 1)
    path = output or folder / f"{figure_stem(stem, found, 0)}-compare.png"
    drawings = [one for each in found for one in draw(each, colormap=colormap, alpha=alpha)]
    save_figure(batch.views[0], drawings, path)
    _report(found, path, as_json)


def _explain_all(model: Backend, batch: Batch, jobs: list[Job], target: Any) -> list[Attribution]:
    from xaimaps._attribute import each_result

    found = {}
    with progress_bar() as progress, steps_shown(progress, model):
        results = each_result(model, jobs, batch, target, size=1)
        for i, one in progress.track(results, total=len(jobs), description="comparing"):
            found[i] = one
    return [found[i] for i in range(len(jobs))]


def _report(found: list[Attribution], path: Path, as_json: bool) -> None:
    from xaimaps._results.manifest import targets_of

    notes = list(dict.fromkeys(note for one in found for note in one.notes()))
    if as_json:
        rows = [
            {
                "method": one.method,
                "layer": one.layer,
                "target": str(one.target),
                "targets": targets_of(one, 0),
                "seconds": one.seconds._asdict(),
            }
            for one in found
        ]
        print_json({"figure": str(path), "methods": rows, "notes": notes})
        return
    print_table(
        str(path),
        ("method", "target", "layer", "time", "compilation"),
        [
            (
                one.method,
                names_of(targets_of(one, 0)),
                str(one.layer or "(input)"),
                f"{one.seconds.run * 1e3:.0f} ms",
                f"{one.seconds.compile:.1f} s",
            )
            for one in found
        ],
    )
    for note in notes:
        click.echo(printable(f"note: {note}"))
