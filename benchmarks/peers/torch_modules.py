"""The networks as PyTorch modules, from their ONNX files, as fast as ones written in PyTorch.

ONNX Runtime merges normalisations into convolutions and removes transposes that Keras's layout
needs, before onnx2torch makes modules of what is left.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx2torch import convert

from benchmarks.peers.networks import Array, Network, photographs

Shape = tuple[int, ...]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def module_of(network: Network) -> tuple[Any, Any]:
    """Return the network, and the module in it whose output is the feature maps."""
    with tempfile.TemporaryDirectory() as folder:
        proto = onnx.load(simplified(network.file, Path(folder)))
    proto = onnx.shape_inference.infer_shapes(proto)
    spell_out_padding(proto.graph)
    module = convert(proto).eval().requires_grad_(False).to(DEVICE)
    return module, feature_layer(module, network)


def tensor_of(network: Network, images: Array) -> Any:
    """Return images as the module takes them."""
    laid_out = images.transpose(0, 3, 1, 2) if network.is_planar else images
    return torch.tensor(laid_out).contiguous().to(DEVICE)


def simplified(file: Path, folder: Path) -> Path:
    """Write a file of the same network after ONNX Runtime's basic optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "simplified.onnx")
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return folder / "simplified.onnx"


def spell_out_padding(graph: Any) -> None:
    """Replace `SAME_UPPER`, which onnx2torch does not read, by the widths of the border."""
    values = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    kernels = {w.name: list(w.dims)[2:] for w in graph.initializer}
    for node in graph.node:
        known = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if known.pop("auto_pad", b"") != b"SAME_UPPER":
            continue
        kernel = known.get("kernel_shape") or kernels[node.input[1]]
        pads = same_upper(values[node.input[0]][2:], kernel, known["strides"])
        del node.attribute[:]
        found = {**known, "pads": pads}
        node.attribute.extend(onnx.helper.make_attribute(*item) for item in found.items())


def same_upper(sizes: list[int], kernel: list[int], strides: list[int]) -> list[int]:
    """Return the widths of the border at the beginning of each axis, and then at the ends."""
    totals = [
        max((-(-size // step) - 1) * step + width - size, 0)
        for size, width, step in zip(sizes, kernel, strides, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


class Exposed(torch.nn.Module):
    """A module and, as a module of its own with channels first or tokens, its output.

    Attributes:
        maps: what libraries look at, and may replace.
    """

    def __init__(self, inner: Any, is_planar: bool) -> None:
        super().__init__()
        self.inner, self.is_planar, self.maps = inner, is_planar, torch.nn.Identity()

    def forward(self, *values: Any) -> Any:
        found = self.inner(*values)
        if self.is_planar:
            return self.maps(found)
        return self.maps(found.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def feature_layer(module: Any, network: Network) -> Any:
    """Return the module whose output is the feature maps of the ONNX file, or their tokens."""
    shape = network.features.shape
    atol = 1e-3 * np.abs(network.features).max()
    found: list[tuple[str, Shape]] = []

    def compare(name: str, output: Any) -> None:
        maps = as_maps(output.detach().cpu().numpy(), shape)
        if maps is not None and np.allclose(maps, network.features, atol=atol):
            found.append((name, tuple(output.shape)))

    hooks = [
        child.register_forward_hook(lambda m, x, y, name=name: compare(name, y))
        for name, child in module.named_children()
    ]
    with torch.no_grad():
        module(tensor_of(network, photographs(1)))
    for hook in hooks:
        hook.remove()
    name, own = found[0]
    exposed = Exposed(getattr(module, name), is_planar=own != shape)
    setattr(module, name, exposed)
    return exposed.maps


def as_maps(values: Array, shape: Shape) -> Array | None:
    """Return the value of a module as `(1, H, W, C)`, or None if it has another shape."""
    _, height, width, channels = shape
    if values.shape == (1, 1 + height * width, channels):
        return values[:, 1:].reshape(shape)
    if values.shape == (1, channels, height, width):
        return np.moveaxis(values, 1, -1)
    return values if values.shape == shape else None
