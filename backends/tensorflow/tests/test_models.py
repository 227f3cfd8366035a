"""The kinds of Keras models that users have: what their layers are called, and what they give."""

import copy

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import LayerError, UnsupportedModelError
from xaimaps.parity import routes
from xaimaps.targets import Classes, several

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
L = keras.layers

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


def base():
    x = inputs = L.Input(SHAPE)
    x = L.Conv2D(4, 3, padding="same", name="conv1")(x)
    x = L.BatchNormalization(name="bn1")(x)
    x = L.Activation("relu", name="relu1")(x)
    options = {"activation": "relu", "activity_regularizer": "l2", "name": "conv2"}
    y = L.Conv2D(4, 3, padding="same", **options)(x)
    x = L.Add(name="add")([x, y])
    return keras.Model(inputs, x, name="base")


def functional():
    inner = base()
    x = L.GlobalAveragePooling2D(name="pool")(inner.output)
    return keras.Model(inner.inputs, L.Dense(5, activation="softmax", name="probabilities")(x))


def nested():
    head = [L.GlobalAveragePooling2D(name="pool"), L.Dropout(0.5), L.Dense(5, name="fc")]
    return keras.Sequential([L.Input(SHAPE), base(), *head, L.Activation("sigmoid")])


def doubly_nested():
    inner = keras.Sequential([L.Input(SHAPE), base()], name="inner")
    x = inputs = L.Input(SHAPE)
    x = inner(x / 2 + 1)
    return keras.Model(inputs, L.Dense(5)(L.Flatten()(L.MaxPooling2D(name="pool")(x))))


class Block(L.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = L.Conv2D(3, 3, padding="same", name="conv")
        self.act = L.ReLU(name="act")

    def call(self, x):
        return self.act(self.conv(x)) + x


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.blocks = [Block(name=f"block{i}") for i in range(3)]
        self.pool = L.GlobalAveragePooling2D()
        self.fc = L.Dense(5)

    def call(self, images):
        x = images / 2
        for block in self.blocks:
            x = tf.nn.tanh(block(x))
        return tf.nn.softmax(self.fc(self.pool(x)))


def subclassed():
    model = Subclassed()
    model(IMAGES)
    return model


def shared():
    """One convolution that runs twice, in one model; the second time on what the first gave."""
    conv = L.Conv2D(3, 3, padding="same", activation="tanh", name="conv")
    x = inputs = L.Input(SHAPE)
    x = conv(conv(x))
    return keras.Model(inputs, L.Dense(5)(L.GlobalMaxPooling2D()(x)))


def siamese():
    """One model inside that runs twice."""
    inner, inputs = base(), L.Input(SHAPE)
    x = L.Concatenate(name="both")([inner(inputs), inner(inputs[:, :, ::-1])])
    return keras.Model(inputs, L.Dense(5)(L.GlobalMaxPooling2D()(x)))


def preprocessed():
    """Resizing makes Keras 3 run what follows as if it were training, unless it is told not to."""
    normalization = L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
    layers = [normalization, L.Rescaling(0.5, 0.1), L.Resizing(6, 6), L.RandomFlip()]
    end = [L.Conv2D(4, 3, name="conv"), L.BatchNormalization(), L.Activation("silu")]
    return keras.Sequential(
        [L.Input((None, None, 3)), *layers, *end, L.GlobalAveragePooling2D(), L.Dense(5)]
    )


def attentive():
    """Patches, attention and layer normalisation."""
    x = inputs = L.Input(SHAPE)
    x = L.Conv2D(6, 2, strides=2, name="patches")(x)
    x = L.Reshape((16, 6))(x)
    y = L.LayerNormalization()(x)
    x = L.Add(name="join")([x, L.MultiHeadAttention(2, 3, name="attention")(y, y)])
    return keras.Model(inputs, L.Dense(5, activation="gelu")(L.GlobalAveragePooling1D()(x)))


class ClassToken(L.Layer):
    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x):
        token = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, x.shape[-1]))
        return keras.ops.concatenate([token, x], axis=1)


def class_token():
    """A transformer whose answer is read from one token beside those of the patches."""
    x = inputs = L.Input(SHAPE)
    x = L.Reshape((16, 6))(L.Conv2D(6, 2, strides=2, name="patches")(x))
    x = ClassToken(name="tokens")(x)
    for i in range(2):
        y = L.LayerNormalization(name=f"norm{i}")(x)
        x = L.Add(name=f"join{i}")([x, L.MultiHeadAttention(2, 3, name=f"attention{i}")(y, y)])
    x = L.LayerNormalization(name="last")(x)
    x = L.Conv1D(6, 1, name="pointwise")(x)
    x = L.BatchNormalization(name="stored")(x)
    return keras.Model(inputs, L.Dense(5)(x[:, 0]))


def grouped():
    """Grouped convolutions, which Keras runs in a function of their own, and a layer's scale."""
    layers = [L.Conv2D(6, 3, groups=3, padding="same", name="grouped"), L.LayerNormalization()]
    tail = [L.Activation("gelu", name="gelu"), L.GlobalAveragePooling2D(), L.Dense(5)]
    return keras.Sequential([L.Input(SHAPE), *layers, *tail])


KINDS = [
    functional,
    nested,
    doubly_nested,
    subclassed,
    shared,
    siamese,
    preprocessed,
    attentive,
    class_token,
    grouped,
]


@pytest.fixture(scope="module")
def models(randomised):
    """Each kind of model with its backend, made once."""
    found = {}

    def get(kind):
        if kind not in found:
            model = randomised(kind())
            found[kind] = model, xaimaps.load(model)
        return found[kind]

    return get


def logits(model, images, backend):
    """What the model itself says, with the ending undone."""
    values = model(tf.constant(images), training=False).numpy()
    if not backend.info.notes:
        return values
    return np.log(values / (1 - values)) if backend.info.ending == "sigmoid" else np.log(values)


def without_shift(values, backend):
    is_softmax = backend.info.notes and backend.info.ending == "softmax"
    return values - values.mean(-1, keepdims=True) if is_softmax else values


@pytest.mark.fault("K18")
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_models_own_logits(models, kind):
    model, backend = models(kind)
    found = backend.forward(backend.asarray(IMAGES)).numpy()
    expected = logits(model, IMAGES, backend)
    np.testing.assert_allclose(
        without_shift(found, backend), without_shift(expected, backend), atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences(models, kind):
    _, backend = models(kind)
    images, step = backend.asarray(IMAGES), np.random.default_rng(1).normal(size=IMAGES.shape)
    target = Classes(np.array([0, 3, 1], np.int32))
    wanted = backend.grad(images, target).gradients.numpy()
    sides = [IMAGES + sign * 1e-3 * step for sign in (1, -1)]
    scores = [
        target.scores(np, backend.forward(backend.asarray(s)).numpy()) for s in map(f32, sides)
    ]
    found = (scores[0] - scores[1]) / 2e-3
    np.testing.assert_allclose(found, (wanted * step).sum((1, 2, 3)), rtol=0.05, atol=0.02)


def f32(values):
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_cut_at_every_layer(models, kind):
    _, backend = models(kind)
    images = backend.asarray(IMAGES)
    outputs = backend.forward(images).numpy()
    for layer in backend.layers():
        value, rest = backend.split(images, layer.name)
        variants = tf.stack([value, value * 0.5])
        both = rest(variants).numpy()
        np.testing.assert_allclose(both[0], outputs, atol=1e-5, err_msg=layer.name)
        np.testing.assert_allclose(both[1], rest(value * 0.5), atol=1e-5, err_msg=layer.name)
        assert value.shape[1:].is_compatible_with(layer.shape[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_at_a_layer_is_that_of_the_rest(models, kind):
    _, backend = models(kind)
    images, target = backend.asarray(IMAGES), Classes(np.array([[0, 3, 1], [1, 1, 1]], np.int32))
    name = backend.default_layer().name
    found = backend.grad(images, target, wrt=name)
    assert found.gradients.shape == (2, *found.activations.shape)
    value, rest = backend.split(images, name)
    step = f32(np.random.default_rng(2).normal(size=value.shape))
    high, low = (target.scores(np, rest(value + sign * 1e-3 * step).numpy()) for sign in (1, -1))
    axes = tuple(range(2, 1 + len(value.shape)))
    expected = (found.gradients.numpy() * step).sum(axes)
    np.testing.assert_allclose((high - low) / 2e-3, expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_biases_complete_the_scores(models, kind):
    _, backend = models(kind)
    images, target = backend.asarray(IMAGES), Classes(np.array([[0, 3, 1], [1, 1, 1]], np.int32))
    found, terms = backend.biases(images, target)
    total = (images * found.gradients).numpy().sum((2, 3, 4))
    total += sum(term.numpy().reshape(2, 3, -1).sum(-1) for term in terms)
    np.testing.assert_allclose(total, found.scores, rtol=1e-4, atol=2e-5)


def masked():
    """What a value is multiplied with has no derivative."""
    masks = L.Lambda(lambda x: x * tf.cast(x > 0.1, x.dtype) + tf.where(x > 0.5, x, 0.7))
    x = L.Conv2D(4, 3, name="conv")(inputs := L.Input(SHAPE))
    return keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(masks(x))))


def test_masks_are_in_no_bias(models):
    test_biases_complete_the_scores(models, masked)


def test_a_layer_of_several_operations_has_one_bias(models):
    """Of a convolution, a layer normalisation, a GELU and a dense layer."""
    _, backend = models(grouped)
    _, terms = backend.biases(backend.asarray(IMAGES), Classes(np.array([0, 3, 1], np.int32)))
    assert [term.shape.rank for term in terms] == [4, 4, 4, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ablation_cam", "smoothgrad"])
def test_every_kind_is_explained(models, kind, name):
    _, backend = models(kind)
    options = {"n_samples": 3} if name == "smoothgrad" else {}
    found = xaimaps.attribute(backend, IMAGES, name, target=several(1, None), **options)
    assert np.isfinite(found.maps).all()
    assert found.maps.any()


def state(model):
    """All that an attribution could change."""
    layers = model._flatten_layers()
    return {
        "variables": [np.array(variable.value) for variable in model.variables],
        "attributes": [{name: noted(value) for name, value in vars(one).items()} for one in layers],
        "losses": len(model.losses),
        "policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "layout": keras.config.image_data_format(),
        "random": tf.random.get_global_generator().state.numpy(),
        "built": [layer.built for layer in layers],
    }


def noted(value):
    """A plain value itself, the size of a collection, and which object any other one is."""
    if isinstance(value, str | int | float | None):
        return value
    return len(value) if isinstance(value, list | dict | set | tuple) else id(value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_left_as_it_was(randomised, kind):
    model = randomised(kind())
    before = copy.deepcopy(state(model))
    backend = xaimaps.load(model)
    for name in ("grad_cam", "guided_backprop", "ablation_cam", "fullgrad"):
        if backend.network.has_rectifiers or name != "guided_backprop":
            xaimaps.attribute(backend, IMAGES, name)
    after = state(model)
    for key, value in before.items():
        np.testing.assert_equal(after[key], value, err_msg=key)


# Names


def names(backend):
    return [layer.name for layer in backend.layers()]


@pytest.mark.parametrize(
    ("kind", "default", "classifier"),
    [
        (functional, "add", "add"),
        (nested, "base/add", "base/add"),
        (doubly_nested, "pool", None),
        (subclassed, "block2", None),
        (shared, "conv:1", None),
        (siamese, "both", None),
        (preprocessed, None, "activation"),
        (grouped, "gelu", "gelu"),
        (attentive, "join", None),
        (class_token, "norm1", None),
    ],
)
def test_the_default_layer_and_the_head(models, kind, default, classifier):
    model, backend = models(kind)
    if default is not None:
        assert backend.default_layer().name == default
    if classifier is None:
        with pytest.raises(LayerError, match="CAM needs"):
            backend.classifier()
        return
    head = backend.classifier()
    assert head.layer == backend.default_layer().name
    dense = [layer for layer in model.layers if isinstance(layer, L.Dense)][-1]
    np.testing.assert_array_equal(head.weights, dense.kernel)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not subclassed])
def test_the_default_layer_of_the_converted_model_is_the_same(models, kind):
    """But for a model whose last function is no layer: a converted one has its operators too."""
    pytest.importorskip("tf2onnx")
    model, backend = models(kind)
    converted = routes(model, ["tensorflow", "onnxruntime"])["onnxruntime"]
    expected, found = (
        one.forward_with_activations(one.asarray(IMAGES), (one.default_layer().name,))[1]
        for one in (backend, converted)
    )
    np.testing.assert_allclose(*found.values(), *expected.values(), atol=1e-4)


def test_names_are_paths_and_their_last_parts(models):
    _, backend = models(nested)
    assert names(backend)[:4] == ["base/conv1", "base/bn1", "base/relu1", "base/conv2"]
    assert backend.find_layer("conv2").name == "base/conv2"
    assert backend.find_layer("base").name == "base/add"
    assert backend.find_layer("base/bn1").shape == (None, 8, 8, 4)
    assert backend.find_layer("base/bn1").operator == "BatchNormalization"


def test_layers_of_subclassed_models_have_names(models):
    _, backend = models(subclassed)
    assert "block1/conv" in names(backend)
    assert "block1" in names(backend)  # its sum is the value of no layer inside
    assert backend.find_layer("block1").shape == (None, 8, 8, 3)
    with pytest.raises(LayerError, match="is that of several layers; use one of 'block0/conv'"):
        backend.find_layer("conv")


def test_a_layer_that_runs_twice_has_a_number(models):
    model, backend = models(shared)
    images = backend.asarray(IMAGES)
    with pytest.raises(
        LayerError, match="is that of several layers; use one of 'conv:0', 'conv:1'"
    ):
        backend.find_layer("conv")
    _, kept = backend.forward_with_activations(images, ("conv:0", "conv:1"))
    conv = model.get_layer("conv")
    np.testing.assert_allclose(kept["conv:0"], conv(IMAGES), atol=1e-5)
    np.testing.assert_allclose(kept["conv:1"], conv(conv(IMAGES)), atol=1e-5)
    assert {"base/conv1:0", "base/conv1:1"} <= set(names(models(siamese)[1]))


def test_tokens_are_maps(models):
    model, backend = models(class_token)
    assert backend.find_layer("join0").shape == (None, 4, 4, 6)
    _, kept = backend.forward_with_activations(backend.asarray(IMAGES), ("join0", "patches"))
    tokens = keras.Model(model.inputs, model.get_layer("join0").output)(IMAGES).numpy()
    np.testing.assert_allclose(kept["join0"], tokens[:, 1:].reshape(3, 4, 4, 6), atol=1e-5)
    assert not xaimaps.attribute(backend, IMAGES, "grad_cam", layer="last").maps.any()


def test_an_unknown_layer(models):
    with pytest.raises(LayerError, match="nearest: 'base/conv"):
        models(nested)[1].find_layer("base/conv9")


# Types


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_float_types(randomised, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = functional()
    finally:
        keras.config.set_dtype_policy("float32")
    plain = randomised(functional())
    model.set_weights(plain.get_weights())
    backends = [xaimaps.load(plain), xaimaps.load(model)]
    tolerance = 1e-5 if policy == "float64" else 0.05
    for name in ("grad_cam", "saliency", "ablation_cam", "cam", "fullgrad"):
        expected, found = (xaimaps.attribute(b, IMAGES, name, target=1) for b in backends)
        assert found.maps.dtype == np.float32
        if name != "saliency" or policy == "float64":
            top = np.abs(expected.maps).max()
            np.testing.assert_allclose(found.maps, expected.maps, atol=tolerance * top)
        np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance * 3)


def test_float64_images_stay_float64(randomised):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        backend = xaimaps.load(randomised(functional()))
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    images, target = tf.constant(IMAGES.astype(np.float64)), Classes(np.zeros(3, np.int32))
    found = backend.grad(images, target)
    assert found.gradients.dtype == found.outputs.dtype == tf.float64
    step = np.random.default_rng(3).normal(size=IMAGES.shape)
    high, low = (backend.forward(images + sign * 1e-6 * step)[:, 0] for sign in (1, -1))
    expected = ((high - low) / 2e-6).numpy()
    np.testing.assert_allclose((found.gradients * step).numpy().sum((1, 2, 3)), expected, rtol=1e-5)


def test_a_model_of_integers_is_differentiated(randomised):
    layers = [L.Rescaling(1 / 255), L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(5)]
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.uint8)
    model = randomised(keras.Sequential([L.Input(SHAPE, dtype="uint8"), *layers]))
    backend = xaimaps.load(model)
    np.testing.assert_allclose(backend.forward(tf.constant(f32(pixels))), model(pixels), atol=1e-5)
    assert xaimaps.attribute(backend, pixels, "saliency").maps.any()


# Outputs


def two_headed(as_dictionary):
    inner = base()
    pooled = L.GlobalAveragePooling2D()(inner.output)
    a, b = L.Dense(2, name="a")(pooled), L.Dense(3, name="b", activation="softmax")(pooled)
    return keras.Model(inner.inputs, {"first": a, "second": b} if as_dictionary else [a, b])


@pytest.mark.parametrize(
    ("as_dictionary", "output", "classes"),
    [(False, None, 2), (False, "b", 3), (False, 1, 3), (False, -2, 2), (True, "second", 3)],
)
def test_outputs_are_chosen(randomised, as_dictionary, output, classes):
    backend = xaimaps.load(randomised(two_headed(as_dictionary)), output=output)
    assert backend.forward(backend.asarray(IMAGES)).shape == (3, classes)
    assert any("2 outputs" in note for note in backend.info.notes) == (output is None)
    assert bool(backend.info.notes) == (output is None or classes == 3)
    assert xaimaps.attribute(backend, IMAGES).maps.shape == (3, 8, 8)


class Pair(keras.Model):
    """Two outputs without names."""

    def __init__(self):
        super().__init__(name="pair")
        self.both = [L.Dense(2), L.Dense(3)]

    def call(self, images):
        return [dense(keras.ops.mean(images, (1, 2))) for dense in self.both]


def test_outputs_without_names_are_numbered():
    model = Pair()
    model(IMAGES)
    for output, classes in ((None, 2), (1, 3), ("output_1", 3)):
        backend = xaimaps.load(model, output=output)
        assert backend.forward(backend.asarray(IMAGES)).shape == (3, classes)
    with pytest.raises(UnsupportedModelError, match=r"\(output_0, output_1\) or its index, got 2"):
        xaimaps.load(model, output=2)


def test_a_fully_convolutional_model_has_vectors(randomised):
    layers = [
        L.Conv2D(4, 3, activation="relu", name="conv"),
        L.GlobalAveragePooling2D(keepdims=True),
    ]
    model = keras.Sequential([L.Input(SHAPE), *layers, L.Conv2D(5, 1), L.Activation("softmax")])
    backend = xaimaps.load(randomised(model))
    assert backend.forward(backend.asarray(IMAGES)).shape == (3, 5)
    assert backend.classifier().layer == "conv"
    assert backend.classifier().weights.shape == (4, 5)
    found = xaimaps.attribute(backend, IMAGES, "cam", target=several(2, 3, 4)).maps
    found = np.moveaxis(found, 1, -1)
    value = backend.forward_with_activations(backend.asarray(IMAGES), ("conv",))[1]["conv"]
    np.testing.assert_allclose(found, value @ backend.classifier().weights[:, 2:], atol=1e-5)


def test_pooled_channels_that_are_the_classes(randomised):
    layers = [L.Conv2D(5, 3, name="conv"), L.GlobalAveragePooling2D(), L.Activation("softmax")]
    backend = xaimaps.load(randomised(keras.Sequential([L.Input(SHAPE), *layers])))
    np.testing.assert_array_equal(backend.classifier().weights, np.eye(5))
    assert backend.classifier().layer == "conv"


def test_tensors_of_classes_are_targets():
    """As in Keras's tutorials: `tf.argmax(predictions, -1)`, or of the first image."""
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(4)])
    images = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)
    best = tf.argmax(model(images), -1)
    found = xaimaps.attribute(model, images, "saliency", target=best)
    expected = xaimaps.attribute(model, images, "saliency", target=best.numpy().tolist())
    np.testing.assert_array_equal(found.maps, expected.maps)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_array_equal(found.target_scores, expected.target_scores)
    one = xaimaps.attribute(model, images[:1], "saliency", target=best[0])
    np.testing.assert_array_equal(one.maps, found.maps[:1])


def test_tokens_that_go_column_by_column_are_a_map(randomised):
    images = keras.Input((48, 80, 3))
    patches = keras.layers.Conv2D(16, 16, strides=16)(images)
    tokens = keras.layers.Reshape((15, 16))(keras.layers.Permute((2, 1, 3))(patches))
    mixed = keras.layers.Dense(16, activation="relu", name="mix")(tokens)
    pooled = keras.layers.GlobalAveragePooling1D()(mixed)
    model = randomised(keras.Model(images, keras.layers.Dense(3)(pooled)))
    backend = xaimaps.load(model)
    assert backend.find_layer("mix").shape == (None, 3, 5, 16)
    batch = np.random.default_rng(0).random((1, 48, 80, 3), np.float32)
    (value,) = backend.forward_with_activations(batch, ("mix",))[1].values()
    by_hand = keras.Model(images, mixed)(batch).numpy().reshape(1, 5, 3, 16).swapaxes(1, 2)
    np.testing.assert_allclose(value, by_hand, rtol=1e-5, atol=1e-6)


def best_first(tokens):
    return tf.argsort(-tf.reduce_mean(tokens, -1), axis=1)


@pytest.mark.parametrize(
    "reordered",
    [
        lambda tokens: tf.gather(tokens, best_first(tokens), batch_dims=1, axis=1),
        lambda tokens: tf.gather(tokens, best_first(tokens)[0], axis=1),
        lambda tokens: tf.gather_nd(tokens, best_first(tokens)[..., None], batch_dims=1),
        lambda tokens: tf.sort(tokens, axis=1),
    ],
)
def test_positions_in_the_order_of_their_scores_are_no_map(reordered):
    class Reordered(keras.layers.Layer):
        def call(self, tokens):
            return reordered(tokens)

    images = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 1, name="features")(images)
    tokens = Reordered()(keras.layers.Reshape((64, 4))(features))
    after = keras.layers.Activation("tanh", name="after")(tokens)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(after))
    backend = xaimaps.load(keras.Model(images, outputs))
    assert [one.name for one in backend.layers() if len(one.shape) == 4] == ["features"]


def test_a_sigmoid_before_a_concatenation_is_not_explained(randomised):
    images = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(6, 3, activation="relu")(images)
    logits = keras.layers.Reshape((-1, 4))(keras.layers.Conv2D(4, 1)(features))
    boxes = keras.layers.Reshape((-1, 4))(keras.layers.Conv2D(4, 1)(features))
    classes = keras.layers.Activation("sigmoid", name="classes")(logits)
    outputs = keras.layers.Concatenate()([boxes, classes])
    model = randomised(keras.Model(images, outputs))
    backend = xaimaps.load(model)
    assert backend.info.notes == [
        "scores are taken before the final Sigmoid 'classes', which makes a part of the output"
    ]
    batch = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    plain = keras.Model(images, keras.layers.Concatenate()([boxes, logits]))
    np.testing.assert_allclose(backend.forward(batch), plain(batch), rtol=1e-5, atol=1e-6)


def test_a_model_that_is_random_has_a_note():
    class AlwaysDrops(keras.layers.Layer):
        def call(self, x):
            return tf.nn.dropout(x, 0.5)

    images = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 3, activation="relu")(images)
    dropped = AlwaysDrops()(features)
    pooled = keras.layers.GlobalAveragePooling2D()
    for values, is_random in ((dropped, True), (features, False)):
        model = keras.Model(images, keras.layers.Dense(3)(pooled(values)))
        notes = [one for one in xaimaps.load(model).info.notes if "the model is random" in one]
        assert bool(notes) == is_random


def test_all_outputs_by_name(randomised):
    model = randomised(two_headed(as_dictionary=True))
    backend = xaimaps.load(model)
    found, expected = backend.named_outputs(IMAGES), model(IMAGES)
    assert found.keys() == expected.keys() == {"first", "second"}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    assert backend.network.output_name == "first"
    assert backend.network.output_rank == 2
    single = xaimaps.load(randomised(base()))
    assert single.named_outputs(IMAGES) == {}
    assert single.network.output_rank == 4
