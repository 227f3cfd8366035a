"""Models of Keras 2 on both routes: its files, and live models of tf_keras."""

from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import UnsupportedModelError
from xaimaps.parity import compare, routes

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")
keras = pytest.importorskip("keras")
keras2 = pytest.importorskip("xaimaps_tensorflow.to_onnx._keras2")
converting = pytest.importorskip("xaimaps_tensorflow.to_onnx._convert")
convert = converting.convert

REFERENCES = Path(__file__).parents[1] / "references"
METHODS = ["saliency", "cam", "grad_cam"]
IMAGES = np.random.default_rng(1).uniform(0, 1, (2, 12, 12, 3)).astype(np.float32)

pytestmark = [
    # A nested Sequential of Keras 2 hands its base a list, which Keras 3 mentions and takes.
    pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning"),
]


def require_agreement(models):
    assert list(models) == ["tensorflow", "onnxruntime", "jax"]
    report = compare(models, IMAGES, METHODS)
    assert report.agrees, [report.verdict(name) for name in report.backends]
    agreeing = {
        (row.backend, row.name) for row in report.rows if row.kind == "map" and row.measures
    }
    assert agreeing == {("onnxruntime", "cam"), *(("jax", name) for name in METHODS)}


@pytest.mark.parametrize(
    "name",
    [
        *("functional.h5", "keras-2.2.h5", "nested.h5", "operations.h5", "separable.h5"),
        *("transfer.h5", "functional.keras"),
    ],
)
def test_files_of_keras_2_are_explained_on_both_routes(name):
    if name.endswith(".keras"):
        pytest.importorskip("tf_keras")
    require_agreement(routes(REFERENCES / name))


@pytest.fixture(scope="module")
def tf_keras():
    """Keras 2 as it is still published."""
    return pytest.importorskip("tf_keras")


def randomised(model):
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 0.3, weight.shape).astype(np.float32) for weight in model.weights]
    kinds = [weight.name for weight in model.weights]
    model.set_weights(
        [np.abs(v) + 0.5 if "variance" in k else v for v, k in zip(values, kinds, strict=True)]
    )
    return model


def functional(tf_keras, *own):
    layers = tf_keras.layers
    x = images = tf_keras.Input((12, 12, 3), name="images")
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    for layer in own:
        x = layer(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return randomised(tf_keras.Model(images, layers.Dense(5, name="scores")(x), name="small"))


def sequential(tf_keras):
    layers = tf_keras.layers
    first = layers.Conv2D(6, 3, activation="relu", name="conv", input_shape=(12, 12, 3))
    head = [layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax", name="scores")]
    return randomised(tf_keras.Sequential([first, *head]))


def separable(tf_keras):
    layers = tf_keras.layers
    x = images = tf_keras.Input((12, 12, 3), name="images")
    x = layers.SeparableConv2D(6, 3, activation="relu", name="Conv/separable")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return randomised(tf_keras.Model(images, layers.Dense(5, name="scores")(x)))


@pytest.mark.parametrize("build", [functional, sequential, separable])
def test_a_live_model_is_explained_on_both_routes(tf_keras, build, caplog):
    model = build(tf_keras)
    before = model.get_weights()
    require_agreement(routes(model))
    assert caplog.records == []
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_live_model_keeps_its_weights_and_its_answers(tf_keras):
    model = functional(tf_keras)
    subject = keras2.subject_of_keras_2(model)
    assert isinstance(subject.model, keras.Model)
    held = {weight.path: np.asarray(weight) for weight in subject.model.weights}
    assert len(held) == len(model.weights)
    for weight in model.weights:
        np.testing.assert_array_equal(held[weight.name.removesuffix(":0")], weight.numpy())
    loaded = xaimaps.load(convert(model, layers="norm"), backend="onnxruntime")
    assert loaded.info.name == "small"
    assert loaded.find_layer("norm").shape == (None, 10, 10, 6)
    np.testing.assert_allclose(loaded.forward(IMAGES), model(IMAGES, training=False), atol=1e-5)


def test_a_live_models_own_code_is_trusted(tf_keras):
    model = functional(tf_keras, tf_keras.layers.Lambda(lambda x: x * 2))
    loaded = xaimaps.load(convert(model), backend="onnxruntime")
    np.testing.assert_allclose(loaded.forward(IMAGES), model(IMAGES, training=False), atol=1e-5)


def test_own_layers_need_their_like_in_keras_3(tf_keras):
    class Scaled(tf_keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight("factor", shape[-1:])

        def call(self, x):
            return x * self.factor

    class Same(keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=shape[-1:], name="factor")

        def call(self, x):
            return x * self.factor

    class Other(Same):
        def call(self, x):
            return x + self.factor

    model = functional(tf_keras, Scaled(name="scaled"))
    with pytest.raises(
        UnsupportedModelError, match=r"'small' of tf_keras .* equal .*'Scaled'"
    ) as e:
        convert(model)
    assert "model.h5" not in str(e.value)
    with pytest.raises(UnsupportedModelError, match="must answer as the Keras model does"):
        convert(model, custom_objects={"Scaled": Other})
    loaded = xaimaps.load(convert(model, custom_objects={"Scaled": Same}), backend="onnxruntime")
    np.testing.assert_allclose(loaded.forward(IMAGES), model(IMAGES, training=False), atol=1e-5)


def test_subclassed_models_are_refused(tf_keras):
    class Own(tf_keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = tf_keras.layers.Dense(3)

        def call(self, images):
            return self.dense(images)

    model = Own()
    with pytest.raises(UnsupportedModelError, match="is not built"):
        convert(model)
    model(IMAGES)
    with pytest.raises(UnsupportedModelError, match=r"must be functional or sequential.*'own'"):
        convert(model)
    with pytest.raises(UnsupportedModelError, match="a Keras model is converted, got Dense"):
        convert(model.dense)
