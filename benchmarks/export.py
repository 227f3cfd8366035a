"""Exported files in ONNX Runtime, in a process without xaimaps, against the model alone.

    uv run python -m benchmarks export [MODEL.onnx ...] [--only METHOD ...] [--preprocess tf]

Without a model, the embedded one. The maps are compared on the bundled photographs, so give the
preprocessing of a file that does not record it. The runs of the model and of the exported file are
interleaved, and the table has the medians of their times on one image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import xaimaps
from xaimaps.errors import XaimapsError

CASES: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("grad_cam", "top-1", {}),
    ("grad_cam", "all", {}),
    ("cam", "input", {}),
    ("eigen_cam", None, {}),
    ("xgrad_cam", "top-1", {}),
    ("saliency", "top-1", {}),
    ("integrated_gradients", "top-1", {"n_steps": 16}),
    ("occlusion", "top-1", {}),
)

TIMED = """
import json, statistics, sys, time
import numpy, onnxruntime

def seconds(session, given):
    start = time.perf_counter()
    session.run(None, given)
    return time.perf_counter() - start

sessions = [onnxruntime.InferenceSession(path) for path in sys.argv[1:3]]
every = {}
for one in sessions[1].get_inputs():  # which has one size of images
    size = [n if isinstance(n, int) else 1 for n in one.shape]
    every[one.name] = numpy.ones(size, "int64" if "int64" in one.type else "float32")
given = [{one.name: every[one.name] for one in each.get_inputs()} for each in sessions]
rounds = [[seconds(*pair) for pair in zip(sessions, given)] for _ in range(int(sys.argv[3]))]
assert "xaimaps" not in sys.modules
print(json.dumps([statistics.median(column) for column in zip(*rounds)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, default=[xaimaps.zoo.MODELS["default"]])
    parser.add_argument("--only", nargs="*", default=[case[0] for case in CASES])
    parser.add_argument("--preprocess")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print("| model | method | target | nodes | growth, MB | time | outputs | maps |")
    print("|---|---|---|---|---|---|---|---|")
    for model in args.models:
        for method, target, options in CASES:
            if method not in args.only:
                continue
            loading = {"preprocess": args.preprocess} if args.preprocess else None
            cells = row(model, method, target, {**options, "loading": loading}, args.rounds)
            print(
                f"| {model.stem} | {method} | {target or 'none'} | {' | '.join(cells)} |",
                flush=True,
            )


def row(
    model: Path, method: str, target: str | None, options: dict[str, Any], rounds: int
) -> list[str]:
    """Return the measurements of one export, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "explained.onnx")
        try:
            written = xaimaps.export(model, file, method, target=target, **options)
        except XaimapsError as error:
            return [str(error), "", "", "", ""]
        plain, explained = timed(model, file, rounds)
    same = "equal" if written.output_difference == 0 else f"{written.output_difference:.1e}"
    return [
        str(written.nodes),
        f"{written.growth / 1e6:.1f}",
        f"{explained / plain:.2f} x {plain * 1e3:.1f} ms",
        same,
        f"{written.map_difference:.1e}",
    ]


def timed(model: Path, file: Path, rounds: int) -> Any:
    """Return the median seconds of two files, from a process that has no xaimaps."""
    command = [sys.executable, "-c", TIMED, str(model), str(file), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
