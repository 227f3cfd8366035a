"""`xaimaps convert`: convert a Keras model to ONNX, in a separate process."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.completions import complete_files
from xaimaps._cli.console import print_json, printable
from xaimaps._cli.headings import Command
from xaimaps._cli.options import (
    WORDS,
    json_option,
    preprocess_option,
    unsafe_option,
    weights_option,
)
from xaimaps._cli.parsing import in_words

if TYPE_CHECKING:
    from xaimaps._exporters import Exported, Exporter

OPTIONS = {"`output`": "--output", "`layers`": "--layer"}
"""The command line's names of options that errors call by their Python names."""


@click.command(cls=Command)
@click.argument("source", metavar="IN", shell_complete=complete_files("MODELS"))
@click.argument("file", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-l", "--layer", "layers", multiple=True,
              help="A layer to keep in the file; may be given several times.  [default: all that "
              "its graph contains]")  # fmt: skip
@click.option("--opset", default=18, show_default=True, type=click.IntRange(13, 18),
              help="The ONNX opset version.")  # fmt: skip
@click.option("--output", help="The name of the output, if the model has several.")
@click.option("--labels", help="The name of an embedded list of labels: imagenet-1k.")
@preprocess_option
@weights_option
@unsafe_option
@json_option
def convert(source: str, file: Path, as_json: bool, **options: Any) -> None:
    """Convert the Keras model IN to the ONNX file OUT.

    IN is a .keras or .h5 file, keras:NAME, or default. The file keeps the layers' names and the
    exact weights. OUT is only written if its outputs equal those of IN within rounding.
    """
    exporter = _exporter(file)
    folder = _room(file.parent)
    from xaimaps._results.atomic import output_errors

    with output_errors(file):
        scratch = tempfile.TemporaryDirectory(prefix=".xaimaps-", dir=folder)
    with scratch as place:
        part = Path(place) / "model.onnx"
        with in_words(WORDS | OPTIONS):
            outcome = exporter.export(source, part, loud="--debug" in sys.argv, **options)
        _put(part, file)
    if as_json:
        print_json({"file": str(file), **dataclasses.asdict(outcome)})
    else:
        click.echo(printable("\n".join(_lines(file, outcome))))


def _room(folder: Path) -> Path:
    """Return the nearest existing folder, so that a failure leaves no new one."""
    from xaimaps._results.atomic import prepare_folder

    there = (place for place in (folder, *folder.parents) if os.access(place, os.F_OK))
    return prepare_folder(next(there))


def _exporter(file: Path) -> Exporter:
    from xaimaps._exporters import find_exporter, installed
    from xaimaps.errors import OutputError

    suffix, known = file.suffix.lower(), [exporter.suffix for exporter in installed()]
    if known and suffix not in known:
        raise OutputError(f"OUT must end in {' or '.join(known)}, got {str(file)!r}")
    exporter = find_exporter(suffix)
    exporter.require()
    return exporter


def _put(part: Path, file: Path) -> None:
    from xaimaps._results.atomic import prepare_folder
    from xaimaps.errors import OutputError

    prepare_folder(file.parent)
    try:
        part.replace(file)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(file)!r} ({error.strerror}); choose another name"
        ) from None


def _lines(file: Path, outcome: Exported) -> list[str]:
    peak = outcome.peak_bytes
    memory = "" if peak is None else f", {peak / 1e9:.1f} GB of peak memory"
    lines = [
        f"{file}: {outcome.bytes / 1e6:.1f} MB, {outcome.layers} of {outcome.of} layers by name",
        f"largest difference from Keras: {outcome.difference:.1e} relative",
        f"{outcome.seconds:.0f} s{memory}",
    ]
    if outcome.lost:
        lost = ", ".join(outcome.lost[:8]) + (" ..." if len(outcome.lost) > 8 else "")
        lines.append(f"layers without a tensor in the graph: {lost}; --layer NAME keeps one")
    return lines
