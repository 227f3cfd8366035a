"""The methods on networks that were worked out by hand, and the laws that all of them keep."""

import ast
import doctest
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import xaimaps
from xaimaps._images.preprocess import PRESETS
from xaimaps.backend import INPUT, Capability
from xaimaps.errors import LayerError, MethodError, TargetError
from xaimaps.methods import METHODS, cam, get_method, grad_cam, input_x_gradient, saliency
from xaimaps.targets import as_target, several
from xaimaps.testing import (
    REFERENCE_METHODS,
    Conv,
    Dense,
    GlobalAveragePool,
    Network,
    ReferenceBackend,
    ReLU,
    one_conv_network,
    pooled_network,
)

RAMP = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)


def weighed_network():
    """A rectifier, pooling and 2 x 2 weights: CAM is 1 x the first channel + 2 x the second."""
    weights, bias = np.float32([[1, -1], [2, 0]]), np.float32([10, 20])
    layers = {"relu": ReLU(), "pool": GlobalAveragePool(), "fc": Dense(weights, bias)}
    return Network(layers, (2, 2, 2))


def dead_network():
    """No image gets past the first bias, so that nothing depends on the image."""
    dead = Conv(np.ones((3, 3, 3, 4), np.float32), np.full(4, -1000, np.float32))
    dense = Dense(np.ones((4, 5), np.float32), np.zeros(5, np.float32))
    layers = {"conv": dead, "relu": ReLU(), "pool": GlobalAveragePool(), "fc": dense}
    return Network(layers, (9, 9, 3))


# Expected values, worked out by hand or published by Captum

WEIGHED = np.float32([[[[1, -1], [2, 3]], [[-4, 5], [6, 0]]]])
GRADIENT = [[0, 1, 1, 1]] * 3 + [[0, 0, 0, 0]]

RECTIFIED = {  # guided backpropagation and its relatives, as Captum's tests have them
    "guided": [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]],
    "deconvnet": [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]],
    "times grad_cam": [[0, 0, 4, 4], [0, 0, 12, 8], [28, 84, 97.5, 65], [28, 56, 65, 32.5]],
}

EXPECTED = [
    ("saliency", one_conv_network, RAMP, {}, GRADIENT),
    ("saliency", weighed_network, WEIGHED, {}, [[0.25, 0.5], [0.5, 0.25]]),
    ("saliency", weighed_network, WEIGHED, {"reduce": "sum"}, [[0.25, 0.75], [0.5, 0.25]]),
    ("saliency", weighed_network, WEIGHED, {"reduce": "mean"}, [[0.125, 0.375], [0.25, 0.125]]),
    ("saliency", weighed_network, WEIGHED, {"target": 1}, [[0.25, 0.25], [0, 0.25]]),
    (
        "saliency",
        weighed_network,
        WEIGHED,
        {"target": 1, "absolute": False, "reduce": "sum"},
        [[-0.25, -0.25], [0, -0.25]],
    ),
    ("input_x_gradient", one_conv_network, RAMP, {}, RAMP[0, ..., 0] * GRADIENT),
    ("input_x_gradient", weighed_network, WEIGHED, {}, [[0.25, 2], [2.5, 1.5]]),
    ("cam", weighed_network, WEIGHED, {}, [[1, 8], [10, 6]]),
    ("cam", weighed_network, WEIGHED, {"target": 1}, [[-1, -2], [0, -6]]),
    ("integrated_gradients", weighed_network, WEIGHED, {}, [[0.25, 2], [2.5, 1.5]]),
    ("hires_cam", one_conv_network, RAMP, {"layer": "conv"}, [[0, 4], [25, 25]]),
    ("hires_cam", weighed_network, WEIGHED, {}, [[0.25, 2], [2.5, 1.5]]),
    ("layer_cam", one_conv_network, RAMP, {"layer": "conv"}, [[0, 4], [31, 40]]),
    ("xgrad_cam", weighed_network, WEIGHED, {}, [[0.25, 2], [2.5, 1.5]]),
    ("guided_backprop", one_conv_network, RAMP, {}, RECTIFIED["guided"]),
    ("deconvnet", one_conv_network, RAMP, {}, RECTIFIED["deconvnet"]),
    (
        "guided_grad_cam",
        one_conv_network,
        RAMP,
        {"layer": "relu1", "interpolation": "nearest"},
        RECTIFIED["times grad_cam"],
    ),
    ("grad_cam", one_conv_network, RAMP, {"layer": "conv"}, [[11.25, 13.5], [20.25, 22.5]]),
    ("grad_cam", one_conv_network, RAMP, {"layer": "relu1"}, [[0, 4], [28, 32.5]]),
    ("grad_cam", one_conv_network, RAMP, {}, [[0, 4], [28, 32.5]]),
    ("grad_cam", one_conv_network, RAMP + 1, {"layer": "conv"}, [[14.5, 19], [32.5, 37]]),
    ("grad_cam", weighed_network, WEIGHED, {"target": 1}, [[0, 0], [0, 0]]),
    (
        "grad_cam",
        weighed_network,
        WEIGHED,
        {"target": 1, "relu": False},
        [[-0.25, -0.5], [0, -1.5]],
    ),
]


@pytest.mark.parametrize(("name", "network", "image", "options", "expected"), EXPECTED)
def test_values_worked_out_by_hand(name, network, image, options, expected):
    backend = ReferenceBackend(network())
    result = METHODS[name].fn(backend, image, **{"target": 0, **options})
    np.testing.assert_allclose(result.maps, [expected], rtol=1e-6)
    np.testing.assert_array_equal(result.outputs, backend.forward(image))


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        ("conv", [[[-3.75, 3], [23.25, 30]], [[15, 10.5], [-3, -7.5]]]),
        ("relu1", [[[0, 4], [31, 40]], [[0, 0], [-3, -7.5]]]),
    ],
)
def test_each_channels_part_of_grad_cam_is_captums(captum, layer, channels):
    found = captum.grad(RAMP, as_target(0, 1), wrt=layer)
    parts = found.gradients.mean(axis=(1, 2), keepdims=True) * found.activations
    np.testing.assert_array_equal(np.moveaxis(parts[0], -1, 0), channels)


# The reference backend itself


def central_differences(function, point, step=1e-6):
    """The gradient of each image's score, one number at a time."""
    result = np.zeros_like(point)
    for index in np.ndindex(point.shape[1:]):
        sides = []
        for sign in (step, -step):
            moved = point.copy()
            moved[(slice(None), *index)] += sign
            sides.append(function(moved))
        result[(slice(None), *index)] = (sides[0] - sides[1]) / (2 * step)
    return result


@pytest.mark.parametrize("layer", [INPUT, "conv1", "relu1", "conv2", "relu2", "pool"])
def test_reference_gradients_against_finite_differences(pooled, images, layer):
    target, images = as_target([0, 4], 2), images[:2].astype(np.float64)
    found = pooled.grad(images, target, wrt=layer)
    rest = pooled.forward if layer == INPUT else pooled.split(images, layer)[1]
    differences = central_differences(
        lambda point: target.scores(np, rest(point)), found.activations
    )
    np.testing.assert_allclose(found.gradients, differences, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layer", [INPUT, "conv", "relu1", "flatten", "fc"])
def test_captums_gradients_against_finite_differences(captum, layer):
    image, target = RAMP.astype(np.float64), as_target(0, 1)
    found = captum.grad(image, target, wrt=layer)
    rest = captum.forward if layer == INPUT else captum.split(image, layer)[1]
    differences = central_differences(
        lambda point: target.scores(np, rest(point)), found.activations
    )
    # Where an activation is 0, a rectifier has slope 0 and its difference quotient is 1/2.
    smooth = found.activations != 0 if layer == "relu1" else True
    np.testing.assert_allclose(found.gradients * smooth, differences * smooth, atol=1e-7)


# Laws of single methods


@pytest.mark.parametrize("target", range(5))
def test_the_mean_of_a_cam_is_the_logit_less_its_bias(pooled, images, target):
    maps, outputs = cam(pooled, images, target)[:2]
    bias = pooled.chain.layers["fc"].bias[target]
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), outputs[:, target] - bias, atol=1e-6)


def test_cam_and_grad_cam_differ_by_the_number_of_places(pooled, images):
    weighed = cam(pooled, images, 1).maps
    pulled = grad_cam(pooled, images, 1, relu=False).maps
    np.testing.assert_allclose(weighed, 25 * pulled, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(grad_cam(pooled, images, 1).maps, np.maximum(pulled, 0))


@pytest.mark.fault("L05")
def test_cam_takes_the_pooled_layer_and_no_other(pooled, images):
    np.testing.assert_array_equal(
        cam(pooled, images, 1, layer="relu2").maps, cam(pooled, images, 1).maps
    )
    with pytest.raises(LayerError, match=r"'relu2' for CAM, got 'conv1'; use grad_cam"):
        cam(pooled, images, layer="conv1")


def test_cam_needs_classes_and_a_head(pooled, captum, images):
    with pytest.raises(TargetError, match="must be a class for CAM, got a function; use grad_cam"):
        cam(pooled, images, lambda outputs: outputs[:, 0])
    with pytest.raises(LayerError, match="global average pooling"):
        cam(captum, RAMP)


def test_saliency_keeps_channels_and_sign_on_request(pooled, images):
    gradients = pooled.grad(images, as_target(2, 7)).gradients
    kept = saliency(pooled, images, 2, absolute=False, reduce=None).maps
    np.testing.assert_array_equal(kept, gradients)
    signed = saliency(pooled, images, 2, absolute=False, reduce="mean").maps
    np.testing.assert_array_equal(signed, gradients.mean(axis=-1))
    assert (signed < 0).any()
    np.testing.assert_array_equal(
        saliency(pooled, images, 2, reduce=None).maps.max(axis=-1), saliency(pooled, images, 2).maps
    )


def test_input_x_gradient_of_a_network_without_biases_sums_to_the_score(images):
    network = pooled_network()
    layers = {
        name: type(layer)(getattr(layer, "kernel", getattr(layer, "weights", None)), np.float32(0))
        if hasattr(layer, "bias")
        else layer
        for name, layer in network.layers.items()
    }
    backend = ReferenceBackend(Network(layers, network.input_shape))
    maps, outputs = input_x_gradient(backend, images, 3)[:2]
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), outputs[:, 3], atol=1e-6)


@pytest.mark.parametrize("method", [saliency, input_x_gradient])
@pytest.mark.parametrize("reduce", ["median", "", "Max", 0, True])
def test_unknown_reductions(pooled, images, method, reduce):
    with pytest.raises(MethodError, match=r"'max', 'sum', 'mean' or None, got"):
        method(pooled, images, 0, reduce=reduce)


@pytest.mark.fault("L01", "L02")
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("relu3", r"6 layers, got 'relu3'; nearest: 'relu[12]', 'relu[12]'; `xaimaps layers`"),
        ("pool", r"'pool' has shape \(None, 6\); use one before the pooling, such as 'relu2'"),
        ("fc", "spatial extent"),
        ("", "6 layers, got ''"),
    ],
)
def test_wrong_layers(pooled, images, layer, message):
    with pytest.raises(LayerError, match=message):
        grad_cam(pooled, images, layer=layer)


# Laws of all methods


@pytest.mark.parametrize("name", REFERENCE_METHODS)
def test_a_batch_gives_what_single_images_give(pooled, images, name):
    whole = METHODS[name].fn(pooled, images, [4, 3, 2, 1, 0, 1, 2]).maps
    for i, target in enumerate([4, 3, 2, 1, 0, 1, 2]):
        single = METHODS[name].fn(pooled, images[i : i + 1], target).maps
        np.testing.assert_allclose(whole[i : i + 1], single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in REFERENCE_METHODS if METHODS[name].uses_target])
def test_several_targets_give_what_single_ones_give(pooled, images, name):
    targets = several(4, None, [0, 1, 2, 3, 4, 0, 1])
    whole, outputs = METHODS[name].fn(pooled, images, targets)[:2]
    assert whole.shape[:2] == (3, 7)
    assert outputs.shape == (7, 5)
    for maps, target in zip(whole, (4, None, [0, 1, 2, 3, 4, 0, 1]), strict=True):
        single = METHODS[name].fn(pooled, images, target).maps
        np.testing.assert_allclose(maps, single, rtol=1e-5, atol=1e-6)


# DeconvNet's rectifiers let gradients through whatever the image is; the gradient behind the last
# rectifier, which is the default layer, is never zero; where a map is relative, as one of
# probabilities, its zero means nothing.
SILENT = [
    name
    for name in REFERENCE_METHODS
    if not METHODS[name].is_relative and name not in ("deconvnet", "internal_influence")
]


@pytest.mark.fault("A13")
@pytest.mark.parametrize("name", SILENT)
def test_nothing_gives_all_zeros(images, name):
    backend = ReferenceBackend(dead_network())
    backend.info.preprocess = PRESETS["unit"]
    maps, outputs = METHODS[name].fn(backend, images, 0)[:2]
    assert len(maps) == 7
    np.testing.assert_array_equal(maps, 0)
    np.testing.assert_array_equal(outputs, 0)


@pytest.mark.fault("I46")
@pytest.mark.parametrize("name", REFERENCE_METHODS)
@pytest.mark.parametrize("value", [0, 1, -1e-30, 1e15])
def test_constant_images_give_finite_maps(pooled, name, value):
    maps = METHODS[name].fn(pooled, np.full((2, 9, 9, 3), value, np.float32)).maps
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("name", REFERENCE_METHODS)
def test_maps_are_float32_and_of_one_size(pooled, images, name):
    maps = METHODS[name].fn(pooled, images).maps
    sizes = {"gradient": (7, 9, 9), "cam": (7, 5, 5)}
    assert maps.dtype == np.float32
    assert maps.shape == sizes.get(METHODS[name].family, maps.shape[:1] + maps.shape[1:3])


@pytest.mark.parametrize("name", REFERENCE_METHODS)
def test_images_and_weights_are_left_alone(pooled, images, name):
    before = images.copy()
    kernel = pooled.chain.layers["conv1"].kernel.copy()
    METHODS[name].fn(pooled, images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(pooled.chain.layers["conv1"].kernel, kernel)


# The table


def test_the_table_says_what_the_functions_take():
    assert METHODS["saliency"].options == {"absolute": True, "reduce": "max"}
    assert METHODS["grad_cam"].options["relu"] is True
    assert [name for name in ("saliency", "cam", "grad_cam") if METHODS[name].takes_layer] == [
        "cam",
        "grad_cam",
    ]


@pytest.mark.parametrize("name", METHODS)
def test_every_row_is_complete(name):
    row = METHODS[name]
    assert (row.name, row.fn) == (name, getattr(xaimaps.methods, name))
    assert row.needs <= set(get_args(Capability))
    assert row.paper
    assert row.cost
    assert row.summary.endswith(".")
    assert "References:" in row.fn.__doc__


@pytest.mark.parametrize("name", METHODS)
def test_the_example_of_the_documentation_runs(name, tmp_path, monkeypatch):
    if "attention" in METHODS[name].needs:
        pytest.importorskip("xaimaps_jax", reason="the example reads an ONNX file")
    shutil.copy(Path(__file__).parent / "references" / "lrp_vit.onnx", tmp_path / "vit.onnx")
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder().find(METHODS[name].fn, name, globs={})
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_type_checkers_see_every_method():
    """They cannot follow the discovery, so that the package names what it will find."""
    tree = ast.parse(Path(xaimaps.methods.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    named = [(node.module, name.asname) for node in block.body for name in node.names]
    own = [row.fn for row in METHODS.values() if row.fn.__module__.startswith("xaimaps.methods.")]
    assert sorted(named) == sorted((fn.__module__, fn.__name__) for fn in own)


def test_unknown_methods():
    with pytest.raises(MethodError, match="got 'gradcma'; nearest: 'grad_cam'"):
        get_method("gradcma")
    with pytest.raises(MethodError, match="or a function, got 3"):
        get_method(3)
    with pytest.raises(TypeError):
        METHODS["mine"] = METHODS["cam"]
