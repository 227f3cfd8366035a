"""`xaimaps export`: write an ONNX file with the map as a further output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xaimaps._cli.completions import complete_files
from xaimaps._cli.console import print_json, printable
from xaimaps._cli.headings import Command
from xaimaps._cli.options import json_option, layer_option, load_options, options_option
from xaimaps._cli.parsing import in_words, parse_layer, parse_options

OPTIONS = {
    "`form`": "--map",
    "`output_name`": "--output-name",
    "`target`": "--target",
    "`overlay`": "--overlay",
    "`preprocess`": "--preprocess",
}
"""The command line's names of options that errors call by their Python names."""


@click.command(cls=Command)
@click.argument("source", metavar="IN", shell_complete=complete_files("MODELS"))
@click.argument("file", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-M", "--method", default="grad_cam", show_default=True,
              help="The method; see `xaimaps methods`.")  # fmt: skip
@click.option("-t", "--target", help="A class index, a label, top-1, input (the class is an input "
              "of OUT), or all (a map of each class).  [default: top-1]")  # fmt: skip
@click.option("--picture", "pictures", multiple=True,
              help="A picture to compare on; may be given several times.  [default: the bundled "
              "photographs]")  # fmt: skip
@click.option("--map", "form", default="raw", show_default=True,
              type=click.Choice(["raw", "input", "normalised"]),
              help="Raw, resized to the input, or that with values from 0 to 1.")  # fmt: skip
@click.option("--heat-map", is_flag=True, help="Add the output heat_map, with colours as uint8.")
@click.option("--overlay", is_flag=True, help="Add the output overlay, colours over the picture.")
@click.option("--output-name", default="map", show_default=True, help="The name of the output.")
@layer_option
@options_option
@load_options
@json_option
def export(
    source: str,
    file: Path,
    method: str,
    target: str | None,
    pictures: tuple[str, ...],
    layers: tuple[str, ...],
    options: tuple[str, ...],
    loading: dict[str, Any],
    as_json: bool,
    **settings: Any,
) -> None:
    """Write the ONNX file IN with the map of a method as a further output, to OUT.

    OUT runs wherever ONNX Runtime runs, without Python. It is only written if its outputs are
    those of IN, and its maps those of the method.
    """
    from xaimaps._export import export as write

    with in_words(OPTIONS):
        outcome = write(
            source, file, method, target=target, layer=parse_layer(layers),
            pictures=list(pictures) or None, loading=loading, **settings, **parse_options(options),
        )  # fmt: skip
    if as_json:
        print_json(outcome._asdict())
    else:
        click.echo(printable("\n".join(_lines(outcome))))


def _lines(outcome: Any) -> list[str]:
    shapes = (f"{name} ({', '.join(map(str, s))})" for name, s in outcome.outputs.items())
    place = f" at {outcome.layer}" if outcome.layer else ""
    same = outcome.output_difference == 0
    outputs = "equal to the bit" if same else f"different by {outcome.output_difference:.1e}"
    return [
        f"{outcome.file}: {outcome.bytes / 1e6:.1f} MB, {outcome.growth / 1e6:.1f} MB and "
        f"{outcome.nodes} nodes more than the model",
        f"{outcome.method}{place}, target {outcome.target}; added {', '.join(shapes)}",
        f"compared on {outcome.images}: outputs {outputs}, maps different from {outcome.reference} "
        f"by {outcome.map_difference:.1e} relative",
    ]
