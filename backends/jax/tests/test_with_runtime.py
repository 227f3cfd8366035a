"""ONNX Runtime runs the forward pass of the images, and JAX what is differentiated."""

import sys

import jax
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from xaimaps_jax import _with_runtime, function
from xaimaps_onnx.runtime import OnnxRuntimeBackend

import xaimaps
from xaimaps.errors import BackendError, ModelLoadError
from xaimaps.methods import METHODS

DRAW = np.random.default_rng(0)
IMAGES = DRAW.normal(size=(3, 8, 8, 3)).astype(np.float32)
TARGETS = [3, 0, 2]
WEIGHTS = {"w1": (6, 3, 3, 3), "w2": (6, 6, 3, 3), "w3": (6, 5)}
WEIGHTS = {name: (0.4 * DRAW.normal(size=n)).astype(np.float32) for name, n in WEIGHTS.items()}

BLOCK = """
    stem = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1)
    relu = Relu (stem)
    inner = Conv <pads = [1, 1, 1, 1]> (relu, w2)
    inner_relu = Relu (inner)
    joined = Add (inner_relu, relu)
    pool = GlobalAveragePool (joined)
    batch = Shape <start = 0, end = 1> (relu)
    size = Concat <axis = 0> (batch, six)
    flat = Reshape (pool, size)
    scores = MatMul (flat, w3)
"""
"""A residual block, and a size that is computed from a layer."""

QUICK = {"n_steps": 3, "n_samples": 2, "channels": 3, "n_permutations": 2}


def graph(batch="N", body=BLOCK):
    text = f'<ir_version: 9, opset_import: ["": 18]>\nnet (float[{batch}, 3, 8, 8] x) => '
    model = parser.parse_model(f"{text}(float[{batch}, 5] scores) {{{body}}}")
    arrays = {**WEIGHTS, "six": np.array([6])}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def close(found, expected, tolerance=1e-5):
    size = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


@pytest.fixture(scope="module", params=["N", 1])
def batch(request):
    """The batch of the file, free or of one image."""
    return request.param


@pytest.fixture(scope="module")
def plain(batch):
    return xaimaps.load(graph(batch))


@pytest.fixture
def model(batch):
    return xaimaps.load(graph(batch), forward="onnxruntime")


@pytest.fixture
def computed(monkeypatch):
    """The names of the values that ONNX Runtime has computed, for each batch."""
    names, real = [], OnnxRuntimeBackend.values

    def noted(self, images, wanted):
        names.append(list(wanted))
        return real(self, images, wanted)

    monkeypatch.setattr(OnnxRuntimeBackend, "values", noted)
    return names


@pytest.mark.parametrize(
    ("method", "layer", "expected"),
    [
        ("grad_cam", "joined", ["joined"]),
        ("grad_cam", "relu", ["relu"]),
        ("grad_cam", "inner_relu", ["inner_relu", "relu"]),
        ("eigen_cam", "inner", ["scores", "inner"]),
        ("layer_cam", ("relu", "joined"), ["relu", "joined"]),
    ],
)
def test_values_before_a_layer_come_from_onnx_runtime(model, computed, method, layer, expected):
    result = xaimaps.attribute(model, IMAGES, method, target=TARGETS, layer=layer)
    assert [set(names) for names in computed] == [set(expected)] * len(computed)
    assert np.abs(result.maps).max() > 0


def test_a_gradient_at_the_images_is_of_jax_alone(model, plain, computed):
    found = xaimaps.attribute(model, IMAGES, "saliency", target=TARGETS)
    assert computed == []
    close(found.maps, xaimaps.attribute(plain, IMAGES, "saliency", target=TARGETS).maps)


def test_jax_computes_nothing_before_the_layer(model, plain):
    options = {"target": TARGETS, "layer": "inner_relu"}
    expected = xaimaps.attribute(plain, IMAGES, "grad_cam", **options)
    model.params = {**model.params, "w1": jax.tree.map(lambda a: a * np.nan, model.params["w1"])}
    close(xaimaps.attribute(model, IMAGES, "grad_cam", **options).maps, expected.maps)
    assert np.isnan(model.forward(model.asarray(IMAGES))).all()


@pytest.mark.parametrize(
    "method", [n for n, row in METHODS.items() if row.takes_layer and row.suits is None]
)
def test_every_method_of_a_layer_gives_the_maps_of_jax(batch, plain, method):
    row = METHODS[method]
    options = {name: value for name, value in QUICK.items() if name in row.options}
    if method not in ("cam", "recipro_cam"):  # which explain the pooled layer alone
        options["layer"] = "inner_relu"
    model = xaimaps.load(graph(batch), forward="onnxruntime")
    model.info.preprocess = plain.info.preprocess = xaimaps.PRESETS["unit"]
    found, expected = (
        xaimaps.attribute(one, IMAGES, method, target=TARGETS, **options) for one in (model, plain)
    )
    close(found.maps, expected.maps, row.tolerance or 1e-4)
    close(found.scores, expected.scores)


def test_each_batch_has_values_of_its_own(model, plain):
    """A program is compiled once, and the last chunk is padded."""
    images = np.concatenate([IMAGES, 2 * IMAGES[::-1], IMAGES[:1]])
    settings = {"target": 1, "batch_size": 2}
    found = xaimaps.attribute(model, images, "grad_cam", **settings)
    close(found.maps, xaimaps.attribute(plain, images, "grad_cam", **settings).maps)
    assert len(model._compiled) == 1


def test_the_embedded_network_against_pytorch(photographs, references):
    model = xaimaps.load("default", forward="onnxruntime")
    found = xaimaps.attribute(model, photographs, "grad_cam", target=references["targets"])
    close(found.maps, references["grad_cam_float32"], 1e-4)


def test_a_replica_has_its_own_weights(model, plain):
    first, second = model.replica(), plain.replica()
    before = xaimaps.attribute(model, IMAGES, "grad_cam", target=TARGETS)
    for one in (first, second):
        one.assign({"w1": -WEIGHTS["w1"], "w2": 2 * WEIGHTS["w2"]})
    found, expected = (
        xaimaps.attribute(one.backend, IMAGES, "grad_cam", target=TARGETS)
        for one in (first, second)
    )
    close(found.maps, expected.maps)
    assert np.abs(found.maps - before.maps).max() > 0
    after = xaimaps.attribute(model, IMAGES, "grad_cam", target=TARGETS)
    np.testing.assert_array_equal(after.maps, before.maps)


def test_images_of_another_type_pass_through_jax(model, plain, computed):
    images = model.asarray(IMAGES).astype("float16")
    run = model.compile(lambda b, x: b.forward(x), images)
    expected = plain.compile(lambda b, x: b.forward(x), images)(images)
    np.testing.assert_array_equal(run(images), expected)
    assert computed == []


def test_a_method_inside_of_jit(model, plain):
    found, expected = (
        jax.jit(function(one, "grad_cam"))(one.params, IMAGES, 1).maps for one in (model, plain)
    )
    close(found, expected)


def test_a_result_names_it(model):
    found = xaimaps.attribute(model, IMAGES, "grad_cam", target=1)
    assert _with_runtime.NOTE in found.notes()
    assert {"jax", "onnxruntime"} <= model.versions().keys()
    assert model.info.loading == {"forward": "onnxruntime"}


@pytest.mark.parametrize("forward", ["onnxruntime", "auto"])
def test_another_precision_is_of_jax_alone(monkeypatch, forward):
    monkeypatch.setattr(_with_runtime, "_is_faster", lambda *_: True)
    model = xaimaps.load(graph(), forward=forward, precision="bfloat16")
    assert (model.precision, type(model)) == ("bfloat16", xaimaps.load(graph()).__class__)
    assert _with_runtime.NOTE not in model.info.notes


@pytest.mark.parametrize(("times", "is_used"), [((1.0, 2.0), True), ((2.0, 1.0), False)])
def test_auto_takes_what_is_faster(monkeypatch, times, is_used):
    told = iter(times * _with_runtime.RUNS)
    monkeypatch.setattr(_with_runtime, "_seconds", lambda call: next(told))
    model = xaimaps.load(graph(), forward="auto")
    assert (_with_runtime.NOTE in model.info.notes) is is_used


def test_auto_measures(plain):
    model = xaimaps.load(graph(), forward="auto")
    close(model.forward(model.asarray(IMAGES)), plain.forward(plain.asarray(IMAGES)))


def quantised():
    levels = "levels = QuantizeLinear (relu, scale)\nless = DequantizeLinear (levels, scale)\n"
    body = BLOCK.replace("inner = ", f"{levels}inner = ").replace("(relu, w2)", "(less, w2)")
    return graph(body=f"scale = Constant <value = float {{0.1}}> ()\n{body}")


def test_a_quantised_file_runs_in_jax_alone():
    with pytest.raises(ModelLoadError, match="`forward` must be 'jax' for a quantised model"):
        xaimaps.load(quantised(), forward="onnxruntime")
    assert _with_runtime.NOTE not in xaimaps.load(quantised(), forward="auto").info.notes


def test_an_unknown_choice_is_refused():
    with pytest.raises(ModelLoadError, match="`forward` must be 'jax', 'onnxruntime' or 'auto'"):
        xaimaps.load(graph(), forward="tpu")


@pytest.mark.parametrize("forward", ["onnxruntime", "auto"])
def test_it_needs_onnx_runtime(monkeypatch, forward):
    for name in [
        n for n in sys.modules if n.startswith(("xaimaps_jax._with", "xaimaps_onnx.runt"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"needs onnxruntime, .* pip install 'xaimaps\[onnx\]'"):
        xaimaps.load(graph(), forward=forward)


def test_several_devices_are_of_jax_alone(model):
    assert model.on_devices(1) is model
    with pytest.raises(BackendError, match="`devices` must be at most"):
        model.on_devices(99)
