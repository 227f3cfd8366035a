"""One network in every library of JAX: largest differences of values, and what tracing costs.

    uv run --group frameworks python -m benchmarks jax_libraries

The reference is the same network as a plain function, differentiated by hand with `jax.vjp`. Each
difference is relative to the largest absolute value of the reference.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NETWORKS = Path(__file__).parents[1] / "backends" / "jax" / "tests" / "networks"
sys.path.insert(0, str(NETWORKS))

import haiku as hk  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import resnets  # noqa: E402

import xaimaps  # noqa: E402

WEIGHTS = resnets.weights()
IMAGES = np.random.default_rng(1).normal(size=(2, *resnets.SHAPE)).astype(np.float32)
METHODS = ("saliency", "integrated_gradients", "guided_backprop", "cam", "fullgrad")
BLOCKS = [name for name, *_ in resnets.BLOCKS]


def models() -> dict[str, Any]:
    """Return the network in each library that runs in this process."""
    objects = {
        "Flax linen": (resnets.LinenResNet(), resnets.linen_variables(WEIGHTS)),
        "Flax NNX": (resnets.nnx_model(WEIGHTS),),
        "Equinox": (resnets.eqx_model(WEIGHTS),),
        "Haiku": (hk.transform_with_state(resnets.haiku_network), resnets.haiku_variables(WEIGHTS)),
    }
    return {name: xaimaps.load(*given) for name, given in objects.items()}


def grad_cam_by_hand(block: str) -> Any:
    """Return Grad-CAM at a block, by a split of the plain function."""

    def rest(x: Any) -> Any:
        for name, _, _, stride in resnets.BLOCKS[BLOCKS.index(block) + 1 :]:
            x = resnets.block(WEIGHTS[name], x, stride)
        return resnets.head(WEIGHTS, x)[:, 1].sum()

    value = resnets.features(WEIGHTS, IMAGES, block)
    weights = jax.grad(rest)(value).mean((1, 2), keepdims=True)
    return np.maximum((weights * value).sum(-1), 0)


def difference(found: Any, expected: Any) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def row(model: Any, reference: dict[str, Any]) -> dict[str, float]:
    """Return the differences of one library."""
    found = {"logits": difference(model.forward(IMAGES), resnets.plain(WEIGHTS, IMAGES))}
    for method in METHODS:
        maps = xaimaps.attribute(model, IMAGES, method, target=1).maps
        found[method] = difference(maps, reference[method])
    names = [layer.name for layer in model.layers()]
    for block in BLOCKS:
        in_list = block.replace("_", "/")
        layer = in_list if in_list in names else block
        maps = xaimaps.attribute(model, IMAGES, "grad_cam", target=1, layer=layer).maps
        found[f"grad_cam {block}"] = difference(maps, reference[block])
    return found


def keras_row(framework: str, file: Path) -> dict[str, float]:
    """Return the differences of Keras on a framework, which needs a process of its own."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": framework}
    methods = (*METHODS, *(f"grad_cam {block}" for block in BLOCKS))
    command = [sys.executable, str(NETWORKS / "keras_on_jax.py"), str(file), *methods]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    errors: dict[str, float] = json.loads(done.stdout)["errors"]
    return errors


def seconds(run: Callable[[], None], count: int = 9) -> float:
    """Return the shortest time of several runs."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def tracing() -> float:
    """Return the time to trace the network for a layer, relative to `jax.make_jaxpr`."""
    module, variables = resnets.LinenResNet(), resnets.linen_variables(WEIGHTS)
    model = xaimaps.load(module, variables)

    def plainly() -> None:
        jax.make_jaxpr(lambda p, x: module.apply(p, x, train=False))(variables, IMAGES)

    def ours() -> None:
        jax.make_jaxpr(lambda x: model.forward_with_activations(x, ("blocks_1",)))(IMAGES)

    return seconds(ours) / seconds(plainly)


def main() -> None:
    found = models()
    reference = {block: grad_cam_by_hand(block) for block in BLOCKS}
    plain = xaimaps.load(resnets.plain, WEIGHTS, input_shape=resnets.SHAPE)
    for method in METHODS:
        # Only modules tell which operations are one layer of FullGrad.
        source = found["Flax linen"] if method == "fullgrad" else plain
        reference[method] = xaimaps.attribute(source, IMAGES, method, target=1).maps
    rows = {name: row(model, reference) for name, model in found.items()}
    columns = list(rows["Flax linen"])
    with tempfile.TemporaryDirectory() as folder:
        stored, converted = Path(folder, "net.keras"), Path(folder, "net.onnx")
        rows["Keras on JAX"] = keras_row("jax", stored)
        rows["Keras on TensorFlow"] = keras_row("tensorflow", stored)
        convert = [sys.executable, "-m", "xaimaps", "convert", str(stored), str(converted)]
        subprocess.run(convert, check=True, capture_output=True)
        rows["ONNX on JAX"] = row(xaimaps.load(converted, backend="jax"), reference)
    print("| library |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        cells = (f"{values[one]:.1e}" if one in values else "-" for one in columns)
        print(f"| {name} |", " | ".join(cells), "|")
    print(f"\nTracing for a layer takes {tracing():.2f} x the time of jax.make_jaxpr.")


if __name__ == "__main__":
    main()
