"""Relevance by zennit and AttnLRP's rules in PyTorch, of small networks. Run by hand.

    pip install torch zennit onnx
    python tests/references/make_lrp.py OUTPUT_FOLDER

Writes lrp.npz and lrp_vit.onnx. `pooled` is `xaimaps.testing.pooled_network`, `res` has
a padded convolution, batch normalisation, an addition, ReLU6 and max pooling, `vit` is a
transformer of two blocks. All values are in float64, channels last; relevance starts with 1 at
the class TARGET, for `vit` with the score.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from pooled_torch import network
from torch import nn
from zennit import composites as C
from zennit import rules as R
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.layer import Sum
from zennit.types import Activation, AvgPool, BatchNorm, Linear

TARGET = 2
draw = np.random.default_rng(5).normal
IMAGES = draw(size=(2, 9, 9, 3))


class Residual(nn.Module):
    """Batch normalisation, an addition, ReLU6, max pooling."""

    def __init__(self):
        super().__init__()
        self.conv0, self.bn0, self.relu0 = (
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
        )
        self.pool = nn.MaxPool2d(2)
        self.conv1, self.bn1, self.relu1 = (
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
        )
        self.conv2, self.bn2, self.relu2 = (
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
        )
        self.sum, self.gap, self.flatten, self.fc = (
            Sum(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
        )

    def forward(self, x):
        x = self.pool(self.relu0(self.bn0(self.conv0(x))))
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        x = self.relu2(self.sum(torch.stack([x, y], dim=-1)))
        return self.fc(self.flatten(self.gap(x)))


def residual():
    """The network with seeded weights; some scales are negative, and some values are above 6."""
    model = Residual().double().eval()
    random = np.random.default_rng(6)
    for name, value in model.state_dict().items():
        if value.dtype == torch.float64:
            new = random.normal(size=tuple(value.shape), scale=0.5)
            if name.endswith("running_var"):
                new = 0.1 + np.abs(new)
            if name.startswith("bn") and name.endswith("weight"):
                new = new * 4
            value.copy_(torch.tensor(new.astype(np.float32)))
    return model


def every(rule, first=None):
    """One rule for all layers with weights, and one for the first."""
    base = [(Activation, R.Pass()), (AvgPool, R.Norm()), (Sum, R.Norm()), (BatchNorm, R.Pass())]

    def make(canonizers):
        if first is None:
            return C.LayerMapComposite([*base, (Linear, rule)], canonizers=canonizers)
        special = [(Linear, first)]
        return C.SpecialFirstLayerMapComposite(
            [*base, (Linear, rule)], special, canonizers=canonizers
        )

    return make


BOUNDS = {
    "low": torch.full((1, 3, 9, 9), -3.0).double(),
    "high": torch.full((1, 3, 9, 9), 4.0).double(),
}

COMPOSITES = {
    "epsilon_plus": lambda c: C.EpsilonPlus(canonizers=c),
    "epsilon_plus_flat": lambda c: C.EpsilonPlusFlat(canonizers=c),
    "epsilon_alpha2_beta1": lambda c: C.EpsilonAlpha2Beta1(canonizers=c),
    "epsilon_alpha2_beta1_flat": lambda c: C.EpsilonAlpha2Beta1Flat(canonizers=c),
    "epsilon_gamma_box": lambda c: C.EpsilonGammaBox(**BOUNDS, canonizers=c),
    "epsilon": every(R.Epsilon(0.25)),
    "gamma": every(R.Gamma(0.25)),
    "z_plus": every(R.ZPlus()),
    "alpha2_beta1": every(R.AlphaBeta(2, 1)),
    "w_square": every(R.Epsilon(1e-6), R.WSquare()),
}


def relevance(model, make, merges):
    """The relevance of the images, channels last."""
    x = torch.tensor(IMAGES.transpose(0, 3, 1, 2)).requires_grad_()
    start = torch.eye(5, dtype=torch.float64)[[TARGET] * len(x)]
    with Gradient(model, make([SequentialMergeBatchNorm()] if merges else None)) as attributor:
        _, found = attributor(x, start)
    return found.detach().numpy().transpose(0, 2, 3, 1)


class Block(nn.Module):
    """Attention and a perceptron; AttnLRP's rules by detached values and halved gradients."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.norm2, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.Linear(2 * width, width),
        )

    def forward(self, x, rule=None):
        n, t, d = x.shape
        q, k, v = (
            self.qkv(norm(self.norm1, x, rule))
            .reshape(n, t, 3, self.heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        if rule == "attn_lrp":
            q, k, v = part(q, 0.25), part(k, 0.25), part(v, 0.5)
        if rule == "cp_lrp":
            q, k = q.detach(), k.detach()
        weights = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(n, t, d))
        z = self.up(norm(self.norm2, x, rule))
        h = nn.functional.gelu(z)
        return x + self.down(z * (h / z).detach() if rule else h)


def part(x, share):
    """The value with a share of its gradient."""
    return share * x + (1 - share) * x.detach()


def norm(layer, x, rule):
    """Layer normalisation, with a constant deviation under a rule."""
    mean = x.mean(-1, keepdim=True)
    deviation = ((x - mean).square().mean(-1, keepdim=True) + layer.eps).sqrt()
    if rule is None:
        return layer(x)
    return (x - mean) / deviation.detach() * layer.weight + layer.bias


class Transformer(nn.Module):
    """Patches of 3 x 3, a class token, two blocks of two heads."""

    def __init__(self):
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 3, stride=3), nn.Parameter(torch.zeros(1, 1, 8))
        self.position = nn.Parameter(torch.zeros(1, 10, 8))
        self.blocks = nn.ModuleList([Block(8, 2), Block(8, 2)])
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x, rule=None):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x, rule)
        return self.head(norm(self.norm, x, rule)[:, 0])


def transformer(folder):
    """Relevance by both rules; writes the network as ONNX."""
    torch.manual_seed(7)
    model = Transformer().eval()
    for value in model.parameters():
        value.data.add_(0.3 * torch.randn_like(value))
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2))
    torch.onnx.export(
        model, (images.float(),), folder / "lrp_vit.onnx", input_names=["images"],
        output_names=["logits"], opset_version=18, dynamo=False,
        dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}},
    )  # fmt: skip
    found = {}
    for rule in ("attn_lrp", "cp_lrp"):
        x = images.clone().requires_grad_()
        score = model.double()(x, rule)[:, TARGET].sum()
        (gradient,) = torch.autograd.grad(score, x)
        found[f"vit/{rule}"] = (gradient * x).detach().numpy().transpose(0, 2, 3, 1)
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    values = {"images": IMAGES, "target": np.array(TARGET), **transformer(folder)}
    values |= {f"res.{k}": v.numpy() for k, v in residual().state_dict().items() if v.ndim}
    for key, make in COMPOSITES.items():
        values[f"pooled/{key}"] = relevance(network().double(), make, merges=False)
        values[f"res/{key}"] = relevance(residual(), make, merges=True)
    values["res/epsilon_plus_flat/not_folded"] = relevance(
        residual(), COMPOSITES["epsilon_plus_flat"], merges=False
    )
    np.savez_compressed(folder / "lrp.npz", **values)
