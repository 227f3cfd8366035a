"""Export real models with seeded weights, or only their graphs for the tests beside this file.

    python make_graphs.py torch FOLDER [NAME ...]     # needs torch, torchvision and onnxscript
    python make_graphs.py keras FOLDER [NAME ...]     # needs tensorflow and tf2onnx
    python make_graphs.py strip FOLDER HERE           # takes the weights out of every file

`torch` and `keras` without names write the small graphs of the tests; with names, models of
torchvision or keras.applications at 224x224. The weights are He-normal, with biases and
statistics that are not trivial. `strip` leaves, in place of a tensor's numbers, their mean and
standard deviation in its doc string, from which the tests draw new ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

SIZE = 96
KEPT_METADATA = "pkg.torch.onnx.name_scopes"
STRIPPED_FROM = 64  # elements


def torch_main(folder: Path, names: list[str]) -> None:
    import torch
    from torch import library

    for name in ("nms", "qnms"):  # torchvision's own operators may be missing; none is used
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(f"torchvision::{name}", signature)
    import torchvision

    vit = {"image_size": 64, "patch_size": 16, "num_layers": 2, "num_heads": 2}
    swin = {"patch_size": [4, 4], "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
    small = {
        "resnet18": (torchvision.models.resnet18, {}, SIZE, ("dynamo",)),
        "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, {}, SIZE, ("ts",)),
        "vit": (
            torchvision.models.VisionTransformer,
            {**vit, "hidden_dim": 32, "mlp_dim": 64, "num_classes": 10},
            64,
            ("ts", "dynamo"),
        ),
        "swin": (
            torchvision.models.SwinTransformer,
            {**swin, "window_size": [4, 4], "num_classes": 10},
            64,
            ("dynamo",),
        ),
    }
    big = {name: (getattr(torchvision.models, name), {}, 224, ("ts", "dynamo")) for name in names}
    for name, (make, options, size, exporters) in (big or small).items():
        model = torch_seeded(make(**options)).eval()
        images = torch.randn(2, 3, size, size)
        for exporter in exporters:
            torch_export(model, images, folder / f"torchvision-{name}-{exporter}.onnx", exporter)


def torch_seeded(model: Any) -> Any:
    """Draw all parameters and statistics again."""
    import torch
    from torch import nn

    g = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=g)
            module.running_var.uniform_(0.75, 1.25, generator=g)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if (p.ndim == 1 and name.endswith("weight")) or "layer_scale" in name:
                p.uniform_(0.6, 1.0, generator=g)
            elif p.ndim == 1:
                p.normal_(0, 0.1, generator=g)
            elif "token" in name or "pos" in name:
                p.normal_(0, 0.3, generator=g)
            else:
                fan = p[0].numel()
                p.normal_(0, ((2 if p.ndim == 4 else 1) / fan) ** 0.5, generator=g)
    return model


def torch_export(model: Any, images: Any, path: Path, exporter: str) -> None:
    import torch

    if exporter == "dynamo":
        batch = {"x": {0: torch.export.Dim("N")}}
        options = {"external_data": False, "dynamic_shapes": batch, "dynamo": True}
    else:
        axes = {"x": {0: "N"}, "y": {0: "N"}}
        options = {"dynamic_axes": axes, "opset_version": 17, "dynamo": False}
    torch.onnx.export(model, (images,), path, input_names=["x"], output_names=["y"], **options)


def keras_main(folder: Path, names: list[str]) -> None:
    import keras

    for name in names or ["MobileNetV2", "ResNet50"]:
        shape = {} if names else {"input_shape": (SIZE, SIZE, 3)}
        model = getattr(keras.applications, name)(weights=None, **shape)
        keras_seeded(model)
        onnx.save(keras_converted(model), folder / f"keras-{name}.onnx")


def keras_seeded(model: Any) -> None:
    """Draw all parameters and statistics again."""
    rng = np.random.default_rng(0)
    for v in model.variables:
        leaf, shape = v.path.split("/")[-1], tuple(v.shape)
        if leaf.endswith("kernel"):
            fan = np.prod(shape[:2] if leaf == "depthwise_kernel" else shape[:-1])
            v.assign(rng.normal(0, ((1 if len(shape) == 2 else 2) / fan) ** 0.5, shape))
        elif leaf in ("beta", "bias", "moving_mean"):
            v.assign(rng.normal(0, 0.1, shape))
        elif leaf in ("gamma", "moving_variance") or "layer_scale" in v.path:
            v.assign(rng.uniform(0.6, 1.0, shape))


def keras_converted(model: Any) -> onnx.ModelProto:
    """Convert with the big weights as inputs, since tf2onnx would copy them many times."""
    import keras
    import tensorflow as tf
    import tf2onnx

    big = [v for v in model.variables if np.prod(v.shape) >= 1024]
    plain = tf.function

    def f(x: Any, *weights: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(big, weights, strict=True))):
            return model(x, training=False)

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="x")]
    signature += [tf.TensorSpec(v.shape, tf.float32, name=f"w{i}") for i, v in enumerate(big)]
    tf.function = lambda fn=None, **options: (  # grouped convolutions would stay calls
        (fn or (lambda g: g)) if options.get("jit_compile") else plain(fn, **options)
    )
    try:
        traced = plain(f, input_signature=signature)
        graph = traced.get_concrete_function()
        proto, _ = tf2onnx.convert.from_function(
            traced, input_signature=signature, opset=18, custom_op_handlers={"Erfc": (erfc, [])}
        )
    finally:
        tf.function = plain
    known = {f"w{i}": np.asarray(v) for i, v in enumerate(big)}
    extra = [i.name for i in proto.graph.input if i.name != "x" and i.name not in known]
    eager = [t.numpy() for t in graph.captured_inputs if t.dtype != tf.resource]
    known.update(zip(extra, eager, strict=False))
    return with_weights(proto, known)


def erfc(ctx: Any, node: Any, name: str, args: Any) -> None:
    """Exact GELU uses erfc, which ONNX lacks."""
    import tf2onnx

    node.type = "Erf"
    one = ctx.make_const(tf2onnx.utils.make_name("one"), np.array(1, np.float32))
    inputs = [one.output[0], node.output[0]]
    ctx.insert_new_node_on_output(
        "Sub", node.output[0], inputs=inputs, name=tf2onnx.utils.make_name("erfc")
    )


def with_weights(proto: onnx.ModelProto, known: dict[str, Any]) -> onnx.ModelProto:
    """Turn inputs into initialisers, and compute what hangs on them alone."""
    from onnx.reference import ReferenceEvaluator

    graph = proto.graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer} | known
    left = []
    for node in graph.node:
        if set(node.input) <= values.keys() and known.keys() & set(node.input):
            inputs = [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape
                )
                for name in node.input
            ]
            outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
            one = helper.make_graph([node], "one", inputs, outputs)
            run = ReferenceEvaluator(helper.make_model(one, opset_imports=proto.opset_import))
            results = run.run(None, {name: values[name] for name in node.input})
            known = known | dict(zip(node.output, map(np.asarray, results), strict=True))
            values |= known
        else:
            left.append(node)
    used = {name for node in left for name in node.input}
    own = {t.name for t in graph.initializer}
    kept = [t for t in graph.initializer if t.name in used]
    kept += [
        numpy_helper.from_array(np.ascontiguousarray(a), name)
        for name, a in known.items()
        if name in used and name not in own
    ]
    made = helper.make_graph(
        left, graph.name, [i for i in graph.input if i.name == "x"], graph.output, kept
    )
    result = helper.make_model(made, opset_imports=proto.opset_import, producer_name="tf2onnx")
    result.ir_version = proto.ir_version
    onnx.checker.check_model(result)
    return result


def strip_main(folder: Path, names: list[str]) -> None:
    for path in sorted(folder.glob("*.onnx")):
        proto = onnx.load(path)
        stripped(proto)
        onnx.save(proto, Path(names[0]) / path.name)


def stripped(proto: onnx.ModelProto) -> None:
    """Take out the numbers, and the exporter's notes that nothing reads."""
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    proto.graph.ClearField("metadata_props")
    for value in [*proto.graph.input, *proto.graph.output]:
        value.ClearField("metadata_props")
    for node in proto.graph.node:
        node.doc_string = ""
        kept = [(e.key, e.value) for e in node.metadata_props if e.key == KEPT_METADATA]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    for tensor in proto.graph.initializer:
        tensor.ClearField("metadata_props")
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size >= STRIPPED_FROM:
            del tensor.float_data[:]
            tensor.ClearField("raw_data")
            tensor.doc_string = f"{array.mean():.4g} {array.std():.4g}"


if __name__ == "__main__":
    main = {"torch": torch_main, "keras": keras_main, "strip": strip_main}[sys.argv[1]]
    main(Path(sys.argv[2]), sys.argv[3:])
