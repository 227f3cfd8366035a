"""The files of the commands: a sound model and picture, damaged ones and hostile ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper
from PIL import Image

import xaimaps.zoo

node = helper.make_node


def make_files() -> None:
    """Write the files of all cases into the current folder."""
    shutil.copy(xaimaps.zoo.PICTURES["chelsea"], "cat.png")
    whole = Path("cat.png").read_bytes()
    for name in ("empty.png", "empty.onnx", "empty.keras", "empty.h5"):
        Path(name).write_bytes(b"")
    for name in ("text.png", "text.onnx", "text.keras", "text.h5"):
        Path(name).write_text("no such file")
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    Image.open("cat.png").convert("RGB").save("half.jpg")
    Path("half.jpg").write_bytes(Path("half.jpg").read_bytes()[:5000])
    for name, size in {"one": (1, 1), "long": (1, 65_000), "black": (32, 32)}.items():
        Image.new("RGB", size).save(f"{name}.png")
    Image.new("1", (11_000, 11_000)).save("bomb.png")
    for name in ("folder", "named.png"):
        Path(name).mkdir()
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("dangling.png").symlink_to("missing.png")
    Path("bom.txt").write_bytes("\ufeffa\nb\nc\nd\ne\n".encode())
    Path("feeds.txt").write_bytes(b"a\nb\fb\nc\nd\ne\n")
    keras_files()
    for name, model in models().items():
        Path(f"{name}.onnx").write_bytes(model.SerializeToString())
    Path("half.onnx").write_bytes(Path("ok.onnx").read_bytes()[:300])


def keras_files() -> None:
    """Write Keras models: a sound one, one of two outputs, and one of any size."""
    import keras

    layers = keras.layers
    for name, size in {"sound": 32, "two": 32, "any": None}.items():
        images = keras.Input((size, size, 3))
        pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
        outputs = [layers.Dense(5)(pooled) for _ in range(2 if name == "two" else 1)]
        keras.Model(images, outputs).save(f"{name}.keras")


def models() -> dict[str, onnx.ModelProto]:
    """Return a good model, and hostile ones."""
    missing = helper.make_graph([node("Relu", ["c"], ["t"])], "then", [], [value("missing", None)])
    other = helper.make_graph([node("Neg", ["c"], ["o"])], "else", [], [value("o", None)])
    body = helper.make_graph(
        [node("Add", ["s", "one"], ["s2"]), node("Identity", ["on"], ["on2"])],
        "body",
        [value("i", [], 7), value("on", [], 9), value("s", None)],
        [value("on2", [], 9), value("s2", None)],
    )
    branch = node("If", ["yes"], ["l"], then_branch=missing, else_branch=other)
    outside = model(node("Relu", ["c"], ["l"]))
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    opset = model(node("Relu", ["c"], ["l"]))
    opset.opset_import[0].version = 99
    scalar = model(node("Relu", ["c"], ["l"]))
    del scalar.graph.node[2:], scalar.graph.output[:]
    scalar.graph.node.append(node("ReduceMean", ["l"], ["y"], keepdims=0))
    scalar.graph.output.append(value("y", []))
    return {
        "ok": model(node("Relu", ["c"], ["l"])),
        "nan": ending(node("Sub", ["y0", "y0"], ["y1"]), node("Div", ["y1", "y1"], ["y"])),
        "infinite": ending(node("Sub", ["y0", "y0"], ["y1"]), node("Sqrt", ["y1"], ["y"])),
        "half_kernel": typed("k", np.float16),
        "bfloat16": typed("k", ml_dtypes.bfloat16),
        "outside": outside,
        "functions": model(node("F17", ["c"], ["l"], domain="my"), functions(18)),
        "recursion": model(node("F0", ["c"], ["l"], domain="my"), functions(1, "F0")),
        "loop": model(node("Loop", ["many", "yes", "c"], ["l"], body=body)),
        "dilation": model(node("Conv", ["c", "k2"], ["l"], dilations=[0, 0])),
        "branch": model(branch),
        "ops": model(node("NoSuch", ["c"], ["l"])),
        "opset": opset,
        "scalar": scalar,
    }


def ending(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Return the good model with nodes behind its outputs, from "y0" to "y"."""
    found = model(node("Relu", ["c"], ["l"]))
    found.graph.node[-1].output[0] = "y0"
    found.graph.node.extend(nodes)
    return found


def typed(name: str, dtype: Any) -> onnx.ModelProto:
    """Return the good model with a weight of another type."""
    found = model(node("Relu", ["c"], ["l"]))
    (weight,) = (tensor for tensor in found.graph.initializer if tensor.name == name)
    values = onnx.numpy_helper.to_array(weight).astype(dtype)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, name))
    return found


def value(name: str, shape: list[int] | None, kind: int = 1) -> onnx.ValueInfoProto:
    """Return the description of a value."""
    return helper.make_tensor_value_info(name, kind, shape)


def functions(count: int, first: str = "") -> list[onnx.FunctionProto]:
    """Return functions that call the one before twice; `first` is what the first calls."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    found = []
    for i in range(count):
        called = f"F{i - 1}" if i else first or "Relu"
        domain = "my" if called != "Relu" else ""
        nodes = [node(called, [a], [b], domain=domain) for a, b in (("a", "c"), ("c", "b"))]
        found.append(helper.make_function("my", f"F{i}", ["a"], ["b"], nodes, imports))
    return found


def model(middle: onnx.NodeProto, calls: list[onnx.FunctionProto] | None = None) -> onnx.ModelProto:
    """Return a classifier with a node between its convolution and its pooling."""
    draw = np.random.default_rng(0).normal
    arrays = {
        "k": draw(size=(4, 3, 3, 3)).astype("f4"),
        "k2": draw(size=(4, 4, 3, 3)).astype("f4"),
        "d": draw(size=(4, 5)).astype("f4"),
        "one": np.float32(1),
        "many": np.int64(10**9),
        "yes": np.array(True),
    }
    graph = helper.make_graph(
        [
            node("Conv", ["x", "k"], ["c"], name="conv"),
            middle,
            node("GlobalAveragePool", ["l"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "d"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("y", 1, ["N", 5])],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    found = helper.make_model(graph, opset_imports=imports, functions=calls or [])
    found.ir_version = 10
    return found
