"""Maps of a volume, of an image and a vector, and of a siamese pair, in PyTorch.

usage: python make_inputs.py FOLDER   (torch 2.13, onnx)

Writes inputs_volume.onnx, inputs_table.onnx and inputs_pair.onnx, and inputs.npz: the values of
their inputs with channels last, the weights by the names of PyTorch, and the maps in float64, by
the definitions of Simonyan et al. (saliency), Selvaraju et al. (Grad-CAM), Shrikumar et al.
(input x gradient) and Sundararajan et al. (integrated gradients, 20 points from zero by the
midpoint rule), all of the class TARGET.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

TARGET, STEPS = 1, 20


class Block(nn.Module):
    """A basic block of a ResNet, in three dimensions."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv3d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(after)
        self.conv2 = nn.Conv3d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(after)
        self.shorten = nn.Conv3d(before, after, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.shorten(x))


class Volume(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv3d(1, 4, 3, 1, 1, bias=False), nn.BatchNorm3d(4)
        self.one, self.two = Block(4, 4, 1), Block(4, 6, 2)
        self.fc = nn.Linear(6, 3)

    def layer(self, volume):
        return self.two(self.one(torch.relu(self.bn(self.stem(volume)))))

    def rest(self, features):
        return self.fc(features.mean((2, 3, 4)))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 8, 3, 2, 1)

    def forward(self, image):
        return torch.relu(self.conv2(torch.relu(self.conv1(image))))


class Table(nn.Module):
    """Features of an image, weighted by a vector, and next to what the vector says itself."""

    def __init__(self):
        super().__init__()
        self.encoder, self.gate = Encoder(), nn.Linear(3, 8)
        self.side, self.fc = nn.Linear(3, 5), nn.Linear(13, 4)

    def layer(self, image, patient):
        return self.encoder(image)

    def rest(self, features, image, patient):
        pooled = features.mean((2, 3)) * torch.sigmoid(self.gate(patient))
        return self.fc(torch.cat([pooled, torch.tanh(self.side(patient))], 1))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.fc = Encoder(), nn.Linear(8, 2)

    def rest(self, left, right):
        return self.fc((left.mean((2, 3)) - right.mean((2, 3))) ** 2)


class Whole(nn.Module):
    """A model with all of its inputs, as it is exported."""

    def __init__(self, model, call):
        super().__init__()
        self.model, self.call = model, call

    def forward(self, *values):
        return self.call(self.model, *values)


def volume(model, volume):
    return model.rest(model.layer(volume))


def table(model, image, patient):
    return model.rest(model.layer(image, patient), image, patient)


def pair(model, left, right):
    return model.rest(model.encoder(left), model.encoder(right))


def randomised(model, seed):
    torch.manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.dtype.is_floating_point:
            value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value))
            value.mul_(0.5)
    return model.double().eval()


def gradient(outputs, point):
    return torch.autograd.grad(outputs[:, TARGET].sum(), point, retain_graph=True)[0]


def saliency(fn, point):
    point = point.clone().requires_grad_()
    return gradient(fn(point), point).abs().amax(1)


def grad_cam(fn, features):
    features = features.detach().requires_grad_()
    axes = tuple(range(2, features.ndim))
    weights = gradient(fn(features), features).mean(axes, keepdim=True)
    return torch.relu((weights * features).sum(1)).detach()


def of_vector(fn, vector):
    """The gradient of each number, and its products."""
    steps = (torch.arange(STEPS) + 0.5) / STEPS
    points = [(step * vector).requires_grad_() for step in steps]
    mean = torch.stack([gradient(fn(point), point) for point in points]).mean(0)
    own = vector.clone().requires_grad_()
    exact = gradient(fn(own), own)
    return {
        "saliency": exact.abs(),
        "input_x_gradient": exact * vector,
        "integrated_gradients": mean * vector,
    }


def found():
    draw = np.random.default_rng(15).normal
    models = {
        "volume": randomised(Volume(), 1),
        "table": randomised(Table(), 2),
        "pair": randomised(Pair(), 3),
    }
    inputs = {
        "volume": draw(size=(2, 1, 6, 8, 10)),
        "image": draw(size=(2, 3, 12, 12)),
        "patient": draw(size=(2, 3)),
        "left": draw(size=(2, 3, 12, 12)),
        "right": draw(size=(2, 3, 12, 12)),
    }
    given = {name: torch.tensor(np.float32(value)).double() for name, value in inputs.items()}
    one, two, three = models.values()
    image, patient, left, right = (given[name] for name in list(given)[1:])
    maps = {
        "volume/scores": volume(one, given["volume"]),
        "image/scores": table(two, image, patient),
        "left/scores": pair(three, left, right),
        "volume/saliency": saliency(lambda x: volume(one, x), given["volume"]),
        "volume/grad_cam": grad_cam(one.rest, one.layer(given["volume"])),
        "image/saliency": saliency(lambda x: table(two, x, patient), image),
        "image/grad_cam": grad_cam(lambda x: two.rest(x, image, patient), two.encoder(image)),
        "left/saliency": saliency(lambda x: pair(three, x, right), left),
        "left/grad_cam": grad_cam(
            lambda x: three.rest(x, three.encoder(right)), three.encoder(left)
        ),
        "right/saliency": saliency(lambda x: pair(three, left, x), right),
        "right/grad_cam": grad_cam(
            lambda x: three.rest(three.encoder(left), x), three.encoder(right)
        ),
    }
    of_numbers = of_vector(lambda x: table(two, image, x), patient)
    maps |= {f"patient/{method}": value for method, value in of_numbers.items()}
    return models, given, maps


def export(folder, name, model, call, values):
    inputs = {key: {0: "N"} for key in values}
    torch.onnx.export(
        Whole(model.float(), call).eval(), tuple(value.float() for value in values.values()),
        folder / f"inputs_{name}.onnx", input_names=list(values), output_names=["scores"],
        dynamic_axes=inputs, dynamo=False, opset_version=17,
    )  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    models, given, maps = found()
    weights = {
        f"{name}:{key}": np.float32(value)
        for name, model in models.items()
        for key, value in model.state_dict().items()
        if value.dtype.is_floating_point
    }
    last = {name: np.moveaxis(np.float32(value), 1, -1) for name, value in given.items()}
    last["patient"] = np.float32(given["patient"])
    arrays = {name: value.detach().numpy() for name, value in maps.items()}
    np.savez_compressed(folder / "inputs.npz", **last, **weights, **arrays)
    names = {"volume": ("volume",), "table": ("image", "patient"), "pair": ("left", "right")}
    calls = {"volume": volume, "table": table, "pair": pair}
    for name, inputs in names.items():
        export(folder, name, models[name], calls[name], {key: given[key] for key in inputs})
