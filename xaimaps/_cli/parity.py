"""`xaimaps parity`: compare a model between frameworks, and find where they diverge."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.completions import complete_files
from xaimaps._cli.console import print_json, print_table, printable, progress_bar
from xaimaps._cli.headings import Command
from xaimaps._cli.options import (
    DEFAULT_METHODS,
    backends_option,
    json_option,
    layer_option,
    load_options,
    method_option,
    options_option,
    target_option,
)
from xaimaps._cli.others import distinct_names, shared, with_option
from xaimaps._cli.parsing import parse_methods, parse_options, parse_pairs, parse_targets

if TYPE_CHECKING:
    from xaimaps.backend import Backend
    from xaimaps.parity import Report, Row, Tolerance


@click.command(cls=Command)
@click.argument("model", shell_complete=complete_files("MODELS"))
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@with_option("Another file of the same network to compare with MODEL; disables conversion.")
@backends_option
@load_options
@method_option(", ".join(DEFAULT_METHODS))
@target_option
@layer_option
@options_option
@click.option("--tolerance", "tolerances", multiple=True, metavar="NAME=VALUE",
              help="A tolerance that replaces the default, for input, layer, logits, gradient or "
              "a method: the smallest cosine for gradients, otherwise the largest "
              "difference.")  # fmt: skip
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Write an HTML page with the maps side by side.")  # fmt: skip
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Write JUnit XML, for the test reports of CI.")  # fmt: skip
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Write Markdown, for a comment on a pull request.")  # fmt: skip
@json_option
def parity(
    model: str,
    pictures: tuple[Path, ...],
    others: tuple[str, ...],
    backends: tuple[str, ...],
    loading: dict[str, Any],
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    layers: tuple[str, ...],
    options: tuple[str, ...],
    tolerances: tuple[str, ...],
    html: Path | None,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Compare MODEL on PICTURES between all installed frameworks.

    A Keras model runs in TensorFlow and, converted to ONNX, in ONNX Runtime and JAX. An ONNX file
    runs in ONNX Runtime and JAX. Exit status 1 means that a difference exceeds its tolerance.
    """
    from xaimaps._images.find import find_pictures
    from xaimaps._results.atomic import prepare_folder
    from xaimaps.parity import compare

    files = {"html": html, "junit": junit, "markdown": markdown}
    for file in filter(None, files.values()):
        prepare_folder(file.parent)
    allowed, names = _tolerances(tolerances), parse_methods(methods)
    models = _models(model, others, backends, loading)
    rank = len(next(iter(models.values())).input_shape) - 1
    found = find_pictures(pictures, rank=rank)
    with progress_bar() as progress:
        task = progress.add_task("comparing", total=None)
        report = compare(
            models,
            found,
            "all" if "all" in names else names or None,
            target=parse_targets(targets),
            layer=_one_layer(layers),
            tolerances=allowed,
            progress=lambda stage: progress.update(task, description=stage),
            **parse_options(options),
        )
    command = shlex.join(["xaimaps", *sys.argv[1:]])
    _show(replace(report, about={**report.about, "command": command}), files, as_json)
    sys.exit(0 if report.agrees else 1)


def _one_layer(layers: tuple[str, ...]) -> str | None:
    if len(layers) > 1:
        raise click.UsageError(f"parity takes one --layer, got {', '.join(layers)}")
    return layers[0] if layers else None


def _models(
    model: str, others: tuple[str, ...], backends: tuple[str, ...], loading: dict[str, Any]
) -> dict[str, Backend]:
    """Load the model and the other files, which are named after their files."""
    from xaimaps.parity import routes

    models = routes(model, backends, convert=not others, **loading)
    for other, label in zip(others, distinct_names(others), strict=True):
        for name, backend in routes(other, backends, convert=False, **shared(loading)).items():
            models[f"{name} ({label})"] = backend
    return models


def _tolerances(pairs: tuple[str, ...]) -> dict[str, Tolerance]:
    """Parse NAME=VALUE pairs; each replaces the bound of a tolerance."""
    from xaimaps.errors import MethodError
    from xaimaps.parity import promised

    found = {}
    for name, value in parse_pairs(pairs).items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise MethodError(f"a tolerance must be NAME=NUMBER, got {name}={value!r}")
        found[name] = promised(name).at(value)
    return found


def _show(report: Report, files: Mapping[str, Path | None], as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report)
    for form, file in files.items():
        if file is not None:
            _write(report, form, file)
            click.echo(printable(str(file)), err=as_json)


def _print(report: Report) -> None:
    print_table(
        f"compared with {report.reference}",
        ("backend", "what", "", "status", "relative", "cosine", "tolerance"),
        [_cells(row) for row in report.summary()],
    )
    for line in (*report.notes, *map(report.verdict, report.backends)):
        click.echo(printable(line))


def _cells(row: Row) -> tuple[str, ...]:
    about = (row.backend, row.kind, row.name, row.status)
    if row.measures is None:
        return (*about, "", "", row.note)
    numbers = (f"{row.measures.relative:.1e}", f"{row.measures.cosine:.6f}")
    return (*about, *numbers, str(row.tolerance))


def _write(report: Report, form: str, path: Path) -> None:
    from xaimaps._results.atomic import write_atomic
    from xaimaps.parity._formats import junit, markdown
    from xaimaps.parity._html import page

    make = {"html": page, "junit": junit, "markdown": markdown}[form]
    text = make(report).encode("utf-8", "backslashreplace")
    write_atomic(path, lambda file: file.write(text))
