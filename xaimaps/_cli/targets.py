"""`xaimaps targets`: what can be asked of a model on one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.completions import complete_files
from xaimaps._cli.console import load_model, print_boxes, print_json, print_table, printable
from xaimaps._cli.headings import Command
from xaimaps._cli.options import backend_option, json_option, load_options

if TYPE_CHECKING:
    from xaimaps._prepare import Batch

MOST_ROWS = 10
"""The number of classes in the text; JSON has all of them."""


@click.command(cls=Command)
@click.argument("model", shell_complete=complete_files("MODELS"))
@click.argument("picture", type=click.Path(path_type=Path))
@backend_option
@load_options
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Draw the boxes of a detector on the picture, in this file.")  # fmt: skip
@json_option
def targets(
    model: str,
    picture: Path,
    backend: str | None,
    loading: dict[str, Any],
    output: Path | None,
    as_json: bool,
) -> None:
    """List what can be asked of MODEL on PICTURE: the texts that -t takes."""
    from xaimaps import _choices
    from xaimaps._prepare import prepare
    from xaimaps.targets import Scene

    loaded = load_model(model, backend, loading)
    batch = prepare(loaded, picture)
    scene = Scene(loaded, batch.images)
    found: dict[str, Any] = {
        "model": loaded.info.name,
        "outputs": list(_choices.outputs(scene)),
        "classes": list(_choices.classes(scene)),
        "regions": list(_choices.regions(scene)),
        "boxes": list(_choices.boxes(scene)),
        "text": list(_choices.characters(scene)),
        "notes": loaded.info.notes,
    }
    if output is not None:
        _draw(found["boxes"], batch, output)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _draw(boxes: Sequence[dict[str, Any]], batch: Batch, path: Path) -> None:
    from PIL import Image

    from xaimaps._results.atomic import prepare_folder
    from xaimaps._results.formats import format_of, write_picture
    from xaimaps._results.render import outlined

    format_of(path)
    prepare_folder(path.parent)
    names = [f"{rank} {box['label']}" for rank, box in enumerate(boxes, 1)]
    corners = [box["corners"] for box in boxes]
    write_picture(path, Image.fromarray(outlined(batch.views[0], corners, batch.size, names)))


def _print(found: dict[str, Any]) -> None:
    outputs = [
        ("*" if one["explained"] else "", one["name"], " x ".join(map(str, one["shape"])))
        for one in found["outputs"]
    ]
    print_table(f"outputs of {found['model']}; * is explained", ("", "output", "shape"), outputs)
    if found["classes"]:
        best = found["classes"][:MOST_ROWS]
        rows = [(one["target"], one["label"], f"{one['score']:.3f}") for one in best]
        print_table("", ("target", "label", "score"), rows)
    if found["regions"]:
        rows = [(one["target"], one["label"], f"{one['area']:.1%}") for one in found["regions"]]
        print_table("", ("target", "label", "area"), rows)
    if found["boxes"]:
        print_boxes(found["boxes"])
    if found["text"]:
        rows = [(one["target"], one["label"], f"{one['score']:.3f}") for one in found["text"]]
        print_table("", ("target", "character", "score"), rows)
    for hint in _hints(found):
        click.echo(printable(hint))


def _hints(found: dict[str, Any]) -> Iterator[str]:
    """Yield sentences on what else can be asked."""
    if len(found["classes"]) > MOST_ROWS:
        yield f"and {len(found['classes']) - MOST_ROWS} more classes; --json lists all"
    if found["boxes"]:
        yield "targets: box:NUMBER, box@X,Y, or a class for its best box"
    if last := ",".join(str(size - 1) for size in found["outputs"][0]["shape"][1:]):
        yield f"one number of the outputs, from 0: output:{last} is the last"
    yield from (f"note: {note}" for note in found["notes"])
