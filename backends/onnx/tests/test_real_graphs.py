"""Graphs as real exporters write them, with weights drawn anew: numbers, layers, heads, names."""

import os
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxjax._model import load
from xaimaps_jax._onnx import traced
from xaimaps_onnx.analysis import OnnxNetwork

import xaimaps
from xaimaps.errors import LayerError
from xaimaps.targets import as_target

GRAPHS = Path(__file__).parent / "graphs"
MODELS = os.environ.get("XAIMAPS_MODELS")
NAMES = sorted(path.stem for path in GRAPHS.glob("*.onnx"))
TOLERANCE = 5e-6

DEFAULTS = {
    "keras-MobileNetV2": ("out_relu", (None, 3, 3, 1280)),
    "keras-ResNet50": ("conv5_block3_out", (None, 3, 3, 2048)),
    "torchvision-mobilenet_v3_small-ts": ("features.12.2", (None, 3, 3, 576)),
    "torchvision-resnet18-dynamo": ("layer4.1.relu", (None, 3, 3, 512)),
    "torchvision-swin-dynamo": ("norm", (None, 8, 8, 32)),
    "torchvision-vit-dynamo": ("encoder.layers.encoder_layer_1.ln_1", (None, 4, 4, 32)),
    "torchvision-vit-ts": ("encoder.layers.encoder_layer_1.ln_1", (None, 4, 4, 32)),
}
POOLED = {"keras-MobileNetV2", "keras-ResNet50"} | {
    "torchvision-resnet18-dynamo",
    "torchvision-swin-dynamo",
}
NAMED = [
    ("keras-ResNet50", "conv4_block6_out", "resnet50_1/conv4_block6_out_1/Relu:0"),
    (
        "keras-ResNet50",
        "resnet50_1/conv4_block6_out_1/Relu",
        "resnet50_1/conv4_block6_out_1/Relu:0",
    ),
    ("keras-ResNet50", "resnet50_1/conv2_block1_0_bn_1/batchnorm/mul_1:0", None),
    ("keras-MobileNetV2", "block_5_add", "mobilenetv2_1.00_96_1/block_5_add_1/Add:0"),
    ("torchvision-resnet18-dynamo", "layer4", "relu_16"),
    ("torchvision-resnet18-dynamo", "layer4.1", "relu_16"),
    ("torchvision-resnet18-dynamo", "layer4.0.relu", "relu_14"),
    ("torchvision-resnet18-dynamo", "layer3", "relu_12"),
    ("torchvision-resnet18-dynamo", "node_relu_12", "relu_12"),
    (
        "torchvision-mobilenet_v3_small-ts",
        "features.1",
        "/features/features.1/block/block.2/block.2.0/Conv_output_0",
    ),
    (
        "torchvision-mobilenet_v3_small-ts",
        "features.4.block.2.fc1",
        "/features/features.4/block/block.2/fc1/Conv_output_0",
    ),
    (
        "torchvision-vit-ts",
        "encoder.layers.encoder_layer_0",
        "/encoder/layers/encoder_layer_0/Add_1_output_0",
    ),
    ("torchvision-vit-ts", "encoder.ln", "/encoder/ln/LayerNormalization_output_0"),
]


def model_of(name):
    """The graph with weights drawn from the statistics that each tensor's doc string holds."""
    proto = onnx.load(GRAPHS / f"{name}.onnx")
    for tensor in proto.graph.initializer:
        if tensor.doc_string:
            mean, deviation = map(float, tensor.doc_string.split())
            rng = np.random.default_rng(zlib.crc32(tensor.name.encode()))
            drawn = rng.normal(mean, deviation, tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(drawn, tensor.name))
    return proto


@pytest.fixture(scope="module")
def models():
    made = {}

    def get(name):
        if name not in made:
            proto = model_of(name)
            made[name] = (proto, xaimaps.load(proto))
        return made[name]

    return get


def images_for(backend, batch):
    shape = (batch, *(size or 224 for size in backend.input_shape))
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def runtime(proto, images):
    """ONNX Runtime's outputs, and where these are of a softmax, its logits."""
    weights = {tensor.name for tensor in proto.graph.initializer}  # early files list them too
    (source,) = (value for value in proto.graph.input if value.name not in weights)
    last = proto.graph.node[-1]
    name = last.input[0] if last.op_type == "Softmax" else proto.graph.output[0].name
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    if last.op_type == "Softmax":
        shown.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    planar = source.type.tensor_type.shape.dim[1].dim_value == 3
    given = images.transpose(0, 3, 1, 2) if planar else images
    return session.run([name], {source.name: given})[0].reshape(len(images), -1)


def gradients_of(backend, images, layer, classes):
    target = as_target(classes, len(images), None)
    return backend.compile(lambda b, x: b.grad(x, target, wrt=layer), images)(images)


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_are_those_of_onnx_runtime_and_the_gradient_is_right(models, name):
    proto, backend = models(name)
    images, layer = images_for(backend, 2), backend.default_layer().name
    found = gradients_of(backend, images, layer, [1, 2])
    expected = runtime(proto, images)
    assert np.abs(found.outputs - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert found.activations.shape[1:] == backend.default_layer().shape[1:]
    assert np.any(found.gradients, axis=(1, 2, 3)).all()
    check_slope(backend, images, layer, found, [1, 2])


def check_slope(backend, images, layer, found, classes):
    """The gradient along one direction is the slope of the score in float32."""
    direction = np.random.default_rng(2).normal(size=found.activations.shape)
    direction = (direction * np.abs(found.activations).max() * 1e-2).astype(np.float32)

    def scores(b, x, moves):
        start, rest = b.split(x, layer)
        return [
            rest(start + sign * moves)[np.arange(len(x)), np.array(classes)] for sign in (1, -1)
        ]

    up, down = backend.compile(scores, images, direction)(images, direction)
    slopes = (np.asarray(up) - np.asarray(down)) / 2
    expected = (np.asarray(found.gradients) * direction).sum((1, 2, 3))
    np.testing.assert_allclose(slopes, expected, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["torchvision-vit-ts", "torchvision-swin-dynamo"])
@pytest.mark.parametrize("batch", [1, 3])
def test_one_load_serves_every_batch_size(models, name, batch):
    proto, backend = models(name)
    images = images_for(backend, batch)
    found = backend.compile(lambda b, x: b.forward(x), images)(images)
    expected = runtime(proto, images)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", NAMES)
def test_the_default_layer_is_the_last_map_that_the_output_depends_on(models, name):
    _, backend = models(name)
    alias, shape = DEFAULTS[name]
    layer = backend.default_layer()
    assert alias in layer.aliases
    assert layer.shape == shape
    assert layer.name in [listed.name for listed in backend.layers()]


@pytest.mark.parametrize("name", NAMES)
def test_a_pooling_head_is_found_where_there_is_one(models, name):
    _, backend = models(name)
    if name not in POOLED:
        with pytest.raises(LayerError, match="does not follow the pooling"):
            backend.classifier()
        return
    head = backend.classifier()
    assert head.layer == backend.default_layer().name
    assert head.weights.shape[0] == backend.default_layer().shape[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_final_softmax_is_left_out(name):
    network = OnnxNetwork(load(model_of(name)), traced)
    ending = network.usual.ending
    operator = ending and ending.operation.operator
    assert operator == ("Softmax" if name.startswith("keras") else None)


@pytest.mark.parametrize(("name", "alias", "value"), NAMED)
def test_layers_go_by_the_names_of_their_source(models, name, alias, value):
    _, backend = models(name)
    assert backend.find_layer(alias).name == (value or alias)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_stands_for_one_layer(models, name):
    _, backend = models(name)
    for layer in backend.layers():
        for known_as in (layer.name, *layer.aliases):
            assert backend.find_layer(known_as) == layer


def test_values_that_are_not_listed_go_by_their_own_name(models):
    _, backend = models("keras-ResNet50")
    listed = {layer.name for layer in backend.layers()}
    hidden = [name for name in backend.network.shapes if name not in listed]
    assert hidden
    assert all(backend.find_layer(name).name == name for name in hidden)


def test_the_class_token_stays_when_a_transformer_is_cut(models):
    _, backend = models("torchvision-vit-dynamo")
    images = images_for(backend, 2)
    layer = backend.find_layer("encoder.layers.encoder_layer_0").name
    activations, rest = backend.split(images, layer)
    assert activations.shape == (2, 4, 4, 32)
    np.testing.assert_allclose(rest(activations), backend.forward(images), rtol=1e-4, atol=1e-5)


def test_behind_the_last_attention_only_the_class_token_counts(models):
    _, backend = models("torchvision-vit-dynamo")
    images = images_for(backend, 1)
    found = gradients_of(backend, images, backend.find_layer("encoder.ln").name, [0])
    assert not np.any(found.gradients)


@pytest.mark.skipif(not MODELS, reason="XAIMAPS_MODELS names no folder of exported models")
@pytest.mark.parametrize("path", sorted(Path(MODELS or ".").glob("*.onnx")), ids=lambda p: p.stem)
def test_whole_models_give_what_onnx_runtime_gives(path):
    backend, proto = xaimaps.load(path), onnx.load(path)
    images = images_for(backend, backend.network.fixed_batch or 2)
    found = np.asarray(backend.compile(lambda b, x: b.forward(x), images)(images))
    expected = runtime(proto, images)
    if not path.stem.startswith("int8"):  # rounding to another integer is no small error
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).all()
