"""Metrics by other libraries, of a small network. Run by hand; no test imports it.

    pip install torch captum grad-cam quantus
    python tests/references/make_metrics.py OUTPUT

Made with torch 2.13, captum 0.9.0, grad-cam 1.5.7 and quantus 0.6.0, of the weights of
`xaimaps.testing.pooled_network()`. The maps are the sums over channels of the gradient's absolute
values, the contributions gradient x input.
"""

import sys

import numpy as np
import quantus
import torch
from captum import metrics
from pooled_torch import network
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

TARGET = 1


def probability(net, x):
    with torch.no_grad():
        return net(x).softmax(1)[:, TARGET].numpy()


def curve(net, x, order, start):
    """The probability after each position of the order is deleted (start 1) or restored (0)."""
    masks = np.full((len(order) + 1, len(order)), start, np.float32)
    for count in range(len(order) + 1):
        masks[count, order[:count]] = 1 - start
    return probability(net, x * torch.tensor(masks).reshape(-1, 1, 9, 9))


def main(path):
    net = network()
    torch.manual_seed(3)
    x = torch.randn(2, 3, 9, 9)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf)[:, TARGET].sum(), leaf)
    maps = gradient.abs().sum(1, keepdim=True).numpy()
    box = np.zeros((2, 1, 9, 9), bool)
    box[:, :, 1:5, 2:8] = True

    found = {"images": x.permute(0, 2, 3, 1).numpy(), "maps": maps[:, 0], "box": box[:, 0]}
    found["contributions"] = (gradient * x).sum(1).numpy()

    for name, start in (("deletion", 1), ("insertion", 0)):
        orders = [np.argsort(-one.ravel(), kind="stable") for one in maps]
        found[f"torch/{name}"] = np.stack(
            [curve(net, one[None], order, start) for one, order in zip(x, orders, strict=True)]
        )

    low, high = maps.min((2, 3), keepdims=True), maps.max((2, 3), keepdims=True)
    before, after = (
        probability(net, x),
        probability(net, x * torch.tensor((maps - low) / (high - low))),
    )
    found["torch/average_drop"] = np.maximum(before - after, 0) / before
    found["torch/average_increase"] = (after > before).astype(float)
    found["torch/average_gain"] = np.maximum(after - before, 0) / (1 - before)

    quiet = {"disable_warnings": True, "display_progressbar": False}
    call = {"model": net, "x_batch": x.numpy(), "y_batch": np.array([TARGET] * 2), "device": "cpu"}
    for name, metric in {
        "sparseness": quantus.Sparseness,
        "complexity": quantus.Complexity,
        "pointing_game": quantus.PointingGame,
        "energy_pointing_game": quantus.RelevanceMassAccuracy,
        "rank_accuracy": quantus.RelevanceRankAccuracy,
        "region_auc": quantus.AUC,
    }.items():
        found[f"quantus/{name}"] = np.asarray(
            metric(**quiet)(a_batch=maps.copy(), s_batch=box, **call), float
        )

    half = lambda inputs: (inputs * 0.5, inputs * 0.5)  # noqa: E731
    for scaled in (False, True):
        found[f"captum/infidelity_{'scaled' if scaled else 'raw'}"] = metrics.infidelity(
            net, half, x, gradient, target=TARGET, n_perturb_samples=1, normalize=scaled
        ).numpy()

    shift = 0.02 * torch.sign(torch.rand(4, 2, 3, 9, 9) - 0.5)
    moved = (x + shift).requires_grad_()
    score = sum(net(one)[:, TARGET].sum() for one in moved)
    (slopes,) = torch.autograd.grad(score, moved)
    change = ((slopes * moved).sum(2) - (gradient * x).sum(1)).flatten(2).norm(dim=2)
    found["shift"] = shift.permute(0, 1, 3, 4, 2).numpy()
    found["torch/max_sensitivity"] = (
        (change / (gradient * x).sum(1).flatten(1).norm(dim=1)).max(0).values.detach().numpy()
    )

    kept = (maps[0, 0] < np.percentile(maps[0, 0], 60)).astype(np.float32)
    found["kept"] = kept
    imputed = NoisyLinearImputer(noise=0.0)(x[0], torch.tensor(kept))
    found["grad_cam/imputed"] = imputed.permute(1, 2, 0).numpy()
    np.savez_compressed(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
