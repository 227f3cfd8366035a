"""`xaimaps compare`: any set of methods on one picture, in one figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import (
    able_methods,
    json_option,
    load_model,
    model_options,
    parse_targets,
    print_json,
    print_table,
    progress_bar,
    steps_shown,
)

if TYPE_CHECKING:
    from xaimaps._results.attribution import Attribution
    from xaimaps.backend import Backend


@click.command()
@click.argument("picture", type=click.Path(path_type=Path))
@model_options
@click.option("-M", "--methods", default="all", show_default=True,
              help="Names with commas between, or all that the model allows.")  # fmt: skip
@click.option("-t", "--target", default=None, help="A class index or a label.  [default: top-1]")
@click.option("-l", "--layer", default=None, help="The layer of the CAM methods.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None,
              help="The figure's file.  [default: xaimaps-output/NAME-compare.png]")  # fmt: skip
@json_option
def compare(
    picture: Path,
    model: str,
    backend: str | None,
    loading: dict[str, Any],
    methods: str,
    target: str | None,
    layer: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Draw several methods' maps of PICTURE in one figure."""
    from xaimaps._images.open import open_picture
    from xaimaps._results.atomic import prepare_folder
    from xaimaps._results.save import output_stems, save_figure
    from xaimaps.methods import METHODS

    opened = open_picture(picture)
    loaded = load_model(model, backend, loading)
    names = able_methods(loaded, METHODS) if methods == "all" else methods.split(",")
    settings = {"target": parse_targets([target] if target is not None else []), "layer": layer}
    (stem,) = output_stems([str(picture)], 1)
    path = output or Path("xaimaps-output") / f"{stem}-compare.png"
    prepare_folder(path.parent)
    found = _explain_all(loaded, opened, names, settings)
    save_figure(found, path)
    _report(found, path, as_json)


def _explain_all(
    model: Backend, picture: Any, names: list[str], settings: dict[str, Any]
) -> list[Attribution]:
    from xaimaps._attribute import explain
    from xaimaps.methods import get_method

    rows = [get_method(name) for name in names]
    found = []
    with progress_bar() as progress, steps_shown(progress, model):
        for row in progress.track(rows, description="comparing"):
            layer = settings["layer"] if row.takes_layer else None
            found.append(explain(model, picture, row.name, target=settings["target"], layer=layer))
    return found


def _report(found: list[Attribution], path: Path, as_json: bool) -> None:
    rows = [
        {"method": one.method, "layer": one.layer, "seconds": one.seconds._asdict()}
        for one in found
    ]
    if as_json:
        print_json({"figure": str(path), "methods": rows})
        return
    print_table(
        str(path),
        ("method", "layer", "time", "compilation"),
        [
            (
                one.method,
                str(one.layer or "(input)"),
                f"{one.seconds.run * 1e3:.0f} ms",
                f"{one.seconds.compile:.1f} s",
            )
            for one in found
        ],
    )
