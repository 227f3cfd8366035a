"""Every method on every model in every framework, as docs/parity-results.md.

    uv run --group frameworks python benchmarks/parity_results.py [NAME ...] [--jobs 2]

Each model runs in a process of its own, which takes minutes for the large ones. Keras's
applications take images of 96 x 96 here, which all of them do; methods that repeat a pass take
fewer steps; and of methods that are one formula over the same activations and gradients, one
stands for all, unless --all says otherwise; FullGrad is left out.
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

import xaimaps
from xaimaps.methods import METHODS
from xaimaps.parity import Report, compare, routes
from xaimaps.testing.keras_models import LARGE, SMALL, images_for, preset_for

QUICK: dict[str, Any] = {"n_steps": 8, "n_samples": 4, "channels": 12, "n_masks": 32}
ALIKE = {
    *("input_x_gradient", "expected_gradients", "smoothgrad_squared", "vargrad", "deconvnet"),
    *("grad_cam_plusplus", "xgrad_cam", "hires_cam", "smooth_grad_cam_plusplus", "eigen_grad_cam"),
    *("finer_cam", "ss_cam", "is_cam", "guided_grad_cam", "blur_ig"),
    "fullgrad",  # XLA takes minutes to compile it for a deep network
}
"""What is left out for the large models."""

EMBEDDED = "EfficientNet-Lite0, trained"
PAGE = Path(__file__).parents[1] / "docs" / "parity-results.md"
TABLE = "<!-- table -->\n"
COLUMNS = (
    *("model", "layers", "logits over deviation", "worst layer", "input gradient, cosine"),
    *("CAM", "Grad-CAM", "methods in JAX", "methods in ONNX Runtime", "seconds"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--child", action="store_true")
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.names[0], is_whole=args.all)))
        return
    names = args.names or [*SMALL, EMBEDDED, *LARGE]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda name: row(name, ["--all"] * args.all), names))
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    before = PAGE.read_text().partition(TABLE)[0]
    PAGE.write_text(before + TABLE + "\n" + head + "\n".join(rows) + "\n")


def measured(name: str, *, is_whole: bool) -> dict[str, Any]:
    """In the child: the comparison and how long it took."""
    start = time.perf_counter()
    models = routes({**SMALL, **LARGE}[name]() if name != EMBEDDED else "default")
    images: Any = xaimaps.zoo.PICTURES["chelsea"]
    if name != EMBEDDED:
        images = images_for(name, 1)
        for model in models.values():
            model.info.preprocess = xaimaps.PRESETS[preset_for(name)]
    few = [method for method in METHODS if method not in ALIKE]
    is_whole = is_whole or name not in LARGE
    report = compare(models, images, "all" if is_whole else few, **QUICK)
    return {**summary(report), "seconds": time.perf_counter() - start}


def summary(report: Report) -> dict[str, Any]:
    found = {row.name: row for row in report.of("jax")}
    layers = [row.measures for row in report.of("jax", "layer") if row.measures is not None]
    measures = {name: row.measures._asdict() for name, row in found.items() if row.measures}
    return {
        "layers": len(layers),
        "worst": max(one.relative for one in layers),
        "logits": measures["output"]["spread"],
        "gradient": report.of("jax", "gradient")[0].measures.cosine,
        "cam": measures.get("cam", {}).get("relative"),
        "grad_cam": measures.get("grad_cam", {}).get("relative"),
        **{name: [[r.name, r.status] for r in report.of(name, "map")] for name in report.backends},
        "verdicts": [report.verdict(name) for name in report.backends],
        "outside": [row.as_dict() for row in report.rows if row.status == "differs"],
    }


def row(name: str, options: list[str]) -> str:
    """One line of the table, from a process of its own."""
    child = subprocess.run(
        [sys.executable, __file__, "--child", name, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if child.returncode:
        print(name, child.stderr[-2000:], file=sys.stderr, flush=True)
        return f"| {name} | failed{' |' * (len(COLUMNS) - 1)}"
    found = json.loads(child.stdout.splitlines()[-1])
    print(name, json.dumps(found), file=sys.stderr, flush=True)
    numbers = [found[key] for key in ("logits", "worst")]
    cells = [
        name,
        str(found["layers"]),
        *(f"{number:.0e}" for number in numbers),
        f"{found['gradient']:.6f}",
        *("" if found[key] is None else f"{found[key]:.0e}" for key in ("cam", "grad_cam")),
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
