"""Commands that explain pictures: `explain`, and `demo` on an embedded picture."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import (
    load_model,
    names_of,
    paused,
    print_boxes,
    print_json,
    print_table,
    printable,
    progress_bar,
    steps_shown,
)
from xaimaps._cli.headings import Command
from xaimaps._cli.inputs import OtherInputs, print_vectors
from xaimaps._cli.options import (
    DEFAULT_METHODS,
    MAX_PIXELS,
    alpha_option,
    batch_size_option,
    colormap_option,
    each_option,
    explained_option,
    folder_option,
    format_option,
    json_option,
    layer_option,
    max_pixels_option,
    method_option,
    model_options,
    options_option,
    quiet_option,
    symlinks_option,
    target_option,
)
from xaimaps._cli.parsing import parse_layer, parse_methods, parse_options, parse_targets

if TYPE_CHECKING:
    from xaimaps._attribute import Layers
    from xaimaps._prepare import Batch
    from xaimaps._results.attribution import Attribution
    from xaimaps._results.predictions import Prediction
    from xaimaps._run import Job
    from xaimaps.backend import Backend


@dataclass(frozen=True)
class Task:
    """The model, the methods and the settings to apply to each picture."""

    model: Backend
    jobs: Sequence[Job]
    output: Path
    target: Any = None
    max_pixels: int = MAX_PIXELS
    batch_size: int = 1
    format: str = "png"
    colormap: str | None = None
    alpha: float = 0.5
    others: OtherInputs = field(default_factory=OtherInputs)

    def of_picture(self, index: int) -> Task:
        """Return the task for one picture, whose model has the picture's own values of inputs."""
        return replace(self, model=self.others.model(self.model, index))

    def open(self, path: Path) -> Batch:
        """Read and preprocess one picture."""
        from xaimaps._prepare import prepare

        return prepare(self.model, path, max_pixels=self.max_pixels)

    def explain(self, batch: Batch) -> list[Attribution]:
        """Run every method on a batch, which is padded to the batch size."""
        from xaimaps._attribute import each_result

        found = dict(each_result(self.model, self.jobs, batch, self.target, self.batch_size))
        return [found[i] for i in range(len(self.jobs))]


@click.command(cls=Command)
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_options
@method_option(f"{', '.join(DEFAULT_METHODS)}; grad_cam with --layer")
@target_option
@layer_option
@options_option
@each_option
@explained_option
@folder_option
@format_option
@colormap_option
@alpha_option
@batch_size_option
@max_pixels_option
@symlinks_option
@quiet_option
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
    each: tuple[str, ...],
    explained: tuple[str, ...],
    batch_size: int,
    follow_symlinks: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Explain a model's outputs for PICTURES (files, or folders of them).

    Writes an overlay, a heat map, the raw maps and a manifest for each picture and method.
    """
    from xaimaps._images.find import find_pictures
    from xaimaps._plan import plan_all

    layer, target, own = parse_layer(layers), parse_targets(targets), parse_options(options)
    others = OtherInputs.parsed(each, explained, parse_methods(methods), own)
    loaded = load_model(model, backend, others.loading(loading))
    where = {"follow_symlinks": follow_symlinks, "output": settings["output"]}
    found = find_pictures(pictures, rank=len(loaded.input_shape) - 1, **where)
    others.check(loaded, len(found))
    names = others.methods or _default_methods(loaded, layer, target)
    jobs = plan_all(loaded, names, layer, own, target)
    size = 1 if others.rows else min(batch_size, len(found))
    task = Task(loaded, jobs, target=target, batch_size=size, others=others, **settings)
    run(task, found, as_json, quiet)


@click.command(cls=Command)
@folder_option
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Explain the embedded photograph of a cat with the embedded network."""
    from xaimaps import zoo
    from xaimaps._plan import plan_all

    loaded = load_model("default", None, {})
    jobs = plan_all(loaded, _default_methods(loaded), None, {})
    run(Task(loaded, jobs, output), [zoo.PICTURES["chelsea"]], as_json)


def _default_methods(model: Backend, layer: Layers = None, target: Any = None) -> list[str]:
    """Return the default methods that suit model and target; only Grad-CAM if a layer is given."""
    from xaimaps._plan import default_methods

    return ["grad_cam"] if layer is not None else default_methods(model, DEFAULT_METHODS, target)


def run(task: Task, paths: Sequence[Path], as_json: bool, quiet: bool = False) -> None:
    """Explain every picture, and exit with 1 if one of several could not be read."""
    from xaimaps._results.atomic import prepare_folder
    from xaimaps._results.save import output_stems

    prepare_folder(task.output)
    named = list(zip(paths, output_stems(list(map(str, paths)), 0), strict=True))
    records: list[dict[str, Any]] = []
    with progress_bar(hidden=quiet) as progress, steps_shown(progress, task.model):
        count = len(paths) * (1 + len(task.others.explained))
        bar = progress.add_task("compiling", total=count if count > 1 else None)
        for start in range(0, len(named), task.batch_size):
            part = named[start : start + task.batch_size]
            for record in _explain_some(task, part, start, is_one=len(paths) == 1):
                records.append(record)
                with paused(progress):
                    _report(record, as_json, quiet)
                progress.update(bar, advance=1, description="explaining")
    if as_json:
        print_json({"model": task.model.info.name, "backend": task.model.name, "results": records})
    if any(record["status"] == "failed" for record in records):
        sys.exit(1)


def _explain_some(
    task: Task, named: Sequence[tuple[Path, str]], start: int, is_one: bool
) -> Iterator[dict[str, Any]]:
    """Explain one batch; a picture that cannot be read is reported, and the others continue."""
    from xaimaps._prepare import joined
    from xaimaps.errors import InputImageError

    opened: dict[Path, Batch] = {}
    failed: dict[Path, str] = {}
    for path, _ in named:
        try:
            task = task.of_picture(start)
            opened[path] = task.open(path)
        except InputImageError as error:
            if is_one:
                raise
            failed[path] = str(error)
    found = task.explain(joined(list(opened.values()))) if opened else []
    index = itertools.count()
    for path, stem in named:
        if path in failed:
            yield {"picture": os.fspath(path), "status": "failed", "reason": failed[path]}
        else:
            yield _written(task, found, next(index), stem)
            yield from _explain_others(task, path, stem)


def _explain_others(task: Task, path: Path, stem: str) -> Iterator[dict[str, Any]]:
    """Explain the other inputs of one picture that the user names."""
    from xaimaps._swapped import plan_swapped, swapped

    for name in task.others.explained:
        model, batch = swapped(task.model, name, path, task.max_pixels)
        jobs = plan_swapped(model, task.others.methods, task.others.options, DEFAULT_METHODS)
        own = replace(task, model=model, jobs=jobs, batch_size=1)
        record = _written(own, own.explain(batch), 0, f"{stem}-{name}")
        yield {**record, "picture": os.fspath(path)}


def _written(task: Task, found: Sequence[Attribution], index: int, stem: str) -> dict[str, Any]:
    """Draw and write the maps of one picture, and return its record."""
    from xaimaps._results.save import draw, figure_stem, save_figure, save_one

    drawings = [draw(one, index, colormap=task.colormap, alpha=task.alpha) for one in found]
    files = []
    for one, drawn in zip(found, drawings, strict=True):
        files += save_one(one, index, task.output / stem, drawn, task.format)
    if len(found) > 1 and found[0].views:
        path = task.output / f"{figure_stem(stem, found, index)}-figure.{task.format}"
        every = list(itertools.chain.from_iterable(drawings))
        files.append(save_figure(found[0].views[index], every, path))
    return _record(found, index, files)


def _record(found: Sequence[Attribution], index: int, files: Sequence[Path]) -> dict[str, Any]:
    from xaimaps._results.manifest import targets_of, vector_of

    pictures, model = found[0].pictures, found[0].model
    return {
        "picture": pictures[index].source if pictures else "",
        "input": model.input if model.inputs else "",
        "status": "ok",
        "notes": list(dict.fromkeys(note for one in found for note in one.notes(index))),
        "top": [asdict(prediction) for prediction in _top(found[0], index)],
        "boxes": _boxes(found, index),
        "methods": [
            {
                "method": one.method,
                "layer": one.layer,
                "target": str(one.target.for_image(index)),
                "targets": targets_of(one, index),
                "vector": vector_of(one, index),
                "seconds": one.seconds._asdict(),
            }
            for one in found
        ],
        "files": [str(path) for path in files],
    }


def _top(found: Attribution, index: int) -> list[Prediction]:
    """Return the top classes, if the model's outputs are classes."""
    return found.top(index=index) if found.has_classes else []


def _boxes(found: Sequence[Attribution], index: int) -> list[dict[str, Any]]:
    """Return the boxes of a detector, and whether each is one that the maps explain."""
    from xaimaps._results.manifest import box_record

    listed = found[0].boxes[index] if found[0].boxes else ()
    explained = {box for one in found for box in one.explained_boxes[index] if box is not None}
    every = sorted({*listed, *explained}, key=lambda box: -box.score)
    return [
        {**box_record(found[0].label(box.category), box), "explained": box in explained}
        for box in every
    ]


def _report(record: dict[str, Any], as_json: bool, quiet: bool) -> None:
    if record["status"] == "failed":
        click.echo(printable(f"xaimaps: {record['reason']}"), err=True)
    elif as_json:
        return
    elif quiet:
        for note in record["notes"]:
            click.echo(printable(f"xaimaps: {record['picture']}: {note}"), err=True)
    else:
        _print(record)


def _probability(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _print(record: dict[str, Any]) -> None:
    named = f"{record['input']} of " if record["input"] else ""
    click.echo(printable(f"{named}{record['picture']}"))
    if record["top"]:
        _print_classes(record["top"])
    if record["boxes"]:
        print_boxes(record["boxes"])
    print_table(
        "",
        ("method", "target", "layer", "time", "compilation"),
        [
            (
                m["method"],
                names_of(m["targets"]),
                m["layer"] or "(input)",
                f"{m['seconds']['run'] * 1e3:.0f} ms",
                f"{m['seconds']['compile']:.1f} s",
            )
            for m in record["methods"]
        ],
    )
    print_vectors(record["methods"])
    for note in record["notes"]:
        click.echo(printable(f"note: {note}"))
    _print_files([Path(file) for file in record["files"]])


def _print_files(files: Sequence[Path]) -> None:
    """Print the pictures to look at, which are the figure or the overlays, and how many files."""
    figures = [file for file in files if file.stem.endswith("-figure")]
    for file in figures or [file for file in files if file.stem.endswith("-overlay")]:
        click.echo(printable(str(file)))
    click.echo(printable(f"{files[0].parent}: {len(files)} files"))


def _print_classes(top: Sequence[dict[str, Any]]) -> None:
    print_table(
        "",
        ("class", "label", "score", "probability"),
        [
            (str(p["index"]), p["label"], f"{p['score']:.3f}", _probability(p["probability"]))
            for p in top
        ],
    )
