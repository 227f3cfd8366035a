"""Metrics beside Quantus, Xplique, Captum and pytorch-grad-cam: benchmarks/results/metrics.md.

    uv run --group frameworks --with quantus --with xplique --with captum --with grad-cam \
        --with onnx2torch python -m benchmarks metrics [--metrics deletion,road] [--rounds 5]

Every library judges the Grad-CAM map of one photograph by the embedded network, with the same
number of images for each metric: xaimaps from the ONNX file in JAX, Xplique on the Keras model, the
others on the network in PyTorch. The calls are those of a user, and run one after the other in each
round; the table has medians, beside as many forward passes of xaimaps in batches of 8. A library
that cannot be imported is left out.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import xaimaps
from benchmarks._timing import interleaved, machine, medians
from benchmarks.peers.cases import CLASS, Calls
from benchmarks.peers.networks import EMBEDDED, Array, network, photographs
from xaimaps.metrics import evaluate, measure
from xaimaps.metrics._judging import enlarged

RESULTS = Path(__file__).parent / "results" / "metrics.md"
PACKAGES = ("jax", "torch", "captum", "grad-cam", "xplique", "quantus", "tensorflow")
MARK = "<!-- the rest is written by hand -->\n"
BATCH = 8
STEPS, CELLS, SUBSETS, CHANGES = 48, 200, 100, 10
VALUES = 3 * 224 * 224
IMAGES: dict[str, int] = {
    "deletion": STEPS + 1,
    "insertion": STEPS + 1,
    "average_drop": 2,
    "average_increase": 2,
    "average_gain": 2,
    "mu_fidelity": CELLS + 1,
    "faithfulness_correlation": SUBSETS + 1,
    "infidelity": SUBSETS + 1,
    "road": 18,
    "max_sensitivity": CHANGES + 1,
}
"""The images that each metric gives to the network; those of max_sensitivity for a gradient."""
OPTIONS: dict[str, dict[str, int]] = {"deletion": {"steps": STEPS}, "insertion": {"steps": STEPS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--metrics", default=",".join(IMAGES))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    images = photographs(1)
    calls = {name: found for name, make in LIBRARIES.items() if (found := made(make, images))}
    bare = bare_passes()
    rows = [["metric", "images", *calls, "xaimaps over bare passes"]]
    rows.append(["---"] * len(rows[0]))
    for metric in args.metrics.split(","):
        runs = {name: found[metric] for name, found in calls.items() if metric in found}
        rows.append(row(metric, {**runs, "bare": bare}, list(calls), args.rounds))
        print("|", " | ".join(rows[-1]), "|", flush=True)
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    write(f"Written by benchmarks/metrics.py on {machine(*PACKAGES)}.\n\n{table}")


def write(text: str) -> None:
    """Replace the table of the page, and keep what is written by hand below it."""
    kept = RESULTS.read_text().partition(MARK)[2]
    RESULTS.write_text(f"# Metrics\n\n{text}\n{MARK}{kept}")


def row(metric: str, runs: Calls, columns: list[str], rounds: int) -> list[str]:
    """Time a metric in every library and bare passes in turns, and return the cells."""
    for run in runs.values():
        run()  # compiles
    times = medians(interleaved(runs, rounds))
    own = times["xaimaps"]
    bare = IMAGES[metric] * times["bare"] / BATCH
    cells = [
        f"{1e3 * times[n]:.0f} ms, {times[n] / own:.1f} x" if n in times else "" for n in columns
    ]
    ratio = "" if metric == "max_sensitivity" else f"{own / bare:.2f}"
    return [f"`{metric}`", str(IMAGES[metric]), *cells, ratio]


def made(make: Callable[[Array], Calls], images: Array) -> Calls:
    """Return the calls of a library; none if it cannot be imported."""
    try:
        return make(images)
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
        return {}


def in_torch(images: Array) -> tuple[Any, Any]:
    """Return the embedded network in PyTorch, and the images as it takes them."""
    from benchmarks.peers.torch_modules import module_of, tensor_of

    model = network(EMBEDDED)
    return module_of(model)[0], tensor_of(model, images)


def bare_passes() -> Callable[[], Any]:
    """Return one forward pass of `BATCH` images."""
    model = embedded()
    images = model.asarray(np.repeat(photographs(1), BATCH, axis=0))
    forward = model.compiled("bare", lambda b, x: b.forward(x), images)
    return lambda: model.to_numpy(forward(images))


@functools.cache
def embedded() -> Any:
    return xaimaps.load("default")


def cam_of(images: Array) -> Array:
    """Return the map that all libraries judge, of the images' size."""
    found = xaimaps.attribute(embedded(), images, "grad_cam", target=CLASS)
    return enlarged(found.maps, images.shape[1:-1])


def of_xaimaps(images: Array) -> Calls:
    model, maps = embedded(), cam_of(images)

    def judged(name: str) -> Callable[[], Any]:
        return lambda: measure(model, images, maps, [name], target=CLASS, **OPTIONS.get(name, {}))

    picture = xaimaps.zoo.PICTURES["chelsea"]
    explained = {
        "max_sensitivity": lambda: evaluate(
            model, picture, ["saliency"], ["max_sensitivity"], target=CLASS
        )
    }
    return {name: judged(name) for name in IMAGES if name not in explained} | explained


def of_quantus(images: Array) -> Calls:
    import quantus

    net, batch = in_torch(images)
    given = {
        "x_batch": batch.numpy(),
        "y_batch": np.array([CLASS]),
        "a_batch": cam_of(images)[:, None],
    }
    quiet = {"disable_warnings": True, "display_progressbar": False}

    def judged(metric: Any, **more: Any) -> Callable[[], Any]:
        return lambda: metric(model=net, device="cpu", **given, **more)

    flipping = quantus.PixelFlipping(
        features_in_step=VALUES // STEPS, return_auc_per_sample=False, **quiet
    )
    correlation = quantus.FaithfulnessCorrelation(nr_runs=SUBSETS, subset_size=224, **quiet)
    sensitivity = quantus.MaxSensitivity(nr_samples=CHANGES, **quiet)
    return {
        "deletion": judged(flipping, softmax=True),
        "faithfulness_correlation": judged(correlation, softmax=False),
        "max_sensitivity": judged(sensitivity, softmax=False, explain_func=saliency_in_torch),
    }


def saliency_in_torch(model: Any, inputs: Any, targets: Any, **_: Any) -> Array:
    """Explain as Quantus asks for it."""
    import torch

    images = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).requires_grad_()
    scores = model(images)[torch.arange(len(images)), torch.as_tensor(np.asarray(targets)).long()]
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    found: Array = gradient.abs().amax(1, keepdim=True).numpy()
    return found


def of_xplique(images: Array) -> Calls:
    from xplique import metrics
    from xplique.attributions import Saliency

    model, labels, maps = (
        network(EMBEDDED).keras,
        np.eye(1000, dtype=np.float32)[[CLASS]],
        cam_of(images),
    )
    judges = {
        "deletion": metrics.Deletion(model, images, labels, steps=STEPS, activation="softmax"),
        "insertion": metrics.Insertion(model, images, labels, steps=STEPS, activation="softmax"),
        "average_drop": metrics.AverageDropMetric(model, images, labels, activation="softmax"),
        "average_increase": metrics.AverageIncreaseMetric(
            model, images, labels, activation="softmax"
        ),
        "average_gain": metrics.AverageGainMetric(model, images, labels, activation="softmax"),
        "mu_fidelity": metrics.MuFidelity(model, images, labels, nb_samples=CELLS, grid_size=9),
    }

    def judged(judge: Any) -> Callable[[], Any]:
        return lambda: judge.evaluate(maps)

    stability = metrics.AverageStability(model, images, labels, nb_samples=CHANGES)
    saliency = Saliency(model)
    return {name: judged(judge) for name, judge in judges.items()} | {
        "max_sensitivity": lambda: stability.evaluate(saliency)
    }


def of_captum(images: Array) -> Calls:
    import torch
    from captum import attr, metrics

    net, batch = in_torch(images)
    maps = torch.tensor(cam_of(images))[:, None].expand_as(batch)
    saliency = attr.Saliency(net)

    def noise(inputs: Any, _: Any = None) -> Any:
        changes = torch.rand_like(inputs)
        return changes, inputs - changes

    return {
        "infidelity": lambda: metrics.infidelity(
            net, noise, batch, maps, target=CLASS,
            n_perturb_samples=SUBSETS, max_examples_per_batch=BATCH,
        ),
        "max_sensitivity": lambda: metrics.sensitivity_max(
            saliency.attribute, batch, target=CLASS,
            n_perturb_samples=CHANGES, max_examples_per_batch=BATCH,
        ),
    }  # fmt: skip


def of_grad_cam(images: Array) -> Calls:
    from pytorch_grad_cam.metrics.cam_mult_image import CamMultImageConfidenceChange
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    net, batch = in_torch(images)
    maps, targets = cam_of(images), [ClassifierOutputSoftmaxTarget(CLASS)]
    road, drop = ROADCombined(), CamMultImageConfidenceChange()
    return {
        "road": lambda: road(batch, maps, targets, net),
        "average_drop": lambda: drop(batch, maps, targets, net),
    }


LIBRARIES: dict[str, Callable[[Array], Calls]] = {
    "xaimaps": of_xaimaps,
    "Quantus": of_quantus,
    "Xplique": of_xplique,
    "Captum": of_captum,
    "pytorch-grad-cam": of_grad_cam,
}

if __name__ == "__main__":
    main()
