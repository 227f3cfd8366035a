"""Exported gradients and changed images, in ONNX Runtime alone, against gradients in numpy."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps._prepare import prepare
from xaimaps.errors import BackendError, MethodError, UnsupportedModelError
from xaimaps.methods import get_method
from xaimaps.testing import ReferenceBackend, pooled_network
from xaimaps.testing.networks import one_conv_network

pytest.importorskip("jax")

IMAGES = np.random.default_rng(7).normal(size=(4, 9, 9, 3)).astype(np.float32)

METHODS = [
    ("saliency", {}),
    ("saliency", {"absolute": False, "augment": "flip"}),
    ("grad_cam", {"layer": "relu1"}),
    ("layer_cam", {"layer": "relu1"}),
    ("integrated_gradients", {"n_steps": 3, "baseline": "mean"}),
    ("expected_gradients", {"n_samples": 3, "baseline": "zeros"}),
    ("layer_integrated_gradients", {"n_steps": 3, "layer": "relu1"}),
    ("smoothgrad", {"n_samples": 3}),
    ("occlusion", {"window": 4, "stride": 3}),
    ("rise", {"n_masks": 5, "grid": 3}),
    ("score_cam", {}),
    ("score_cam", {"channels": 2}),
    ("is_cam", {"n_steps": 2}),
    ("ss_cam", {"n_samples": 2}),
    ("ablation_cam", {"layer": "relu1"}),
    ("recipro_cam", {"layer": "relu1"}),
]


def saved(path, network=None, *, opset=18, batch="N"):
    model = as_onnx(network or pooled_network(), batch=batch)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    return path


def run(path, images=IMAGES, **given):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    planar = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return dict(
        zip(names, session.run(names, {session.get_inputs()[0].name: planar, **given}), strict=True)
    )


def expected(method, options, target=2, images=IMAGES):
    backend = ReferenceBackend(pooled_network())
    found = xaimaps.attribute(backend, images, method, target=target, **options)
    return np.asarray(found.maps)


def close(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_methods(tmp_path, method, options):
    file = saved(tmp_path / "model.onnx")
    out = xaimaps.export(file, tmp_path / "out.onnx", method, target=2, **options)
    onnx.checker.check_model(onnx.load(out.file))
    close(run(out.file)["map"], expected(method, options), get_method(method).tolerance or 1e-4)


def test_masks_of_constant_channels_are_run_once(tmp_path):
    network = pooled_network(channels=8)
    network.layers["conv2"].bias[:4] = -100
    file = saved(tmp_path / "model.onnx", network)
    out = xaimaps.export(file, tmp_path / "out.onnx", "score_cam", target=2)
    (loop,) = (node for node in onnx.load(out.file).graph.node if node.op_type == "Loop")
    (choice,) = (node for node in loop.attribute[0].g.node if node.op_type == "If")
    branches = {one.name: [node.op_type for node in one.g.node] for one in choice.attribute}
    assert branches["then_branch"].count("Conv") == 2
    assert branches["else_branch"] == ["Identity"]
    assert "Conv" not in {node.op_type for node in loop.attribute[0].g.node}
    found = xaimaps.attribute(ReferenceBackend(network), IMAGES, "score_cam", target=2)
    close(run(out.file)["map"], found.maps, 1e-4)


@pytest.mark.parametrize("opset", [13, 16, 21])
@pytest.mark.parametrize("batch", [2, "N"])
def test_opsets_and_batches(tmp_path, opset, batch):
    file = saved(tmp_path / "model.onnx", opset=opset, batch=batch)
    out = xaimaps.export(file, tmp_path / "out.onnx", "integrated_gradients", n_steps=3, target=1)
    for images in (IMAGES[:2], IMAGES[2:]):
        close(
            run(out.file, images)["map"],
            expected("integrated_gradients", {"n_steps": 3}, 1, images),
            1e-4,
        )


def test_the_class_is_that_of_the_image_itself(tmp_path):
    """A changed image may have another top class."""
    file = saved(tmp_path / "model.onnx")
    (outputs,) = run(file).values()
    top = outputs.argmax(-1)
    out = xaimaps.export(file, tmp_path / "out.onnx", "smoothgrad", n_samples=3, noise_level=2.0)
    wanted = expected("smoothgrad", {"n_samples": 3, "noise_level": 2.0}, [int(n) for n in top])
    close(run(out.file)["map"], wanted, 1e-4)
    given = xaimaps.export(file, tmp_path / "in.onnx", "saliency", target="input")
    close(run(given.file, target=top)["map"], expected("saliency", {}, [int(n) for n in top]))


def test_weights_are_in_the_file_once(tmp_path):
    file = saved(tmp_path / "model.onnx")
    out = xaimaps.export(file, tmp_path / "out.onnx", "occlusion", window=4, stride=3)
    before, after = onnx.load(file).graph, onnx.load(out.file).graph
    (loop,) = (node for node in after.node if node.op_type == "Loop")
    (body,) = (attribute.g for attribute in loop.attribute)
    convolutions = [node for node in body.node if node.op_type == "Conv"]
    weights = {tensor.name for tensor in before.initializer}
    assert convolutions
    assert all(node.input[1] in weights for node in convolutions)
    assert not body.initializer
    assert list(after.node)[: len(before.node)] == list(before.node)


def test_a_model_without_a_head(tmp_path):
    file = saved(tmp_path / "model.onnx", one_conv_network())
    out = xaimaps.export(file, tmp_path / "out.onnx", "grad_cam", target=0)
    images = (
        np.random.default_rng(0)
        .normal(size=(3, *one_conv_network().input_shape))
        .astype(np.float32)
    )
    backend = ReferenceBackend(one_conv_network())
    wanted = xaimaps.attribute(backend, images, "grad_cam", target=0).maps
    close(run(out.file, images)["map"], wanted)


REFUSED = [
    ("saliency", {"target": "all"}, MethodError, "must be that of one class"),
    ("guided_backprop", {}, BackendError, "as it needs rules"),
    ("integrated_gradients", {"memory": 512}, MethodError, "without `memory`"),
]


@pytest.mark.parametrize(("method", "options", "error", "words"), REFUSED)
def test_refusals(tmp_path, method, options, error, words):
    file = saved(tmp_path / "model.onnx")
    with pytest.raises(error, match=words) as raised:
        xaimaps.export(file, tmp_path / "out.onnx", method, **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out.onnx").exists()


def test_an_operator_whose_derivative_is_not_written(tmp_path):
    model = as_onnx(pooled_network())
    for node in model.graph.node:
        node.input[:] = ["sorted" if name == "relu1" else name for name in node.input]
    at = next(i for i, node in enumerate(model.graph.node) if "relu1" in node.output) + 1
    model.graph.initializer.append(helper.make_tensor("k", 7, [1], [3]))
    model.graph.node.insert(at, helper.make_node("TopK", ["relu1", "k"], ["sorted", "at"], "top"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModelError, match=r"TopK node 'top' cannot be written.*'sort'"):
        xaimaps.export(tmp_path / "model.onnx", tmp_path / "out.onnx", "saliency")


def test_without_jax(tmp_path, monkeypatch):
    file = saved(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "xaimaps_onnx.export._backward", None)
    with pytest.raises(BackendError, match="a gradient in an ONNX file needs"):
        xaimaps.export(file, tmp_path / "out.onnx", "saliency")


ALONE = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
[found] = session.run(["map"], {session.get_inputs()[0].name: numpy.load(sys.argv[2])})
assert "xaimaps" not in sys.modules and "jax" not in sys.modules
numpy.save(sys.argv[3], found)
"""


def test_the_embedded_network_in_a_process_without_xaimaps(tmp_path):
    """One file with a backward pass of each kind of layer, and a loop of changed images."""
    backend = xaimaps.load("default")
    images = prepare(backend, [next(iter(xaimaps.zoo.PICTURES.values()))], (224, 224)).images
    out = xaimaps.export("default", tmp_path / "out.onnx", "integrated_gradients", n_steps=2)
    np.save(tmp_path / "in.npy", np.moveaxis(images, -1, 1))
    files = [out.file, *(tmp_path / name for name in ("in.npy", "map.npy"))]
    subprocess.run([sys.executable, "-c", ALONE, *map(str, files)], check=True)
    found = np.load(tmp_path / "map.npy")
    wanted = xaimaps.attribute(backend, images, "integrated_gradients", n_steps=2).maps
    assert out.output_difference == 0
    cosine = (found * wanted).sum() / np.sqrt((found**2).sum() * (wanted**2).sum())
    assert cosine > 0.999
