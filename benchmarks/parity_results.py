"""Every method on every model in every framework, as benchmarks/results/parity.md.

    uv run --group frameworks python -m benchmarks parity_results [NAME ...] [--jobs 2]

Each model runs in a process of its own, which takes minutes for the large ones. Keras's
applications take images of 96 x 96 here, which all of them do, and methods that repeat a pass take
fewer steps. Rows of models that are not named stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from xaimaps_tensorflow.testing.models import LARGE, SMALL, images_for, preset_for

import xaimaps
from xaimaps.backend import INPUT
from xaimaps.parity import Report, compare, routes

QUICK: dict[str, Any] = {"n_steps": 8, "n_samples": 4, "channels": 12, "n_masks": 32}
EMBEDDED = "EfficientNet-Lite0, trained"
MODELS = (*SMALL, EMBEDDED, *LARGE)
PAGE = Path(__file__).parent / "results" / "parity.md"
TABLE = "<!-- table -->\n"
COLUMNS = (
    *("model", "layers", "logits over deviation", "worst layer", "input gradient, cosine"),
    *(
        "CAM",
        "Grad-CAM",
        "Guided IG, cosine",
        "methods in JAX",
        "methods in ONNX Runtime",
        "seconds",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--child", action="store_true")
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.names[0])))
        return
    names = args.names or MODELS
    with ThreadPoolExecutor(args.jobs) as pool:
        for name, line in zip(names, pool.map(row, names), strict=True):
            if line is not None:
                put(name, line)


def put(name: str, line: str) -> None:
    """Write one row of the page, at once, for the next one may take an hour."""
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    before, _, old = PAGE.read_text().partition(TABLE)
    rows = {**_rows(old), name: line}
    lines = [rows[model] for model in MODELS if model in rows]
    PAGE.write_text(before + TABLE + "\n" + head + "\n".join(lines) + "\n")


def _rows(table: str) -> dict[str, str]:
    """The lines of a table by their first cells."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines}


def measured(name: str) -> dict[str, Any]:
    """In the child: the comparison and how long it took."""
    start = time.perf_counter()
    models = routes({**SMALL, **LARGE}[name]() if name != EMBEDDED else "default")
    images: Any = xaimaps.zoo.PICTURES["chelsea"]
    if name != EMBEDDED:
        images = images_for(name, 1)
        for model in models.values():
            model.info.preprocess = xaimaps.PRESETS[preset_for(name)]
    report = compare(models, images, "all", **QUICK)
    return {**summary(report), "seconds": time.perf_counter() - start}


def summary(report: Report) -> dict[str, Any]:
    found = {row.name: row for row in report.of("jax")}
    layers = [row.measures for row in report.of("jax", "layer") if row.measures is not None]
    measures = {name: row.measures._asdict() for name, row in found.items() if row.measures}
    return {
        "layers": len(layers),
        "worst": max(one.relative for one in layers),
        "logits": measures["output"]["spread"],
        "gradient": measures[INPUT]["cosine"],  # its gradient comes after the image itself
        "cam": measures.get("cam", {}).get("relative"),
        "grad_cam": measures.get("grad_cam", {}).get("relative"),
        "guided_ig": f"{measures['guided_ig']['cosine']:.3f} ({found['guided_ig'].tolerance})",
        **{name: [[r.name, r.status] for r in report.of(name, "map")] for name in report.backends},
        "verdicts": [report.verdict(name) for name in report.backends],
        "outside": [row.as_dict() for row in report.rows if row.status == "differs"],
    }


def row(name: str) -> str | None:
    """One line of the table, from a process of its own; None if that failed."""
    child = subprocess.run(
        [sys.executable, __file__, "--child", name],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if child.returncode:
        print(name, child.stderr[-2000:], file=sys.stderr, flush=True)
        return None
    found = json.loads(child.stdout.splitlines()[-1])
    print(name, json.dumps(found), file=sys.stderr, flush=True)
    return as_line(name, found)


def as_line(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [
        name,
        str(found["layers"]),
        *(f"{found[key]:.0e}" for key in ("logits", "worst")),
        f"{found['gradient']:.6f}",
        *("" if found[key] is None else f"{found[key]:.0e}" for key in ("cam", "grad_cam")),
        found["guided_ig"].replace("cosine ", ""),
        *(_methods(found[backend]) for backend in ("jax", "onnxruntime")),
        f"{found['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _methods(rows: list[list[str]]) -> str:
    """How many of those that could be compared agree, and which do not."""
    compared = [(name, status) for name, status in rows if status != "skipped"]
    differing = [name for name, status in compared if status == "differs"]
    agreed = f"{len(compared) - len(differing)} of {len(compared)}"
    return f"{agreed}: not {', '.join(differing)}" if differing else agreed


if __name__ == "__main__":
    main()
