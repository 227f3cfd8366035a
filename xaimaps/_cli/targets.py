"""`xaimaps targets`: what can be asked of a model on one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.console import load_model, print_boxes, print_json, print_table, printable
from xaimaps._cli.options import backend_option, json_option, load_options

if TYPE_CHECKING:
    from xaimaps._prepare import Batch
    from xaimaps.targets import Scene

MOST_ROWS = 10
"""The number of classes in the text; JSON has all of them."""


@click.command()
@click.argument("model")
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
    from xaimaps._prepare import prepare
    from xaimaps.targets import Scene

    loaded = load_model(model, backend, loading)
    batch = prepare(loaded, picture)
    scene = Scene(loaded, batch.images)
    found: dict[str, Any] = {
        "model": loaded.info.name,
        "outputs": list(_outputs(scene)),
        "classes": list(_classes(scene)),
        "regions": list(_regions(scene)),
        "boxes": list(_boxes(scene)),
        "text": list(_characters(scene)),
        "notes": loaded.info.notes,
    }
    if output is not None:
        _draw(found["boxes"], batch, output)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _outputs(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the outputs; the first is explained, and --load output=NAME chooses another."""
    own = scene.backend.network.output_name
    yield {"name": own, "shape": list(scene.outputs.shape), "explained": True}
    for name, value in scene.backend.named_outputs(scene.images).items():
        if name != own:
            yield {"name": name, "shape": list(value.shape), "explained": False}


def _classes(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the classes of a classifier, or of a detector by their best boxes, best first."""
    import numpy as np

    from xaimaps.targets import class_scores, is_binary

    if scene.is_detector:
        scores = scene.detector[0].scores.max(axis=0)
    elif scene.outputs.ndim > 2 or not scene.has_classes:
        return
    else:
        scores = class_scores(np, scene.outputs, is_binary=is_binary(scene.labels))[0]
    known = np.flatnonzero(scores) if scene.is_detector else np.arange(scores.size)
    for index in known[np.argsort(-scores[known], kind="stable")].tolist():
        yield {**_named(scene, index), "score": float(scores[index])}


def _regions(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the classes that a segmentation predicts, with their share of the area."""
    import numpy as np

    from xaimaps.targets import predicted_classes

    if not scene.is_segmentation:
        return
    indices, counts = np.unique(predicted_classes(scene)[0], return_counts=True)
    for index, count in sorted(zip(indices.tolist(), counts, strict=True), key=lambda p: -p[1]):
        if index >= 0:
            row = _named(scene, index)
            yield {**row, "target": f"class:{row['target']}", "area": float(count / counts.sum())}


def _boxes(scene: Scene) -> Iterator[dict[str, Any]]:
    from xaimaps._results.manifest import box_record

    for rank, box in enumerate(scene.boxes[0] if scene.boxes else (), 1):
        label = _named(scene, box.category)["label"]
        yield {"target": f"box:{rank}", **box_record(label, box)}


def _characters(scene: Scene) -> Iterator[dict[str, Any]]:
    """Yield the characters that a recogniser reads, with the step of each."""
    for position, one in enumerate(scene.text[0] if scene.is_text else (), 1):
        label = _named(scene, one.category)["label"]
        score = float(scene.outputs[0, one.step, one.category])
        yield {
            "target": f"text:{position}",
            "class": one.category,
            "label": label,
            "step": one.step,
            "score": score,
        }


def _named(scene: Scene, index: int) -> dict[str, Any]:
    """Return the text of a class as a target, its index and its label."""
    from xaimaps.targets import ClassSpec

    labels = scene.labels or ()
    label = labels[index] if index < len(labels) else f"class {index}"
    is_unique = sum(one.casefold() == label.casefold() for one in labels) == 1
    return {"target": str(ClassSpec(label if is_unique else index)), "class": index, "label": label}


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
