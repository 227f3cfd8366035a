"""Commands that explain pictures: `explain`, and `demo` on the embedded one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import (
    able_methods,
    complete_method,
    json_option,
    load_model,
    model_options,
    parse_options,
    parse_targets,
    print_json,
    print_table,
    printable,
    progress_bar,
    steps_shown,
)

if TYPE_CHECKING:
    from xaimaps._images.open import Picture
    from xaimaps._results.attribution import Attribution, Prediction
    from xaimaps.backend import Backend

DEFAULT_METHODS = ("saliency", "cam", "grad_cam")

method_option = click.option(
    "-M", "--method", "methods", multiple=True, shell_complete=complete_method,
    help=f"A method's name; may be given several times.  [default: {', '.join(DEFAULT_METHODS)}; "
    "with --layer grad_cam]",
)  # fmt: skip
target_option = click.option(
    "-t", "--target", "targets", multiple=True,
    help="A class index, a label, or top-K; may be given several times.  [default: top-1]",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What is done to each picture."""

    model: Backend
    methods: Sequence[str]
    settings: dict[str, Any]
    output: Path
    colormap: str | None = None

    def explain(self, picture: Picture) -> list[Attribution]:
        """Run every method on one picture."""
        from xaimaps._attribute import explain

        return [explain(self.model, picture, name, **self.settings) for name in self.methods]


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_options
@method_option
@target_option
@click.option(
    "-l", "--layer", "layers", multiple=True,
    help="The layer of the CAM methods; the maps of several are fused.  "
    "[default: the last spatial one]",
)  # fmt: skip
@click.option(
    "-O",
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the method.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("xaimaps-output"),
              show_default=True, help="The folder to write to.")  # fmt: skip
@click.option("--colormap", help="A name of matplotlib's, such as hot.  [default: inferno, or "
              "RdBu_r for signed maps]")  # fmt: skip
@click.option(
    "--input-size", type=(int, int), metavar="HEIGHT WIDTH", help="For models that take any size."
)
@click.option(
    "--max-pixels", default=64_000_000, show_default=True, help="The largest picture that is read."
)
@click.option(
    "--follow-symlinks", is_flag=True, help="Take links that lead out of a folder of pictures."
)
@json_option
def explain(
    pictures: tuple[Path, ...],
    model: str,
    backend: str | None,
    loading: dict[str, Any],
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    layers: tuple[str, ...],
    options: tuple[str, ...],
    output: Path,
    colormap: str | None,
    input_size: tuple[int, int] | None,
    max_pixels: int,
    follow_symlinks: bool,
    as_json: bool,
) -> None:
    """Explain what a model sees in PICTURES (files, or folders of them).

    Writes for each picture and method an overlay, a heat map, the raw maps and a manifest.
    """
    from xaimaps._images.open import find_pictures

    found = find_pictures(pictures, follow_symlinks=follow_symlinks)
    layer = layers[0] if len(layers) == 1 else layers or None
    settings = {
        "target": parse_targets(targets),
        "layer": layer,
        "input_size": input_size,
        **parse_options(options),
    }
    loaded = load_model(model, backend, loading)
    job = Job(loaded, methods or _default_methods(loaded, layer), settings, output, colormap)
    run(job, found, max_pixels, as_json)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("xaimaps-output"),
              show_default=True, help="The folder to write to.")  # fmt: skip
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Explain the embedded photograph of a cat with the embedded network."""
    from xaimaps import zoo

    loaded = load_model("default", None, {})
    job = Job(loaded, DEFAULT_METHODS, {}, output)
    run(job, [zoo.PICTURES["chelsea"]], 64_000_000, as_json)


def _default_methods(model: Backend, layer: str | tuple[str, ...] | None) -> Sequence[str]:
    """The default methods that this model and backend can do; at a layer, the one for any layer."""
    return ["grad_cam"] if layer is not None else able_methods(model, DEFAULT_METHODS)


def run(job: Job, paths: Sequence[Path], max_pixels: int, as_json: bool) -> None:
    """Explain every picture, and exit with 1 where one of several could not be read."""
    from xaimaps._images.open import open_picture
    from xaimaps._results.atomic import prepare_folder
    from xaimaps._results.save import output_stems
    from xaimaps.errors import InputImageError

    prepare_folder(job.output)
    records = []
    with progress_bar() as progress, steps_shown(progress, job.model):
        task = progress.add_task("explaining", total=len(paths))
        for path, stem in zip(paths, output_stems(list(map(str, paths)), 0), strict=True):
            try:
                picture = open_picture(path, max_pixels=max_pixels)
                records.append(explain_one(job, picture, stem, as_json))
            except InputImageError as error:
                if len(paths) == 1:
                    raise
                records.append(
                    {"picture": os.fspath(path), "status": "failed", "reason": str(error)}
                )
                click.echo(printable(f"xaimaps: {error}"), err=True)
            progress.advance(task)
    if as_json:
        print_json({"model": job.model.info.name, "backend": job.model.name, "results": records})
    if any(record["status"] == "failed" for record in records):
        sys.exit(1)


def explain_one(job: Job, picture: Picture, stem: str, as_json: bool) -> dict[str, Any]:
    """Explain, write and report one picture."""
    from xaimaps._results.save import save, save_figure

    found = job.explain(picture)
    files = [path for one in found for path in save(one, job.output, [stem], colormap=job.colormap)]
    if len(found) > 1:
        files.append(save_figure(found, job.output / f"{stem}-figure.png"))
    record = _record(picture, found, files)
    if not as_json:
        _report(record)
    return record


def _record(
    picture: Picture, found: Sequence[Attribution], files: Sequence[Path]
) -> dict[str, Any]:
    return {
        "picture": picture.source,
        "status": "ok",
        "notes": [*picture.notes, *found[0].model.notes],
        "top": [asdict(prediction) for prediction in _top(found[0])],
        "methods": [
            {
                "method": one.method,
                "layer": one.layer,
                "target": None if one.target is None else one.target[0].tolist(),
                "seconds": one.seconds._asdict(),
            }
            for one in found
        ],
        "files": [str(path) for path in files],
    }


def _top(found: Attribution) -> list[Prediction]:
    """The top classes, of a model whose outputs are classes."""
    return found.top() if found.scores.ndim == 2 else []


def _report(record: dict[str, Any]) -> None:
    print_table(
        f"{record['picture']}",
        ("class", "label", "score", "probability"),
        [
            (str(p["index"]), p["label"], f"{p['score']:.3f}", f"{p['probability']:.3f}")
            for p in record["top"]
        ],
    )
    print_table(
        "",
        ("method", "layer", "time", "compilation"),
        [
            (
                m["method"],
                m["layer"] or "(input)",
                f"{m['seconds']['run'] * 1e3:.0f} ms",
                f"{m['seconds']['compile']:.1f} s",
            )
            for m in record["methods"]
        ],
    )
    for note in record["notes"]:
        click.echo(printable(f"note: {note}"))
    for path in record["files"]:
        click.echo(printable(path))
