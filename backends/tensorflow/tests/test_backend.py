"""The backend itself: what it takes, what it refuses and how, loops, threads, the environment."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    LayerError,
    MethodError,
    ModelLoadError,
    UnsupportedModelError,
    XaimapsError,
)
from xaimaps.methods import METHODS
from xaimaps.propagation import Deconvnet, Guided, Rules
from xaimaps.targets import Function, Top
from xaimaps.testing import pooled_network

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
from xaimaps_tensorflow import TensorFlowBackend  # noqa: E402
from xaimaps_tensorflow import _namespace as namespace  # noqa: E402

L = keras.layers
SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def sequential(*layers, shape=SHAPE, **options):
    return keras.Sequential([L.Input(shape, **options), *layers])


def written(call):
    """A model of the user's own with one method, called once."""

    class Mine(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.conv = L.Conv2D(4, 3, name="conv")
            self.fc = L.Dense(5)

        def call(self, images):
            return call(self, images)

    model = Mine()
    model(IMAGES)
    return model


# What it takes


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("model.keras", True),
        ("old.H5", True),
        ("old.hdf5", True),
        ("keras:VGG16", True),
        ("model.onnx", False),
        (np.zeros(3), False),
        (sequential(L.Flatten()), True),
        (L.Dense(3), True),
        (keras.Model, False),
        (len, False),
    ],
    ids=str,
)
def test_accepts(model, expected):
    assert TensorFlowBackend.accepts(model) is expected


def test_versions():
    assert TensorFlowBackend.versions() == {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_are_loaded(tmp_path, suffix):
    layers = [L.Conv2D(4, 3, name="conv"), L.Flatten(), L.Dense(5, activation="softmax", name="fc")]
    model, path = sequential(*layers), tmp_path / f"mine{suffix}"
    model.save(path)
    backend, live = xaimaps.load(path), xaimaps.load(model)
    assert backend.info.name == "mine"
    assert backend.info.source == str(path)
    assert len(backend.info.sha256) == 64
    assert backend.info.notes == ["scores are taken before the final Softmax 'fc'"]
    maps = (xaimaps.attribute(one, IMAGES, "grad_cam").maps for one in (backend, live))
    np.testing.assert_allclose(*maps)


def test_applications_are_named():
    backend = xaimaps.load("keras:MobileNetV2", weights=None)
    assert backend.input_shape == (224, 224, 3)
    assert backend.default_layer().name == backend.classifier().layer == "out_relu"
    assert backend.find_layer("block_16_project").shape == (None, 7, 7, 320)


def test_an_input_with_a_name():
    inputs = {"image": L.Input(SHAPE, name="image")}
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(inputs["image"])))
    assert xaimaps.attribute(model, IMAGES, "saliency").maps.any()


def test_a_model_says_its_shape_or_the_user_does():
    model = written(lambda self, x: self.fc(keras.ops.mean(self.conv(x), (1, 2))))
    assert xaimaps.load(model).input_shape == SHAPE
    backend = xaimaps.load(model, input_shape=(None, None, 3))
    assert backend.input_shape == (None, None, 3)
    assert backend.find_layer("conv").shape == (None, None, None, 4)
    assert xaimaps.attribute(backend, np.ones((1, 12, 10, 3))).maps.shape == (1, 10, 8)


def test_sizes_that_vary():
    layers = [L.Conv2D(4, 3, name="conv"), L.GlobalAveragePooling2D(), L.Dense(5)]
    backend = xaimaps.load(sequential(*layers, shape=(None, None, 3)))
    assert backend.input_shape == (None, None, 3)
    for size in (8, 11):
        maps = xaimaps.attribute(backend, np.ones((1, size, size, 3)), "ablation_cam").maps
        assert maps.shape == (1, size - 2, size - 2)


def only_at(height, width):
    """A model that declares any size, but runs at one."""
    inputs = L.Input((None, None, 3))
    lines = keras.ops.reshape(L.Conv2D(4, 1, name="conv")(inputs), (-1, height * width, 4))
    return keras.Model(inputs, L.Dense(2)(L.Dense(1)(keras.ops.swapaxes(lines, 1, 2))[..., 0]))


@pytest.mark.parametrize(("size", "told"), [((299, 299), {}), ((9, 13), {"input_size": (9, 13)})])
def test_a_size_at_which_the_model_fails_is_not_its_size(size, told):
    model, images = only_at(*size), np.random.default_rng(1).random((2, *size, 3), np.float32)
    found = xaimaps.attribute(xaimaps.load(model, **told), images, "hires_cam", layer="conv")
    assert found.maps.shape == (2, *size)
    np.testing.assert_allclose(found.scores, model(images), rtol=1e-4, atol=1e-6)


@pytest.mark.fault("I35")
def test_the_size_must_be_one_at_which_the_model_runs():
    with pytest.raises(UnsupportedModelError, match="runs at one size only, give that one by"):
        xaimaps.load(only_at(9, 13))
    with pytest.raises(ArrayInputError, match=r"`input_size` must be \(8, 8\) for this model"):
        xaimaps.load(sequential(L.Flatten()), input_size=(9, 13))


# What it refuses, in one sentence


def several_inputs():
    one, other = L.Input(SHAPE, name="left"), L.Input(SHAPE, name="right")
    return keras.Model([one, other], L.Flatten()(L.Add()([one, other])))


def unbuilt():
    return keras.Sequential([L.Flatten(), L.Dense(3)])


def channels_first():
    return sequential(L.AveragePooling2D(2, data_format="channels_first"), L.Flatten())


def deciding():
    def call(self, x):
        x = self.fc(keras.ops.mean(self.conv(x), (1, 2)))
        return x if keras.ops.max(x) > 0 else -x

    return written(call)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (several_inputs, {}, UnsupportedModelError, "got .*'left' .* 'right' .*; give the values"),
        (lambda: sequential(L.Dense(3), shape=(7,)), {}, UnsupportedModelError, r"\(None, 7\)"),
        (unbuilt, {}, UnsupportedModelError, "call it once"),
        (channels_first, {}, UnsupportedModelError, "channels first"),
        (deciding, {"input_shape": SHAPE}, UnsupportedModelError, "keras.ops.cond"),
        (lambda: L.Dense(3), {}, UnsupportedModelError, "not built"),
        (lambda: sequential(L.Flatten()), {"output": "no"}, UnsupportedModelError, "`output`"),
        (lambda: sequential(L.Flatten()), {"output": 3}, UnsupportedModelError, "1 outputs"),
        (lambda: sequential(L.Flatten()), {"params": 3}, ModelLoadError, "no option params here"),
        (lambda: "keras:VGG16", {"params": 3}, ModelLoadError, "`weights`"),
    ],
)
def test_models_that_are_refused(model, options, error, message):
    with pytest.raises(error, match=message) as caught:
        TensorFlowBackend.load(model(), **options)
    assert "\n" not in str(caught.value)


def stepped():
    def call(self, x):
        whole = keras.ops.cast(keras.ops.cast(x, "int32"), "float32")
        return self.fc(keras.ops.mean(self.conv(whole), (1, 2)))

    return written(call)


def test_a_model_without_a_gradient():
    backend = xaimaps.load(stepped())
    with pytest.raises(UnsupportedModelError, match="jumps"):
        xaimaps.attribute(backend, IMAGES, "saliency")
    assert xaimaps.attribute(backend, IMAGES, "grad_cam", layer="conv").maps.shape == (2, 6, 6)
    assert xaimaps.attribute(backend, IMAGES, "occlusion").maps.any()


def test_a_score_that_does_not_depend_on_the_images_has_no_gradient():
    backend = xaimaps.load(sequential(L.Conv2D(4, 3), L.Flatten(), L.Dense(3)))
    found = xaimaps.attribute(backend, IMAGES, "saliency", target=lambda y: tf.ones(y.shape[:1]))
    assert not found.maps.any()


def test_a_model_without_places_or_rectifiers():
    backend = xaimaps.load(sequential(L.Flatten(), L.Dense(3)))
    with pytest.raises(LayerError, match="spatial extent"):
        xaimaps.attribute(backend, IMAGES, "grad_cam")
    with pytest.raises(MethodError, match="has none; use saliency"):
        xaimaps.attribute(backend, IMAGES, "guided_backprop")
    with pytest.raises(LayerError, match="CAM needs"):
        xaimaps.attribute(backend, IMAGES, "cam")
    assert xaimaps.attribute(backend, IMAGES, "saliency").maps.any()


@pytest.mark.parametrize("shape", [(2, 9, 8, 3), (2, 3, 8, 8), (8, 3)])
def test_images_of_another_shape(shape):
    backend = xaimaps.load(sequential(L.Conv2D(4, 3), L.Flatten(), L.Dense(3)))
    with pytest.raises(XaimapsError, match=r"must have shape \(N, 8, 8, 3\)"):
        xaimaps.attribute(backend, np.zeros(shape))


def test_a_class_that_does_not_exist():
    backend = xaimaps.load(sequential(L.Conv2D(4, 3), L.Flatten(), L.Dense(3)))
    with pytest.raises(XaimapsError, match="from 0 to 2, got 3"):
        xaimaps.attribute(backend, IMAGES, target=3)


def test_a_model_whose_layers_change_places():
    class Restless(keras.Model):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b = L.Conv2D(4, 3), L.ReLU(name="a"), L.ReLU(name="b")

        def call(self, images):
            turns.append(images)
            first, second = (self.a, self.b) if len(turns) % 2 else (self.b, self.a)
            return keras.ops.mean(second(first(self.stem(images))), (1, 2))

    turns, model = [], Restless()
    model(IMAGES)
    backend = xaimaps.load(model)
    images, layer = backend.asarray(IMAGES), backend.layers()[-1].name
    with pytest.raises(UnsupportedModelError, match="another order each time") as caught:
        backend.grad(images, Top(), wrt=layer)
    assert "\n" not in str(caught.value)


# Rectifiers


@pytest.mark.parametrize(
    "activation",
    ["relu", "relu6", "leaky_relu", "elu", "selu", L.ReLU(negative_slope=0.3)],
    ids=str,
)
@pytest.mark.parametrize("rule", [Guided(), Deconvnet()], ids=["guided", "deconvnet"])
def test_rules_for_rectifiers(activation, rule):
    layer = L.Activation(activation) if isinstance(activation, str) else activation
    backend = xaimaps.load(sequential(layer, L.Flatten()))
    assert backend.network.has_rectifiers
    weights = np.linspace(-1, 1, 192, dtype=np.float32)
    target = Function(lambda outputs: tf.reduce_sum(outputs * weights, -1))
    images = backend.asarray(IMAGES * 3)
    found = backend.grad(images, target, rules=Rules(rectifier=rule)).gradients
    above = np.maximum(weights, 0).reshape(SHAPE)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = layer(images)
    slope = tape.gradient(value, images) if rule == Guided() else tf.ones_like(images)
    np.testing.assert_allclose(found, above * slope, rtol=1e-5)


# Loops


def test_scan_folds():
    backend = xaimaps.load(sequential(L.Flatten(), L.Dense(3)))

    def step(carry, x):
        total, count = carry
        return (total + x[0], count + 1), (total * x[1], x[0])

    def program(_, xs, others):
        return backend.scan(step, (tf.zeros(3), 0.0), (xs, others))

    xs, others = np.arange(12.0, dtype=np.float32).reshape(4, 3), np.ones((4, 1), np.float32)
    compiled = backend.compile(program, *map(tf.constant, (xs, others)))
    for run in (compiled, lambda *arrays: program(None, *arrays)):
        (total, count), (before, same) = run(*map(tf.constant, (xs, others)))
        np.testing.assert_allclose(total, xs.sum(0))
        assert count == 4
        np.testing.assert_allclose(before, np.cumsum(xs, 0) - xs)
        np.testing.assert_allclose(same, xs)


def test_scan_differentiates_inside():
    backend = xaimaps.load(sequential(L.Conv2D(4, 3), L.ReLU(), L.Flatten(), L.Dense(3)))

    def program(view, images):
        def step(carry, scale):
            return carry, view.grad(images * scale, Top()).gradients

        return view.scan(step, tf.zeros(1), tf.constant([1.0, 0.5, 2.0]))[1]

    images = tf.constant(IMAGES)
    found = backend.compile(program, images)(images)
    for scale, gradients in zip([1.0, 0.5, 2.0], found, strict=True):
        expected = backend.grad(images * scale, Top()).gradients
        np.testing.assert_allclose(gradients, expected, atol=1e-6)


def test_what_lies_before_a_layer_runs_once():
    """The graph of a thousand variants has the first convolution once, and outside of the loop."""
    layers = [L.Conv2D(7, 3, name="first"), L.Conv2D(8, 3, name="second"), L.Flatten()]
    backend = xaimaps.load(sequential(*layers, L.Dense(5)))
    program = METHODS["ablation_cam"].fn
    graph = tf.function(
        lambda images: program(backend, images, 1, layer="second").maps, autograph=False
    )
    whole = graph.get_concrete_function(tf.constant(IMAGES)).graph.as_graph_def()
    assert sum(node.op == "Conv2D" for node in whole.node) == 2
    (functions,) = (value for field, value in whole.ListFields() if field.name == "library")
    loops = [node for function in functions.function for node in function.node_def]
    assert {"MatMul"} <= {node.op for node in loops}
    assert not any(node.op == "Conv2D" for node in loops)


# The process


def test_threads_share_a_model(build):
    backend = build(pooled_network())
    images = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
    names = ["grad_cam", "saliency", "guided_backprop", "ablation_cam"] * 2
    alone = build(pooled_network())
    expected = {name: xaimaps.attribute(alone, images, name).maps for name in names}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: xaimaps.attribute(backend, images, name).maps, names))
    for name, maps in zip(names, found, strict=True):
        np.testing.assert_allclose(maps, expected[name], rtol=1e-5, atol=1e-7)


def test_a_program_that_asks_for_too_much(build):
    backend = build(pooled_network())
    start = backend.asarray(np.ones(1, np.float32))
    with pytest.raises(MemoryError, match=r"^TensorFlow has too little memory \(.*\); explain"):
        backend.compile(lambda _, x: tf.sort(tf.random.normal((2**46,)) + x), start)(start)


def run(code):
    """Run Python as a user would, whose environment says nothing of TensorFlow's messages."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={name: value for name, value in os.environ.items() if not name.startswith("TF_")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_tensorflow_is_imported_when_it_is_needed_and_its_absence_is_told():
    found = run(
        """
        import sys
        import xaimaps_tensorflow
        assert "tensorflow" not in sys.modules and "keras" not in sys.modules
        assert not xaimaps_tensorflow.TensorFlowBackend.accepts(print)
        sys.modules["tensorflow"] = None
        from xaimaps.errors import BackendError
        try:
            xaimaps_tensorflow.TensorFlowBackend.load("model.keras")
        except BackendError as error:
            print(error)
        """
    )
    assert found.returncode == 0, found.stderr
    assert "pip install 'xaimaps-tensorflow[cpu]'" in found.stdout


def test_keras_on_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(BackendError, match="runs on 'jax'; set KERAS_BACKEND=tensorflow"):
        TensorFlowBackend.load(sequential(L.Flatten()))


def test_standard_error_is_left_alone():
    found = run(
        """
        import numpy as np
        import xaimaps
        from xaimaps_tensorflow._backend import require_tensorflow
        require_tensorflow()
        import keras
        layers = [keras.layers.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
        xaimaps.attribute(keras.Sequential(layers), np.ones((1, 8, 8, 3)), "saliency")
        """
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_one_matrix_multiplies_many_from_both_sides():
    """As broadcast products, one behind the other, this ended in a segmentation fault."""
    draw = np.random.default_rng(0).normal
    rows, maps = draw(size=(224, 7)).astype("f4"), draw(size=(12, 2, 7, 7)).astype("f4")

    def enlarge(maps):
        large = namespace.matmul(tf.constant(rows), maps)
        return namespace.matmul(large, tf.constant(rows.T.copy()))

    found = tf.function(enlarge, autograph=False)(tf.constant(maps))
    np.testing.assert_allclose(found, rows @ maps @ rows.T, rtol=1e-4, atol=1e-4)
