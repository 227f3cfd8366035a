"""Convolutions, poolings, normalisations, resizing and sampling: values and gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxjax import load, run
from onnxjax.errors import UnsupportedModelError

RNG = np.random.default_rng(3)


def single(operator, arrays, outputs=1, opset=22, **attributes):
    """A model of one node, and its inputs: the floats; the integers in `arrays` are constants."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    named = {n: a for n, a in zip(names, arrays, strict=True) if n}
    inputs = {n: a for n, a in named.items() if a.dtype.kind not in "iu" and a.size}
    kind = helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
    node = helper.make_node(operator, names, [f"y{i}" for i in range(outputs)], **attributes)
    graph = helper.make_graph(
        [node],
        "test",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [
            helper.make_tensor_value_info(f"y{i}", onnx.TensorProto.INT64 if i else kind, [None])
            for i in range(outputs)
        ],
        [numpy_helper.from_array(a, n) for n, a in named.items() if n not in inputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return model, list(inputs.values())


def runtime(model, inputs):
    """What ONNX Runtime computes."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for value in model.graph.output:  # of whatever rank
        value.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def normal(*shape):
    return RNG.standard_normal(shape)


def uniform(*shape):
    return RNG.uniform(0.5, 1.5, shape)


def regions(count, size):
    """Random rectangles: x1, y1, x2, y2."""
    low = RNG.uniform(0, size / 2, (count, 2))
    return np.concatenate([low, low + RNG.uniform(1, size / 2, (count, 2))], 1)


SAME = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
IMAGE = normal(2, 4, 7, 6)
GRID = RNG.uniform(-1.2, 1.2, (2, 5, 4, 2))
VOLUME_GRID = RNG.uniform(-1.2, 1.2, (2, 3, 2, 2, 3))
CHANNELS = (normal(4), normal(4))

GRADIENTS = {
    "Conv": ("Conv", [IMAGE, normal(6, 2, 3, 3), normal(6)], {"group": 2, "pads": [1, 0, 2, 1]}),
    "Conv-pointwise": ("Conv", [IMAGE, normal(5, 4, 1, 1)], {"strides": [2, 2]}),
    "Conv-depthwise": (
        "Conv",
        [IMAGE, normal(4, 1, 3, 3)],
        {"group": 4, "strides": [2, 1], "pads": [1, 2, 0, 1]},
    ),
    "Conv-depthwise-dilated": (
        "Conv",
        [IMAGE, normal(4, 1, 3, 2)],
        {"group": 4, "dilations": [2, 1], "strides": [1, 2]},
    ),
    "Conv-depthwise-same": (
        "Conv",
        [IMAGE, normal(4, 1, 5, 5)],
        {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "Conv-strided": ("Conv", [IMAGE, normal(5, 4, 3, 3)], {"strides": [2, 2], "pads": [1] * 4}),
    "Conv-apart": (
        "Conv",
        [IMAGE, normal(5, 4, 2, 2), normal(5)],
        {"strides": [2, 3], "pads": [1, 0, 0, 1]},
    ),
    "Conv-apart-dilated": (
        "Conv",
        [IMAGE, normal(5, 4, 2, 2)],
        {"strides": [2, 3], "dilations": [1, 2]},
    ),
    "Conv-apart-cropped": ("Conv", [IMAGE, normal(3, 4, 3, 4)], {"strides": [4, 4]}),
    "Conv-apart-1d": (
        "Conv",
        [normal(2, 3, 11), normal(2, 3, 4)],
        {"strides": [4], "pads": [3, 2]},
    ),
    "Conv-plain": ("Conv", [IMAGE, normal(5, 4, 3, 3), normal(5)], {"pads": [1] * 4}),
    "Conv-1d": ("Conv", [normal(2, 4, 9), normal(3, 4, 3)], {"dilations": [2]}),
    "ConvTranspose": (
        "ConvTranspose",
        [IMAGE, normal(4, 3, 3, 3), normal(6)],
        {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 2], "output_padding": [1, 0]},
    ),
    "Col2Im": (
        "Col2Im",
        [normal(2, 12, 9), np.array([5, 5]), np.array([2, 2])],
        {"dilations": [2, 2]},
    ),
    "DeformConv": (
        "DeformConv",
        [IMAGE, normal(6, 2, 3, 2), 0.3 * normal(2, 24, 7, 7), normal(6), uniform(2, 12, 7, 7)],
        {"group": 2, "offset_group": 2, "pads": [1, 1, 1, 1]},
    ),
    "MaxPool": ("MaxPool", [IMAGE], {**SAME, "ceil_mode": 1}),
    "MaxPool-dilated": ("MaxPool", [IMAGE], {"kernel_shape": [2, 3], "dilations": [2, 1]}),
    "AveragePool": ("AveragePool", [IMAGE], SAME),
    "AveragePool-ceil": ("AveragePool", [IMAGE], {**SAME, "ceil_mode": 1, "count_include_pad": 1}),
    "LpPool-1": ("LpPool", [IMAGE], {**SAME, "p": 1}),
    "LpPool-2": ("LpPool", [IMAGE], SAME),
    "LpPool-3": ("LpPool", [IMAGE], {**SAME, "p": 3}),
    "GlobalAveragePool": ("GlobalAveragePool", [IMAGE], {}),
    "GlobalMaxPool": ("GlobalMaxPool", [IMAGE], {}),
    "GlobalLpPool": ("GlobalLpPool", [IMAGE], {"opset": 21}),
    "MaxUnpool": (
        "MaxUnpool",
        [normal(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]])],
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    "BatchNormalization": ("BatchNormalization", [IMAGE, *CHANNELS, normal(4), uniform(4)], {}),
    "InstanceNormalization": ("InstanceNormalization", [IMAGE, *CHANNELS], {}),
    "LayerNormalization": (
        "LayerNormalization",
        [IMAGE, normal(4, 7, 6), normal(4, 7, 6)],
        {"axis": 1},
    ),
    "RMSNormalization": ("RMSNormalization", [IMAGE, normal(6)], {"opset": 23}),
    "GroupNormalization": ("GroupNormalization", [IMAGE, *CHANNELS], {"num_groups": 2}),
    "MeanVarianceNormalization": ("MeanVarianceNormalization", [IMAGE], {}),
    "LpNormalization-1": ("LpNormalization", [IMAGE], {"p": 1, "axis": 1}),
    "LpNormalization-2": ("LpNormalization", [IMAGE], {"axis": 1}),
    "LRN": ("LRN", [IMAGE], {"size": 3, "alpha": 0.5}),
    "Resize-linear": ("Resize", [IMAGE, None, None, np.array([2, 4, 5, 9])], {"mode": "linear"}),
    "Resize-cubic": ("Resize", [IMAGE, None, None, np.array([2, 4, 5, 9])], {"mode": "cubic"}),
    "Resize-nearest": ("Resize", [IMAGE, None, None, np.array([2, 4, 5, 9])], {}),
    "Resize-antialias": (
        "Resize",
        [IMAGE, None, None, np.array([3, 4])],
        {"mode": "cubic", "antialias": 1, "axes": [2, 3]},
    ),
    "GridSample": ("GridSample", [IMAGE, GRID], {}),
    "GridSample-cubic": ("GridSample", [IMAGE, GRID], {"mode": "cubic", "padding_mode": "border"}),
    "GridSample-reflection": ("GridSample", [IMAGE, GRID], {"padding_mode": "reflection"}),
    "GridSample-volume": ("GridSample", [normal(2, 2, 3, 4, 5), VOLUME_GRID], {}),
    "AffineGrid": ("AffineGrid", [normal(2, 2, 3), np.array([2, 3, 4, 5])], {}),
    "RoiAlign": (
        "RoiAlign",
        [IMAGE, regions(3, 6), np.array([0, 1, 0])],
        {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "opset": 21},
    ),
    "RoiAlign-max": (
        "RoiAlign",
        [IMAGE, regions(3, 6), np.array([0, 1, 0])],
        {"output_height": 2, "output_width": 2, "sampling_ratio": 2, "opset": 21, "mode": "max"},
    ),
    "CenterCropPad": ("CenterCropPad", [IMAGE, np.array([9, 3])], {"axes": [2, 3]}),
    "DepthToSpace": ("DepthToSpace", [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    "SpaceToDepth": ("SpaceToDepth", [normal(2, 3, 4, 6)], {"blocksize": 2}),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_equals_finite_differences(name):
    operator, arrays, attributes = GRADIENTS[name]
    model, inputs = single(operator, arrays, **attributes)
    with jax.enable_x64(True):
        loaded = load(model)
        scale = None

        def total(*xs):
            nonlocal scale
            (y,) = loaded.apply(loaded.params, *xs)
            scale = np.cos(np.arange(y.size)).reshape(y.shape) if scale is None else scale
            return (y * scale).sum()

        gradients = jax.jit(jax.grad(total, argnums=tuple(range(len(inputs)))))(*inputs)
        compiled = jax.jit(total)
        for at, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
            direction = RNG.standard_normal(x.shape)
            ahead, behind = (
                compiled(*inputs[:at], x + step * direction, *inputs[at + 1 :])
                for step in (1e-6, -1e-6)
            )
            expected = (ahead - behind) / 2e-6
            np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=2e-5, atol=1e-6)


def as_float32(arrays):
    return [a if a is None or a.dtype != np.float64 else a.astype(np.float32) for a in arrays]


UNKNOWN_TO_THE_RUNTIME = {"RMSNormalization", "DeformConv"}


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in UNKNOWN_TO_THE_RUNTIME])
def test_values_equal_those_of_onnx_runtime(name):
    operator, arrays, attributes = GRADIENTS[name]
    model, inputs = single(operator, as_float32(arrays), **attributes)
    (got,), (expected,) = run(model, inputs), runtime(model, inputs)
    np.testing.assert_allclose(got, expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("seed", range(24))
def test_pooling_of_any_form(seed):
    rng = np.random.default_rng(seed)
    kernel = rng.integers(2, 4, 2)
    attributes = {
        "kernel_shape": kernel.tolist(),
        "strides": rng.integers(1, 4, 2).tolist(),
        "dilations": rng.integers(1, 3, 2).tolist(),
        "pads": rng.integers(0, kernel.min(), 4).tolist(),
        "ceil_mode": int(rng.integers(2)),
    }
    x = rng.standard_normal((2, 3, *rng.integers(8, 13, 2))).astype(np.float32)
    model, inputs = single("MaxPool", [x], outputs=2, storage_order=seed % 2, **attributes)
    for got, expected in zip(run(model, inputs), runtime(model, inputs), strict=True):
        np.testing.assert_array_equal(got, expected)
    model, inputs = single("AveragePool", [x], count_include_pad=seed % 2, **attributes)
    np.testing.assert_allclose(run(model, inputs)[0], runtime(model, inputs)[0], atol=1e-6)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
def test_automatic_padding(operator, auto_pad):
    x = np.abs(IMAGE).astype(np.float32)
    model, inputs = single(operator, [x], kernel_shape=[3, 2], strides=[2, 2], auto_pad=auto_pad)
    np.testing.assert_allclose(run(model, inputs)[0], runtime(model, inputs)[0], atol=1e-5)


def gradient_of(model, x):
    loaded = load(model)
    return np.asarray(jax.grad(lambda x: loaded.apply(loaded.params, x)[0].sum())(jnp.asarray(x)))


def test_gradient_of_equal_maxima_goes_to_the_first():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 2:] = 1
    model, _ = single("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    expected = np.zeros_like(x)
    expected[0, 0, [0, 1, 2, 2], [0, 2, 0, 2]] = 1
    np.testing.assert_array_equal(gradient_of(model, x), expected)


def test_gradient_of_overlapping_windows_adds_up():
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, 1, 1] = 1
    model, _ = single("MaxPool", [x], kernel_shape=[2, 2])
    assert gradient_of(model, x)[0, 0].tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


def test_gradient_of_equal_global_maxima_goes_to_the_first():
    x = np.ones((1, 2, 2, 2), np.float32)
    model, _ = single("GlobalMaxPool", [x])
    assert gradient_of(model, x)[0, 0].tolist() == [[1, 0], [0, 0]]


def test_norms_have_no_slope_at_zero():
    x = np.zeros((1, 1, 2, 2), np.float32)
    for operator in ("LpPool", "GlobalLpPool", "LpNormalization"):
        attributes = {"kernel_shape": [2, 2]} if operator == "LpPool" else {}
        model, _ = single(operator, [x], **attributes)
        np.testing.assert_array_equal(gradient_of(model, x), 0)


def test_max_pool_keeps_nan_and_integers():
    x = np.array([[[[1, np.nan], [3, 2]]]], np.float32)
    model, inputs = single("MaxPool", [x], kernel_shape=[2, 2])
    assert np.isnan(run(model, inputs)[0]).all()
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    kind = onnx.TensorProto.INT8
    values = [helper.make_tensor_value_info(n, kind, [1, 1, 3, 3]) for n in "xy"]
    graph = helper.make_graph([node], "test", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    (y,) = run(model, [np.full((1, 1, 3, 3), -7, np.int8)])
    assert y.dtype == np.int8
    assert (y == -7).all()


RESIZE_MODES = {
    "nearest": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "linear": ("",),
    "cubic": ("",),
}
COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")


@pytest.mark.parametrize(
    ("mode", "rounding", "coordinates"),
    [
        (mode, rounding, coordinates)
        for mode, roundings in RESIZE_MODES.items()
        for rounding, coordinates in itertools.product(roundings, COORDINATES)
    ],
)
def test_resize_equals_onnx_runtime(mode, rounding, coordinates):
    rng = np.random.default_rng(len(coordinates))
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    attributes |= {"nearest_mode": rounding} if rounding else {}
    for _ in range(4):
        x = rng.standard_normal((1, 2, *rng.integers(2, 12, 2))).astype(np.float32)
        sizes = np.array([1, 2, *rng.integers(1, 20, 2)])
        model, inputs = single("Resize", [x, None, None, sizes], opset=19, **attributes)
        (got,), (expected,) = run(model, inputs), runtime(model, inputs)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased_resize_equals_onnx_runtime(mode):
    rng = np.random.default_rng(5)
    for _ in range(4):
        x = rng.standard_normal((1, 2, *rng.integers(8, 20, 2))).astype(np.float32)
        sizes = np.array([1, 2, *rng.integers(2, 8, 2)])
        model, inputs = single(
            "Resize", [x, None, None, sizes], opset=19, mode=mode, antialias=1, exclude_outside=1
        )
        (got,), (expected,) = run(model, inputs), runtime(model, inputs)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "padding", "align"),
    list(itertools.product(list(RESIZE_MODES), ["zeros", "border", "reflection"], [0, 1])),
)
def test_grid_sample_equals_onnx_runtime(mode, padding, align):
    arrays = as_float32([IMAGE, RNG.uniform(-2.5, 2.5, (2, 9, 8, 2))])
    model, inputs = single(
        "GridSample", arrays, mode=mode, padding_mode=padding, align_corners=align
    )
    (got,), (expected,) = run(model, inputs), runtime(model, inputs)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


# ONNX Runtime warns that its own "max" mode is wrong; the official cases hold that mode to account.
@pytest.mark.parametrize("half_pixel", [True, False])
def test_regions_with_adaptive_sampling(half_pixel):
    boxes = regions(4, 12).astype(np.float32)
    x = normal(2, 3, 12, 12).astype(np.float32)
    kind = "half_pixel" if half_pixel else "output_half_pixel"
    model, inputs = single(
        "RoiAlign",
        [x, boxes, np.array([0, 1, 1, 0])],
        mode="avg",
        output_height=2,
        output_width=2,
        coordinate_transformation_mode=kind,
        opset=21,
    )
    loaded = load(model)
    (got,) = loaded.apply(loaded.params, jnp.asarray(x), boxes)
    np.testing.assert_allclose(got, runtime(model, inputs)[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(UnsupportedModelError, match="sampling"):
        loaded.apply(loaded.params, x, jnp.asarray(boxes))


def test_max_of_regions_equals_onnx_runtime():
    x = normal(2, 3, 9, 9).astype(np.float32)
    boxes = np.array([[0, 0, 0, 8, 8], [1, 2, 3, 6, 5], [0, 4, 4, 4, 4]], np.float32)
    model, inputs = single(
        "MaxRoiPool", [x, boxes], pooled_shape=[3, 2], spatial_scale=1.0, opset=21
    )
    np.testing.assert_array_equal(run(model, inputs)[0], runtime(model, inputs)[0])


@pytest.mark.parametrize("seed", range(12))
def test_transposed_convolution_of_any_form(seed):
    rng = np.random.default_rng(seed)
    strides = rng.integers(1, 4, 2)
    attributes = {
        "strides": strides.tolist(),
        "dilations": rng.integers(1, 3, 2).tolist(),
        "group": int(rng.integers(1, 3)),
    }
    if seed % 3:
        attributes["pads"] = rng.integers(0, 3, 4).tolist()
        attributes["output_padding"] = [int(rng.integers(0, s)) for s in strides]
    else:
        attributes["auto_pad"] = "SAME_UPPER" if seed % 2 else "SAME_LOWER"
    x = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    w = rng.standard_normal((4, 3, *rng.integers(3, 5, 2))).astype(np.float32)
    model, inputs = single("ConvTranspose", [x, w], **attributes)
    np.testing.assert_allclose(run(model, inputs)[0], runtime(model, inputs)[0], atol=1e-4)


@pytest.mark.parametrize("seed", range(24))
def test_convolution_of_any_form(seed):
    rng = np.random.default_rng(seed)
    group = [1, 2, 4][seed % 3]
    kernel = rng.integers(1, 4, 2)
    attributes = {
        "strides": rng.integers(1, 4, 2).tolist(),
        "dilations": rng.integers(1, 3, 2).tolist(),
        "pads": rng.integers(0, 3, 4).tolist(),
        "group": group,
    }
    x = rng.standard_normal((2, 4, *rng.integers(7, 12, 2))).astype(np.float32)
    w = rng.standard_normal((4 * int(rng.integers(1, 3)), 4 // group, *kernel)).astype(np.float32)
    model, inputs = single("Conv", [x, w], **attributes)
    np.testing.assert_allclose(run(model, inputs)[0], runtime(model, inputs)[0], atol=1e-4)


def test_sums_of_half_precision_are_taken_in_single():
    x = np.full((1, 1, 64, 64), 100.25, np.float16)
    model, inputs = single("AveragePool", [x], kernel_shape=[64, 64])
    (y,) = run(model, inputs)
    assert y.dtype == np.float16
    assert y.item() == 100.25
    x = (RNG.standard_normal((1, 4, 4096)) * 300).astype(np.float16)
    model, inputs = single("LayerNormalization", [x, np.ones(4096, np.float16)])
    (y,) = run(model, inputs)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype(np.float64).std(axis=-1), 1, rtol=1e-3)


def test_training_mode_is_refused():
    arrays = as_float32([IMAGE, *CHANNELS, normal(4), uniform(4)])
    model, inputs = single("BatchNormalization", arrays, training_mode=1)
    with pytest.raises(UnsupportedModelError, match="training mode"):
        run(model, inputs)


def test_statistics_of_each_element():
    x = normal(2, 3, 4).astype(np.float32)
    scale, bias, mean, var = (uniform(3, 4).astype(np.float32) for _ in range(4))
    model, inputs = single("BatchNormalization", [x, scale, bias, mean, var], opset=7, spatial=0)
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    np.testing.assert_allclose(run(model, inputs)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "attributes", "match"),
    [
        ("Resize", {"mode": "lanczos"}, "lanczos"),
        ("Resize", {"coordinate_transformation_mode": "middle"}, "middle"),
        ("Resize", {"nearest_mode": "up"}, "up"),
        ("Resize", {"keep_aspect_ratio_policy": "fit"}, "fit"),
        ("GridSample", {"padding_mode": "wrap"}, "wrap"),
    ],
)
def test_unknown_modes_are_refused(operator, attributes, match):
    arrays = {"Resize": [IMAGE, None, None, np.array([2, 4, 5, 9])], "GridSample": [IMAGE, GRID]}
    model, inputs = single(operator, as_float32(arrays[operator]), **attributes)
    with pytest.raises(UnsupportedModelError, match=match):
        run(model, inputs)
