"""The converter of Keras models, on small models of every kind with weights that are not nought."""

import io
import logging
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import xaimaps
from xaimaps.errors import LayerError, ModelLoadError, UnsupportedModelError

pytest.importorskip("tf2onnx")
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
L = keras.layers
checking = pytest.importorskip("xaimaps_tensorflow.to_onnx._validate")
converting = pytest.importorskip("xaimaps_tensorflow.to_onnx._convert")
locating = pytest.importorskip("xaimaps_tensorflow.to_onnx._match_layers")
seeded = pytest.importorskip("xaimaps_tensorflow.testing.models").seeded
subjects = pytest.importorskip("xaimaps_tensorflow.to_onnx._model")
tracing = pytest.importorskip("xaimaps_tensorflow.to_onnx._trace")
convert, locate = converting.convert, locating.locate

RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(2, 16, 16, 3)).astype(np.float32)


def images_in(size=(16, 16, 3), **options):
    return keras.Input(size, name="images", **options)


def through(*steps, size=(16, 16, 3), classes=5, name="net"):
    """A functional model of some layers, pooling and a dense one."""
    x = images = images_in(size)
    for step in steps:
        x = step(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, L.Dense(classes, name="scores")(x), name=name)


def conv(filters=8, name="conv", **options):
    return L.Conv2D(filters, 3, padding="same", name=name, **options)


def functional():
    x = images = images_in()
    x = conv(name="first", use_bias=False)(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    y = conv(name="second", activation="relu")(x)
    x = L.Add(name="joined")([x, y])
    x = L.SeparableConv2D(12, 3, name="separable")(x)
    x = L.MaxPooling2D(name="smaller")(x)
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, L.Dense(5, activation="softmax", name="answer")(x), name="net")


def base():
    x = images = keras.Input((16, 16, 3))
    x = conv(name="conv1", activation="relu")(x)
    return keras.Model(images, conv(name="conv2", activation="relu")(x), name="base")


def sequential():
    return keras.Sequential(
        [images_in(), conv(activation="relu"), L.Flatten(), L.Dense(5, name="scores")], name="seq"
    )


def nested():
    return keras.Sequential(
        [images_in(), base(), L.GlobalAveragePooling2D(), L.Dense(5, name="scores")], name="outer"
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.inner = base()
        self.pool = L.GlobalAveragePooling2D(name="pool")
        self.dense = L.Dense(5, name="scores")

    def call(self, images, training=None):
        return self.dense(self.pool(self.inner(images, training=training)))


def subclassed():
    model = Subclassed()
    model(IMAGES, training=False)
    return model


def shared():
    x = images = images_in()
    inner, again = base(), conv(filters=3, name="again")
    x = inner(again(inner(x)) if inner.output_shape[-1] == 3 else again(x))
    x = L.GlobalAveragePooling2D(name="pool")(again(x) if x.shape[-1] == 3 else x)
    return keras.Model(images, L.Dense(5, name="scores")(x), name="shared")


def twice():
    x = images = images_in()
    layer = conv(filters=3, name="layer", activation="relu")
    x = L.GlobalAveragePooling2D(name="pool")(layer(layer(x)))
    return keras.Model(images, L.Dense(5, name="scores")(x), name="twice")


def normalized():
    return through(L.Normalization(mean=[0.3, 0.2, 0.1], variance=[2.0, 3.0, 4.0]), conv())


def several_outputs():
    x = images = images_in()
    x = conv(activation="relu")(x)
    x = L.GlobalAveragePooling2D()(x)
    outputs = [L.Dense(5, name="kind")(x), L.Dense(2, name="colour")(x)]
    return keras.Model(images, outputs, name="several")


KINDS = {
    "functional": functional,
    "sequential": sequential,
    "nested": nested,
    "subclassed": subclassed,
    "shared": shared,
    "twice": twice,
    "normalized": normalized,
    "resized": lambda: through(L.Resizing(12, 12), conv(), L.BatchNormalization()),
    "flipped": lambda: through(L.RandomFlip(), conv(), L.BatchNormalization()),
    "rescaled": lambda: through(L.Rescaling(1 / 127.5, -1), conv(activation="swish")),
    "grouped": lambda: through(conv(), L.Conv2D(8, 3, groups=4, name="grouped")),
    "gelu": lambda: through(conv(activation="gelu")),
    "any size": lambda: through(conv(activation="relu"), size=(None, None, 3)),
    "operations": lambda: through(conv(), lambda x: keras.ops.relu(x) * 2 + x),
    "normalised otherwise": lambda: through(conv(), L.LayerNormalization(), L.UnitNormalization()),
    "upsampled": lambda: through(conv(), L.UpSampling2D(), L.Conv2DTranspose(4, 2, name="up")),
}


@pytest.fixture(scope="module")
def converted():
    """Each kind of model and its file, made once."""
    made = {}

    def get(kind):
        if kind not in made:
            keras.utils.set_random_seed(0)
            model = seeded(KINDS[kind]())
            before = model.get_weights()
            proto = convert(model)
            for old, new in zip(before, model.get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)
            made[kind] = model, proto
        return made[kind]

    return get


def close(actual, desired, tolerance=1e-5):
    size = max(float(np.abs(desired).max(initial=0)), 1e-9)
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * size)


@pytest.mark.fault("K17")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_answers_as_the_model_does(converted, kind):
    model, proto = converted(kind)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["images"]
    given = IMAGES * 50 if kind == "rescaled" else IMAGES
    loaded = xaimaps.load(proto, backend="onnxruntime")
    outputs = model(given, training=False)
    scores = loaded.forward(given)
    if proto.graph.node[-1].op_type == "Softmax":
        scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    close(scores, np.asarray(outputs))


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_in_the_file_bit_for_bit(converted, kind):
    model, proto = converted(kind)
    held = {_sorted(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
    for variable in model.variables:
        if len(variable.shape) > 1:
            assert _sorted(np.asarray(variable)) in held, variable.path


def _sorted(array):
    return np.sort(array, axis=None).tobytes()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("functional", ["first", "norm", "relu", "second", "joined", "separable", "smaller"]),
        ("functional", ["depthwise"]),
        ("sequential", ["conv"]),
        ("nested", ["base/conv1", "base/conv2", "conv1", "conv2", "base"]),
        ("subclassed", ["base/conv1", "base/conv2", "conv2"]),
        ("twice", ["layer:0", "layer:1"]),
        ("grouped", ["conv", "grouped"]),
        ("gelu", ["conv"]),
        ("any size", ["conv"]),
        ("upsampled", ["conv", "up"]),
    ],
)
@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_a_layer_has_its_name_and_its_value(converted, kind, names, backend):
    model, proto = converted(kind)
    loaded = xaimaps.load(proto, backend=backend)
    theirs = xaimaps.load(model, backend="tensorflow")
    for name in names:
        own = loaded.find_layer(name).name
        their = theirs.find_layer(name).name
        _, found = loaded.forward_with_activations(IMAGES, (own,))
        _, expected = theirs.forward_with_activations(tf.constant(IMAGES), (their,))
        close(np.asarray(found[own]), np.asarray(expected[their]))


def test_the_maps_are_those_of_the_model(converted):
    model, proto = converted("functional")
    theirs = xaimaps.load(model, backend="tensorflow")
    ours = xaimaps.load(proto, backend="jax")
    for layer in ("joined", "second"):
        expected = xaimaps.attribute(theirs, IMAGES, "grad_cam", target=1, layer=layer)
        found = xaimaps.attribute(ours, IMAGES, "grad_cam", target=1, layer=layer)
        close(found.maps, expected.maps, 1e-4)


def data_of(proto):
    """All data; their order is tf2onnx's, which depends on hashes."""
    return sorted(tensor.raw_data for tensor in proto.graph.initializer)


def test_a_conversion_gives_the_same_file_again(converted):
    model, proto = converted("sequential")
    again = convert(model)
    assert Counter(n.op_type for n in again.graph.node) == Counter(
        n.op_type for n in proto.graph.node
    )
    assert data_of(again) == data_of(proto)


def test_the_file_says_what_it_is(converted):
    model, _ = converted("sequential")
    info = xaimaps.backend.ModelInfo(
        "mine", labels_name="imagenet-1k", preprocess=xaimaps.PRESETS["caffe"]
    )
    loaded = xaimaps.load(convert(model, info=info))
    assert loaded.info.name == "mine"
    assert loaded.info.labels[0] == "tench"
    assert loaded.info.preprocess == xaimaps.PRESETS["caffe"]


@pytest.mark.fault("K17")
def test_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = seeded(through(conv(activation="relu"), conv(name="conv2")))
    finally:
        keras.config.set_dtype_policy("float32")
    loaded = xaimaps.load(convert(model), backend="onnxruntime")
    close(loaded.forward(IMAGES), np.asarray(model(IMAGES, training=False)), 1e-2)


def test_one_of_several_outputs():
    model = seeded(several_outputs())
    with pytest.raises(UnsupportedModelError, match=r"`output` must name .*, colour"):
        convert(model)
    proto = convert(model, output="colour")
    assert [value.name for value in proto.graph.output] == ["colour"]
    loaded = xaimaps.load(proto, backend="onnxruntime")
    close(loaded.forward(IMAGES), np.asarray(model(IMAGES, training=False)[1]))


def test_a_subclassed_model_that_was_never_called():
    model = Subclassed()
    with pytest.raises(UnsupportedModelError, match="'subclassed' is not built"):
        convert(model, input_shape=(16, 16, 3))
    model(np.zeros((1, 16, 16, 3), np.float32))
    proto = convert(model, input_shape=(16, 16, 3))
    assert xaimaps.load(proto, backend="onnxruntime").forward(IMAGES).shape == (2, 5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_a_keras_file(tmp_path, converted):
    model, proto = converted("sequential")
    model.save(tmp_path / "net.keras")
    again = convert(tmp_path / "net.keras")
    assert data_of(again) == data_of(proto)


def test_the_embedded_network_comes_back():
    from xaimaps_tensorflow._zoo import efficientnet_lite0

    model, info = efficientnet_lite0()
    proto = convert(model, info=info)
    picture = next(iter(xaimaps.zoo.PICTURES.values()))
    found = xaimaps.explain(xaimaps.load(proto), picture, "grad_cam")
    expected = xaimaps.explain("default", picture, "grad_cam")
    close(found.maps, expected.maps, 1e-4)
    close(found.scores, expected.scores)
    names = {alias for layer in xaimaps.load(proto).layers() for alias in layer.aliases}
    assert "stem/conv" in names


def test_a_file_written_from_the_frameworks_memory_is_the_same_file(converted):
    model, proto = converted("functional")
    conversion = converting.converted(subjects.subject_of(model), (), 18)
    file = io.BytesIO()
    size = conversion.write(file)
    assert size == len(file.getvalue())
    again = onnx.load_model_from_string(file.getvalue())
    assert again == conversion.model()
    assert data_of(again) == data_of(proto)


# Layers that the graph has not by itself


def test_a_layer_that_is_fused_is_kept_on_request():
    model = seeded(through(L.ZeroPadding2D(1, name="padded"), L.Conv2D(8, 3, strides=2)))
    subject = subjects.subject_of(model)
    assert "padded" not in converting.converted(subject, (), 18).layers
    proto = convert(model, layers="padded")
    close(xaimaps.load(proto, backend="onnxruntime").forward(IMAGES), np.asarray(model(IMAGES)))
    maps = [
        xaimaps.attribute(loaded, IMAGES, "grad_cam", layer="padded", target=1, relu=False).maps
        for loaded in (xaimaps.load(proto), xaimaps.load(model, backend="tensorflow"))
    ]
    assert maps[0].shape == (2, 18, 18)
    close(*maps, 1e-4)


def test_layers_that_are_not_there():
    model = seeded(nested())
    with pytest.raises(LayerError, match=r"'conv3' is none of them; nearest: .*'base/conv"):
        convert(model, layers=["conv3"])
    with pytest.raises(LayerError, match="has no single value of its own in the ONNX graph"):
        converting._require_located(["lost"], {})


def test_a_constant_layer_is_not_located():
    """All zeros equal all other zeros, and prove nothing."""
    node = onnx.helper.make_node("Relu", ["x"], ["y"], "layer/Relu")
    proto = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    zeros, noise = np.zeros((2, 4, 4, 3), np.float32), IMAGES[:, :4, :4]
    assert locate(proto, {"y": zeros}, {"layer": zeros}, 1e-4) == {}
    assert locate(proto, {"y": noise}, {"layer": noise}, 1e-4) == {"layer": "y"}
    assert locate(proto, {"y": np.moveaxis(noise, 3, 1)}, {"layer": noise}, 1e-4) == {"layer": "y"}
    assert locate(proto, {"y": noise * 1.001}, {"layer": noise}, 1e-4) == {}


def test_a_factor_without_its_summand_is_not_the_layer():
    """Where values are large, what a normalisation adds drowns in the tolerance."""
    factor = onnx.helper.make_node("Mul", ["x", "g"], ["scaled"], "bn/Mul")
    whole = onnx.helper.make_node("Add", ["scaled", "b"], ["shifted"], "bn/Add")
    proto = onnx.helper.make_model(onnx.helper.make_graph([factor, whole], "g", [], []))
    scaled = IMAGES[:, :4, :4] * np.float32([1, 1e5]).reshape(2, 1, 1, 1)
    values = {"scaled": scaled, "shifted": scaled + np.float32(0.5)}
    assert locate(proto, values, {"bn": values["shifted"]}, 1e-4) == {"bn": "shifted"}


@pytest.mark.parametrize(
    ("activation", "operator"), [("relu", "Relu"), ("relu6", "Clip"), ("elu", "Elu")]
)
def test_two_rectifiers_of_one_value_stay_two(activation, operator):
    """One in the place of both would cut off the sum of their gradients, not each of them."""
    images = images_in()
    x = conv(name="stem")(images)
    branches = [conv(name=f"conv{i}")(L.Activation(activation, name=f"r{i}")(x)) for i in (1, 2)]
    pooled = L.GlobalAveragePooling2D(name="pool")(L.Add(name="joined")(branches))
    model = seeded(keras.Model(images, L.Dense(5, name="scores")(pooled)))
    proto = convert(model)
    assert Counter(node.op_type for node in proto.graph.node)[operator] == 2
    theirs, ours = (
        xaimaps.attribute(xaimaps.load(each), IMAGES, "guided_backprop", target=1).maps
        for each in (model, proto)
    )
    close(ours, theirs, 1e-5)


# What is refused


@pytest.mark.parametrize(
    ("policy", "kind"), [("mixed_bfloat16", "bfloat16"), ("float64", "float64")]
)
def test_types_that_onnx_runtime_does_not_compute(policy, kind):
    keras.config.set_dtype_policy(policy)
    try:
        model = through(conv())
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(UnsupportedModelError, match=f"the layer 'conv' computes in {kind}"):
        convert(model)


class Sorted(L.Layer):
    """Uses an operator that ONNX does not have."""

    def call(self, x):
        return x + tf.math.bessel_i0(x)


def test_an_operator_that_onnx_does_not_have_is_named():
    model = through(conv(), Sorted(name="odd"))
    with pytest.raises(UnsupportedModelError, match=r"layer 'odd.*' uses .* BesselI0 \(node"):
        convert(model)


def test_unknown_operators_in_inner_graphs_are_found():
    inner = onnx.helper.make_graph([onnx.helper.make_node("Odd", ["x"], ["y"])], "g", [], [])
    outer = onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    proto = onnx.helper.make_model(onnx.helper.make_graph([outer], "g", [], []))
    with pytest.raises(UnsupportedModelError, match="Odd"):
        checking.require_known(proto)


def test_a_file_that_answers_otherwise_is_not_handed_out(monkeypatch):
    model = seeded(sequential())
    honest = tracing.trace

    def wrong(*args):
        traced = honest(*args)
        name = max(traced.weights, key=lambda name: traced.weights[name].size)
        traced.weights[name] = traced.weights[name] * np.float32(1.001)
        return traced

    monkeypatch.setattr(converting, "trace", wrong)
    with pytest.raises(UnsupportedModelError, match="so there is no file"):
        convert(model)


def test_a_softmax_that_is_certain_hides_no_difference(monkeypatch):
    """Both answers are 1 for one class; what they were made of differs."""
    model = seeded(functional())
    model.layers[-1].kernel.assign(np.asarray(model.layers[-1].kernel) * 8)
    honest = converting.probe_onnx

    def wrong(proto, weights, images):
        dense = max(n for n, w in weights.items() if w.ndim == 2 and w.shape[1] == 5)
        return honest(proto, {**weights, dense: weights[dense] * np.float32(1.001)}, images)

    converting.converted(subjects.subject_of(model), (), 18)
    monkeypatch.setattr(converting, "probe_onnx", wrong)
    with pytest.raises(UnsupportedModelError, match="so there is no file"):
        convert(model)


def test_a_failure_inside_tf2onnx_is_one_sentence(monkeypatch):
    def fail(*args, **options):
        raise KeyError("keras_tensor_3")

    monkeypatch.setattr(tracing.tf2onnx.convert, "from_function", fail)
    with pytest.raises(UnsupportedModelError, match=r"tf2onnx cannot convert the model 'seq'"):
        convert(sequential())


def test_what_is_no_image_model():
    with pytest.raises(UnsupportedModelError, match="a Keras model is converted, got Dense"):
        convert(L.Dense(3))
    flat = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    with pytest.raises(UnsupportedModelError, match="batch of images"):
        convert(flat)


def test_a_file_that_is_onnx_already():
    with pytest.raises(ModelLoadError, match="is ONNX already"):
        convert(xaimaps.zoo.MODELS["default"])


def test_opsets_that_tf2onnx_does_not_write():
    with pytest.raises(UnsupportedModelError, match=r"from 13 to 18, .* got 12"):
        convert("keras:VGG16", opset=12)  # before there is one


@pytest.mark.parametrize("opset", [13, 15])
def test_earlier_opsets(opset):
    model = seeded(functional())
    proto = convert(model, opset=opset)
    assert proto.opset_import[0].version == opset


def test_an_output_that_the_images_do_not_reach():
    images = images_in()
    zero = L.Lambda(lambda x: tf.ones((1, 3)))(images)
    with pytest.raises(UnsupportedModelError, match="does not depend on its inputs"):
        convert(keras.Model(images, zero))


def test_more_weights_than_a_file_holds(monkeypatch):
    monkeypatch.setattr(subjects, "MOST_BYTES", 1000)
    with pytest.raises(UnsupportedModelError, match="at most 2 GB"):
        convert(sequential())


def test_the_process_is_left_as_it_was(converted):
    model, _ = converted("grouped")
    function, level = tf.function, logging.getLogger("tf2onnx").level
    convert(model)
    assert tf.function is function
    assert logging.getLogger("tf2onnx").level == level
    assert logging.root.manager.disable == logging.NOTSET
    assert all("call" not in vars(layer) for layer in model.layers)
    assert keras.config.dtype_policy().name == "float32"
