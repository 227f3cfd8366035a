"""Grad-CAM and saliency in JAX over the network's forward pass in JAX.

    uv run --group frameworks python -m benchmarks over_forward [--only NETWORK ...] [--batch 1 8]

All three run in turns, from images in numpy to maps in numpy: the methods as a user's calls, the
forward pass as a compiled program. The process keeps its memory, as the command line does and
`xaimaps.keep_memory` in Python. Written to benchmarks/results/over-forward-cpu.md, or -gpu.md,
whose table is part of docs/performance.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax

from benchmarks._timing import interleaved, machine, medians
from benchmarks.peers.cases import FORWARD, FULL, LENGTHS
from benchmarks.peers.networks import MAKERS, network, photographs
from benchmarks.peers.ours import in_jax
from xaimaps._memory import keep_memory

RESULTS = Path(__file__).parent / "results"
RUNS = (FORWARD, "grad_cam", "saliency")
HEAD = """# Over one forward pass

Written by `python -m benchmarks over_forward`, on {machine}. The time of a user's call in JAX, from
images in numpy to maps in numpy, over that of the forward pass alone; the latter in milliseconds
for each image. The process keeps freed memory, as the command line does.

| network | images | forward pass, ms | Grad-CAM | saliency |
|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[*MAKERS], choices=MAKERS, metavar="NETWORK")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    keep_memory()
    rows = [row(name, size, args.rounds) for name in args.only for size in args.batch]
    page = HEAD.format(machine=machine("jax", "jaxlib")) + "".join(rows)
    (RESULTS / f"over-forward-{jax.default_backend()}.md").write_text(page)
    print(page)


def row(name: str, size: int, rounds: int) -> str:
    """Return the row of a network and a number of images."""
    calls = in_jax(network(name), photographs(size), "float32", LENGTHS[FULL])
    runs = {one: calls[one] for one in RUNS}
    for run in runs.values():
        run()  # which compiles it
    found = medians(interleaved(runs, rounds))
    alone = found[FORWARD]
    return (
        f"| {name} | {size} | {alone / size * 1e3:.3g} | {found['grad_cam'] / alone:.2f} | "
        f"{found['saliency'] / alone:.2f} |\n"
    )


def table(device: str) -> str:
    """Return the table of the written page."""
    page = (RESULTS / f"over-forward-{device}.md").read_text()
    return page[page.index("| network") :].rstrip()


if __name__ == "__main__":
    main()
