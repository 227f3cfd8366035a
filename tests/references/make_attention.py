"""Attention methods of a transformer, in PyTorch, from the formulas of their papers.

usage: python make_attention.py FOLDER   (torch 2.13, onnxruntime, zennit 0.5.1, by make_lrp.py)

Writes attention.npz: the maps of `lrp_vit.onnx`, in float64, for the images and the class of
lrp.npz.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from make_lrp import IMAGES, TARGET, Transformer

TOKENS = 10


def network():
    """The network of make_lrp.py, which it writes as lrp_vit.onnx."""
    torch.manual_seed(7)
    model = Transformer().eval()
    for value in model.parameters():
        value.data.add_(0.3 * torch.randn_like(value))
    return model.double()


def run(model, images):
    """The logits, the attention and the tokens after each block."""
    x = model.patch(images).flatten(2).transpose(1, 2)
    x = torch.cat([model.token.expand(len(x), -1, -1), x], 1) + model.position
    attention, streams = [], []
    for block in model.blocks:
        n, t, d = x.shape
        qkv = block.qkv(block.norm1(x)).reshape(n, t, 3, block.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (d // block.heads) ** -0.5).softmax(-1)
        x = x + block.proj((weights @ v).transpose(1, 2).reshape(n, t, d))
        x = x + block.down(torch.nn.functional.gelu(block.up(block.norm2(x))))
        attention.append(weights)
        streams.append(x)
    return model.head(model.norm(x)[:, 0]), attention, streams


def grid(rows):
    """The class token's row, over the grid of 3 x 3."""
    return rows[:, 0, 1:].reshape(-1, 3, 3)


def rollout(attention, join):
    total = torch.eye(TOKENS, dtype=torch.float64)
    for weights in attention:
        joined = join(weights) + torch.eye(TOKENS, dtype=torch.float64)
        total = joined / joined.sum(-1, keepdim=True) @ total
    return grid(total)


def chefer(attention, gradients):
    total = torch.eye(TOKENS, dtype=torch.float64).expand(len(IMAGES), -1, -1)
    for weights, gradient in zip(attention, gradients, strict=True):
        total = total + (weights * gradient).clamp(min=0).mean(1) @ total
    return grid(total)


def legrad(model, attention, streams, pool):
    total = 0
    for weights, stream in zip(attention, streams, strict=True):
        score = model.head(model.norm(pool(stream)))[:, TARGET].sum()
        (gradient,) = torch.autograd.grad(score, weights, retain_graph=True)
        total = total + gradient.clamp(min=0).mean((1, 2))[:, 1:] / len(attention)
    return total.reshape(-1, 3, 3)


if __name__ == "__main__":
    folder, model = Path(sys.argv[1]), network()
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2))
    outputs, attention, streams = run(model, images)
    session = onnxruntime.InferenceSession(folder / "lrp_vit.onnx")
    (expected,) = session.run(None, {"images": images.float().numpy()})
    np.testing.assert_allclose(outputs.detach(), expected, atol=1e-5)
    gradients = torch.autograd.grad(outputs[:, TARGET].sum(), attention, retain_graph=True)
    products = [a * g.clamp(min=0) for a, g in zip(attention, gradients, strict=True)]
    found = {
        "attention_rollout/mean": rollout(attention, lambda a: a.mean(1)),
        "attention_rollout/max": rollout(attention, lambda a: a.amax(1)),
        "attention_rollout/min": rollout(attention, lambda a: a.amin(1)),
        "chefer": chefer(attention, gradients),
        "grad_sam/all": grid(torch.stack(products).mean((0, 2))),
        "grad_sam/last": grid(products[-1].mean(1)),
        "legrad/model": legrad(model, attention, streams, lambda z: z[:, 0]),
        "legrad/mean": legrad(model, attention, streams, lambda z: z.mean(1)),
    }
    values = {key: value.detach().numpy() for key, value in found.items()}
    np.savez_compressed(folder / "attention.npz", images=IMAGES, target=np.array(TARGET), **values)
