"""Gradients of ONNX files by onnx-ad, which writes the gradient as an ONNX graph. Run by hand.

    pip install onnx-ad onnxruntime CHECKOUT      # onnx-ad 0.3.0; CHECKOUT for xaimaps._images.open
    python make_onnx_ad.py                        # writes onnx_ad.npz beside this file
    python make_onnx_ad.py OUTPUT MODEL.onnx ...  # writes OUTPUT/MODEL.npz for whole models

onnx-ad shares nothing with xaimaps or JAX: its rules write the gradient of each operator in
other operators, and ONNX Runtime runs them. Three things are done to a model first, none of
which changes what it computes: its batch becomes one, its opset at least 16, and a window with
uneven pads gets a Pad before it, since the ConvTranspose that onnx-ad writes for a convolution
loses them.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, shape_inference, version_converter
from onnx_ad import reverse
from small_graphs import GRAPHS, small_input, small_model, weights_of

from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS
from xaimaps.zoo import MODELS, PICTURES

HERE = Path(__file__).parent
NAMES = ("chelsea", "coffee")
STEP = 7  # every seventh pixel: prime to the network's strides
SIZE = 224
OPSET = 16  # MaxPool's gradient adds with ScatterND


def main(arguments):
    if arguments:
        folder, *paths = map(Path, arguments)
        for path in paths:
            np.savez_compressed(folder / f"{path.stem}.npz", **whole_model(path))
        return
    found = {name: small_gradient(name) for name in GRAPHS}
    found.update(embedded_gradients())
    np.savez_compressed(HERE / "onnx_ad.npz", **found)


def small_gradient(name):
    """Of a weighted sum of all outputs."""
    return gradient(small_model(name), small_input(), "y", weights_of)[1]


def embedded_gradients():
    """Of the largest logit of the embedded model, for its photographs, in channels-last order."""
    model = single_image(onnx.load(MODELS["default"]), SIZE)
    output = model.graph.output[0].name
    for name in NAMES:
        image = PRESETS["tf"](open_picture(PICTURES[name]).pixels, (SIZE, SIZE))
        _, found = gradient(model, image.transpose(2, 0, 1)[None], output, at_largest)
        yield f"embedded {name}", found[0].transpose(1, 2, 0)[::STEP, ::STEP]


def whole_model(path):
    """Of the largest logit for an image of noise."""
    model = single_image(onnx.load(path), SIZE)
    shape = [d.dim_value for d in the_input(model).type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    output = logits(model)
    y, found = gradient(model, x, output, at_largest)
    return {"input": x, "output": output, "target": y.argmax(), "gradient": found}


def gradient(model, x, output, weigh):
    """An output, and the gradient of a weighted sum of it to the model's input."""
    source = the_input(model).name
    model = shape_inference.infer_shapes(evenly_padded(model), data_prop=True)
    model = with_output(model, output)
    (y,) = run(model, {source: x}, [output])
    adjoint = reverse(model, inputs=[source], outputs=[output], layout="onnx")
    seed = f"adj_{output}"
    (found,) = run(adjoint, {source: x, seed: weigh(y)[..., None]}, [f"adj_{source}"])
    return y, found[..., 0]


def at_largest(y):
    weights = np.zeros_like(y)
    weights.flat[y.argmax()] = 1
    return weights


def the_input(model):
    weights = {tensor.name for tensor in model.graph.initializer}
    (value,) = (value for value in model.graph.input if value.name not in weights)
    return value


def single_image(model, size):
    """With a batch of one, in an opset that onnx-ad takes, and nothing said of inner shapes."""
    if min(e.version for e in model.opset_import if e.domain in ("", "ai.onnx")) < OPSET:
        model = version_converter.convert_version(model, OPSET)
    batch, *others = the_input(model).type.tensor_type.shape.dim
    batch.dim_value = 1
    for dim in others:
        dim.dim_value = dim.dim_value or size
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(model, data_prop=True)


def evenly_padded(model):
    """With zeros written out before each convolution that pads its two sides differently."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes = []
    for node in model.graph.node:
        pads = next((list(a.ints) for a in node.attribute if a.name == "pads"), [])
        half = len(pads) // 2
        if node.op_type != "Conv" or pads[:half] == pads[half:]:
            nodes.append(node)
            continue
        amount, padded = f"{node.output[0]} pads", f"{node.output[0]} padded"
        array = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
        result.graph.initializer.append(numpy_helper.from_array(array, amount))
        nodes.append(helper.make_node("Pad", [node.input[0], amount], [padded]))
        nodes.append(unpadded(node, padded))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def unpadded(node, source):
    """The node without pads, on another input."""
    result = onnx.NodeProto()
    result.CopyFrom(node)
    result.input[0] = source
    del result.attribute[:]
    result.attribute.extend(a for a in node.attribute if a.name != "pads")
    return result


def logits(model):
    """The value before a softmax at the end."""
    last = model.graph.node[-1]
    return last.input[0] if last.op_type == "Softmax" else model.graph.output[0].name


def with_output(model, name):
    """With that value as the only output."""
    known = (*model.graph.output, *model.graph.value_info)
    value = next(value for value in known if value.name == name)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.output.append(value)
    return result


def run(model, inputs, outputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(outputs, inputs)


if __name__ == "__main__":
    main(sys.argv[1:])
