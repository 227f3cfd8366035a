"""The calls of libraries of PyTorch, as a user makes them, from numpy to numpy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.peers.cases import AT_ONCE, CLASS, FORWARD, WINDOW, Calls, Length
from benchmarks.peers.networks import TRANSFORMER, Array, Network
from benchmarks.peers.torch_modules import DEVICE, module_of, tensor_of


@functools.cache
def torch_module(network: Network, precision: str) -> Any:
    """Return a network in PyTorch and its layer, and set how PyTorch computes."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return module_of(network)


def in_precision(run: Callable[[], Any], precision: str) -> Callable[[], Any]:
    """Return a call of PyTorch in a precision, which gives an array."""

    def call() -> Any:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16"):
            found = run()
        return found.detach().float().cpu().numpy() if isinstance(found, torch.Tensor) else found

    return call


def of_captum(network: Network, images: Array, precision: str, length: Length) -> Calls:
    """Return Captum's calls."""
    from captum import attr

    module, layer = torch_module(network, precision)
    smooth = attr.NoiseTunnel(attr.Saliency(module))
    count = max(AT_ONCE // len(images), 1)
    axis = 1 if network.is_planar else 3
    window, stride = [WINDOW] * 3, [length.stride] * 3
    window[axis - 1] = stride[axis - 1] = 3

    def alone(batch: Any) -> Any:
        with torch.no_grad():
            return module(batch)

    methods: dict[str, Callable[[Any], Any]] = {
        FORWARD: alone,
        "saliency": lambda x: attr.Saliency(module).attribute(x, CLASS).amax(axis),
        "grad_cam": lambda x: attr.LayerGradCam(module, layer).attribute(x, CLASS),
        "integrated_gradients": lambda x: attr.IntegratedGradients(module).attribute(
            x, target=CLASS, n_steps=length.steps, internal_batch_size=count * len(images)
        ),
        "smoothgrad": lambda x: smooth.attribute(
            x, nt_samples=length.samples, nt_samples_batch_size=count, stdevs=0.3, target=CLASS
        ),
        "occlusion": lambda x: attr.Occlusion(module).attribute(
            x, tuple(window), tuple(stride), target=CLASS, perturbations_per_eval=count
        ),
    }

    def call(run: Callable[[Any], Any]) -> Callable[[], Any]:
        return in_precision(lambda: run(tensor_of(network, images).requires_grad_()), precision)

    return {name: call(run) for name, run in methods.items()}


def of_grad_cam(network: Network, images: Array, precision: str, length: Length) -> Calls:
    """Return pytorch-grad-cam's calls."""
    import pytorch_grad_cam as cams
    from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module, layer = torch_module(network, precision)
    targets = [ClassifierOutputTarget(CLASS)] * len(images)
    options = {"model": module, "target_layers": [layer], "reshape_transform": as_planes}
    ablated = AblationLayerVit() if network.name == TRANSFORMER else AblationLayer()
    methods = {
        "grad_cam": cams.GradCAM,
        "grad_cam_plusplus": cams.GradCAMPlusPlus,
        "score_cam": cams.ScoreCAM,
        "ablation_cam": functools.partial(cams.AblationCAM, ablation_layer=ablated),
    }

    def call(kind: Any) -> Callable[[], Any]:
        def run() -> Any:
            with kind(**options) as cam:
                return cam(tensor_of(network, images).requires_grad_(), targets)

        return in_precision(run, precision)

    return {name: call(kind) for name, kind in methods.items()}


def as_planes(values: Any) -> Any:
    """Return feature maps as they are, and tokens `(N, 1 + S S, C)` as `(N, C, S, S)`."""
    if values.ndim == 4:
        return values
    side = int((values.shape[1] - 1) ** 0.5)
    return values[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)


def of_torch_cam(network: Network, images: Array, precision: str, length: Length) -> Calls:
    """Return torch-cam's calls."""
    from torchcam import methods as cams

    module, layer = torch_module(network, precision)
    methods = {
        "grad_cam": cams.GradCAM,
        "grad_cam_plusplus": cams.GradCAMpp,
        "score_cam": cams.ScoreCAM,
    }

    def call(kind: Any) -> Callable[[], Any]:
        def run() -> Any:
            with kind(module, target_layer=layer) as cam:
                scores = module(tensor_of(network, images).requires_grad_())
                (maps,) = cam([CLASS] * len(images), scores)
                return maps

        return in_precision(run, precision)

    return {name: call(kind) for name, kind in methods.items()}
