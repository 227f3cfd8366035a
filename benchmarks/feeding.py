"""How much of the compiled program's rate a user's call has, from numpy and from JPEG files.

    uv run --group frameworks python -m benchmarks feeding [--images 4096] [--batch 256]

Each method explains the same images by its compiled program alone, whose images are on the device
and whose maps stay there; by `attribute`, from numpy to numpy; and by `explain`, from JPEG files.
Written to benchmarks/results/feeding-cpu.md, or -gpu.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

import xaimaps
from benchmarks._pictures import photographs
from benchmarks._timing import Call, interleaved, machine, medians
from benchmarks.peers.cases import CLASS
from benchmarks.peers.networks import EMBEDDED, MAKERS, network
from xaimaps._prepare import prepare
from xaimaps.methods import METHODS
from xaimaps.targets import as_target

RESULTS = Path(__file__).parent / "results"
NETWORKS = (EMBEDDED, "ResNet50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=NETWORKS, choices=MAKERS, metavar="NETWORK")
    parser.add_argument("--methods", nargs="+", default=["grad_cam", "saliency"])
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=256)
    args = parser.parse_args()
    rows = [row for name in args.only for row in measured(name, args)]
    page = HEAD.format(machine=machine("jax", "jaxlib"), **vars(args)) + "".join(rows)
    (RESULTS / f"feeding-{jax.default_backend()}.md").write_text(page)
    print(page)


HEAD = """# From images to maps

Images per second, on {machine}, {images} images in batches of {batch}; written by
`python -m benchmarks feeding`. `program` is the compiled one alone, whose images and maps are on
the device; in brackets the share of its rate.

| network | method | program | `attribute`, numpy to numpy | `explain`, JPEG files |
|---|---|---|---|---|
"""


def measured(name: str, args: argparse.Namespace) -> list[str]:
    """Return the rows of a network."""
    model = xaimaps.load(network(name).file, backend="jax", preprocess="tf")
    with tempfile.TemporaryDirectory() as folder:
        files = photographs(Path(folder), args.images)
        images = np.concatenate([prepare(model, file).images for file in files[: args.batch]])
        whole = np.resize(images, (args.images, *images.shape[1:]))
        return [
            row(name, method, len(whole), calls(model, method, whole, files, args.batch))
            for method in args.methods
        ]


def calls(
    model: xaimaps.Backend, method: str, images: np.ndarray[Any, Any], files: list[str], size: int
) -> dict[str, Call]:
    """Return the three ways to the maps of all images, by their column."""
    batch, settings = model.asarray(images[:size]), {"target": CLASS, "batch_size": size}
    target = as_target(CLASS, size, None)
    program = model.compile(lambda b, x: METHODS[method].fn(b, x, target).maps, batch)

    def alone() -> None:
        jax.block_until_ready([program(batch) for _ in range(0, len(images), size)])

    return {
        "program": alone,
        "attribute": lambda: xaimaps.attribute(model, images, method, **settings),
        "explain": lambda: xaimaps.explain(model, files, method, **settings),
    }


def row(name: str, method: str, images: int, runs: dict[str, Call]) -> str:
    """Return the row of a method: images per second, after a first run that compiles."""
    for run in runs.values():
        run()
    rates = {way: images / seconds for way, seconds in medians(interleaved(runs)).items()}
    alone = rates["program"]
    cells = [f"{rate:.1f} ({rate / alone:.0%})" for rate in rates.values()]
    return f"| {name} | {method} | {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
