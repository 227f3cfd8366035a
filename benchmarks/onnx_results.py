"""Real ONNX files in JAX: forward errors, what the analysis finds, gradients against PyTorch.

    uv run python -m benchmarks onnx_results FOLDER [--only PART ...] [--json FILE]
    JAX_ENABLE_X64=1 uv run python -m benchmarks onnx_results FOLDER --float64 --only torchvision

FOLDER holds exported models, as `backends/jax/tests/graphs/make_graphs.py` writes them. A file
`NAME.npz` beside `torchvision-NAME-*.onnx` holds PyTorch's gradients. Errors are the largest
difference over the largest value, of the logits; ONNX Runtime gives the true ones.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import xaimaps
from xaimaps.backend import Backend
from xaimaps.errors import LayerError, XaimapsError
from xaimaps.targets import as_target

BATCHES = (1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = [p for p in sorted(args.folder.glob("*.onnx")) if any(o in p.name for o in args.only)]
    measure = input_gradient if args.float64 else forward
    rows = []
    for path in paths:
        rows.append({"model": path.stem, **measure(path)})
        print(json.dumps(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(as_table(rows))


def forward(path: Path) -> dict[str, Any]:
    """The row of a model in float32."""
    begin = time.perf_counter()
    try:
        backend = xaimaps.load(path)
    except XaimapsError as error:
        return {"error": str(error)}
    loaded = time.perf_counter() - begin
    layer = backend.default_layer()
    row = {
        "layer": f"{layer.aliases[-1] if layer.aliases else layer.name}",
        "shape": "x".join(str(size or "?") for size in layer.shape[1:]),
        "head": head(backend),
        "load_s": loaded,
    }
    true = logits_of_runtime(path)
    for batch in BATCHES:
        row |= {f"{key}_{batch}": v for key, v in forward_error(backend, true, batch).items()}
    return {**row, **grad_cam_seconds(backend), **layer_gradient(path, backend)}


def head(backend: Backend) -> str:
    try:
        is_default = backend.classifier().layer == backend.default_layer().name
        return "yes" if is_default else "another layer"
    except LayerError:
        return "none"


def images_for(backend: Backend, batch: int) -> Any:
    height, width, channels = (size or 224 for size in backend.input_shape)
    images = np.random.default_rng(1).normal(size=(batch, height, width, channels))
    return images.astype(np.float32)


def forward_error(backend: Backend, true: Any, batch: int) -> dict[str, Any]:
    images = images_for(backend, batch)
    begin = time.perf_counter()
    compiled = backend.compile(lambda backend, images: backend.forward(images), images)
    seconds = time.perf_counter() - begin
    found, expected = (np.asarray(f(images)).reshape(batch, -1) for f in (compiled, true))
    return {
        "error": relative(found, expected),
        "argmax": bool((found.argmax(1) == expected.argmax(1)).all()),
        "compile_s": seconds,
    }


def relative(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def logits_of_runtime(path: Path) -> Any:
    """What ONNX Runtime gives for the value before the last softmax."""
    backend = xaimaps.load(path, backend="onnxruntime")
    return lambda images: backend.to_numpy(backend.forward(backend.asarray(images)))


def grad_cam_seconds(backend: Backend) -> dict[str, Any]:
    """How long Grad-CAM takes to compile, and whether its gradient is more than zeros."""
    images, layer = images_for(backend, 1), backend.default_layer().name
    target = as_target(0, 1, None)
    begin = time.perf_counter()
    compiled = backend.compile(lambda b, images: b.grad(images, target, wrt=layer), images)
    seconds = time.perf_counter() - begin
    return {"grad_compile_s": seconds, "grad_any": bool(np.any(compiled(images).gradients))}


def reference(path: Path) -> Any:
    """PyTorch's values for a torchvision model, if they were made."""
    file = path.with_name(path.stem.split("-")[1] + ".npz")
    return np.load(file) if path.stem.startswith("torchvision") and file.exists() else None


def layer_gradient(path: Path, backend: Backend) -> dict[str, Any]:
    """The gradient at the default layer, and to the images as the worst 1 - cosine."""
    true = reference(path)
    if true is None:
        return {}
    at_layer, at_input = gradients(backend, true, np.float32)
    worst = max(1 - cosine(a, b) for a, b in zip(at_input, true["input32"], strict=True))
    return {"layer_gradient": relative(at_layer, true["layer32"]), "input_cosine": worst}


def cosine(a: Any, b: Any) -> float:
    a, b = (np.ravel(x).astype(np.float64) for x in (a, b))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def gradients(backend: Backend, true: Any, dtype: Any) -> tuple[Any, Any]:
    images = jnp.asarray(true["images"], dtype)
    target = as_target(true["target"], len(images), None)
    layer = backend.default_layer().name

    def gradient(**at: Any) -> Any:
        run = backend.compile(lambda b, x: b.grad(x, target, **at).gradients, images)
        return np.asarray(run(images))

    return gradient(wrt=layer), gradient()


def input_gradient(path: Path) -> dict[str, Any]:
    """The row of a model in float64."""
    true = reference(path)
    if true is None:
        return {}
    backend: Any = xaimaps.load(path)
    backend.params = jax.tree.map(
        lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, backend.params
    )
    at_layer, at_input = gradients(backend, true, np.float64)
    assert at_input.dtype == np.float64, "run with JAX_ENABLE_X64=1"
    return {
        "layer_gradient_64": relative(at_layer, true["layer64"]),
        "input_gradient_64": relative(at_input, true["input64"]),
    }


def as_table(rows: list[dict[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(keys)} |", "|" + " --- |" * len(keys)]
    lines += [f"| {' | '.join(as_text(row.get(key, '')) for key in keys)} |" for row in rows]
    return "\n".join(lines)


def as_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if abs(value) < 0.1 else f"{value:.1f}"
    return f"`{value}`" if isinstance(value, str) and "/" in value else str(value)


if __name__ == "__main__":
    main()
