"""`xaimaps describe`: write what a model needs into a file next to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import load_model, printable
from xaimaps._cli.headings import Command
from xaimaps._cli.options import backend_option, load_options

if TYPE_CHECKING:
    from xaimaps._sidecar import Sidecar


@click.command(cls=Command)
@click.argument("model", type=click.Path(path_type=Path))
@backend_option
@load_options
@click.option("-l", "--layer", help="The default layer of the CAM methods.")
def describe(
    model: Path,
    backend: str | None,
    loading: dict[str, Any],
    layer: str | None,
) -> None:
    """Write how MODEL takes its pictures into a file next to it.

    All commands and `load` read it: model.xaimaps.toml for model.onnx. What it said before stays,
    unless it is given again.
    """
    from xaimaps._results.atomic import write_atomic
    from xaimaps._sidecar import read_sidecar, sidecar_path, sidecar_text

    loaded = load_model(str(model), backend, loading)
    if layer is not None:
        loaded.find_map_layer(layer)
    names = ("preprocess", "fit", "window", "labels", "input_size")
    given = {"layer": layer} | {name: loading.get(name) for name in names}
    path = sidecar_path(model)
    told = _relative(read_sidecar(model).with_arguments(**given), path.parent)
    text = sidecar_text(told)
    write_atomic(path, lambda file: file.write(text.encode()))
    click.echo(printable(f"{path}\n{text}"), nl=False)


def _relative(told: Sidecar, folder: Path) -> Sidecar:
    """Return the same with the path of the labels relative to the folder."""
    from dataclasses import replace

    from xaimaps import zoo

    if not isinstance(told.labels, str) or told.labels in zoo.LABELS:
        return told
    return replace(told, labels=Path(os.path.relpath(told.labels, folder)).as_posix())
