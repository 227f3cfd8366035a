"""Wrong options, models and commands: each ends in one sentence that says what to do."""

import sys

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps import _cli as cli
from xaimaps.errors import BackendError, LayerError, ModelLoadError, UnsupportedModelError

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
SMALL = pytest.importorskip("xaimaps_tensorflow.testing.models").SMALL
L = keras.layers
SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)


def network(*end):
    layers = [L.Conv2D(4, 3, name="conv"), L.GlobalAveragePooling2D(), L.Dense(5)]
    return keras.Sequential([L.Input(SHAPE), *layers, *end], name="network")


class Own(keras.Model):
    """A model of the user's, whose layers get their weights from the first call."""

    def __init__(self):
        super().__init__(name="own")
        self.conv, self.fc = L.Conv2D(4, 3, name="conv"), L.Dense(5, name="fc")

    def call(self, images):
        return self.fc(keras.ops.mean(keras.ops.relu(self.conv(images)), (1, 2)))


def called():
    model = Own()
    model(IMAGES)
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "network.keras"
    network().save(path)
    return path


def refused(error, message, model, **options):
    with pytest.raises(error, match=message) as caught:
        xaimaps.load(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Options

WRONG = {
    "custom_objects": [3, {1: 2}, ["Gate"]],
    "allow_unsafe": ["maybe", 1],
    "xla": ["maybe", 0],
    "output": [2.5, True, ("a",)],
    "input_shape": [
        *(7, "abc", (1,), (8, 8, 8, 3, 1), (8, 8, None), (8, 8, 3.5), (8, -8, 3), (0, 8, 3)),
        *((True, 8, 3), {"a": 1, "b": 2, "c": 3}),
    ],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_options_of_another_type(file, name, value):
    message = refused(ModelLoadError, f"`{name}` must be ", file, **{name: value})
    assert f"got {value!r}" in message


@pytest.mark.parametrize("value", [5, True, ["a.h5"]])
def test_weights_of_another_type(file, value):
    refused(
        ModelLoadError, "`weights` must be .* path of a file, got", "keras:VGG16", weights=value
    )
    refused(ModelLoadError, "no option weights here", file, weights=value)


def test_a_long_value_is_cut(file):
    assert len(refused(ModelLoadError, "custom_objects", file, custom_objects=[1] * 9999)) < 400


# The shape of images


@pytest.mark.parametrize("shape", [(9, 8, 3), (8, 8, 1), (None, None, 1)])
@pytest.mark.parametrize("is_file", [True, False])
def test_a_shape_that_contradicts_the_models_own(file, shape, is_file):
    expected = r"'network' takes images of the shape \(8, 8, 3\), but `input_shape` is .*; leave it"
    model = file if is_file else network()
    refused(UnsupportedModelError, expected, model, input_shape=shape)


@pytest.mark.parametrize("shape", [SHAPE, list(SHAPE), (None, 8, 3)])
def test_a_shape_that_agrees_with_the_models_own(file, shape):
    assert xaimaps.load(file, input_shape=shape).input_shape == tuple(shape)


def test_a_shape_that_a_subclassed_model_cannot_take():
    expected = r"'own' does not run on images of the shape \(8, 8, 4\) \(ValueError: Input 0 .*"
    refused(
        UnsupportedModelError, expected + "check `input_shape`", called(), input_shape=(8, 8, 4)
    )


def test_what_the_models_own_code_raises_is_told():
    class Broken(Own):
        def call(self, images):
            return self.fc(self.convolution(images))

    model = Broken()
    model.built = True
    expected = "'own' does not run .*AttributeError: 'Broken' object has no attribute 'convolution'"
    refused(UnsupportedModelError, expected, model, input_shape=SHAPE)


def built_by_name():
    """What Keras takes for built, though no layer of it is."""
    model = Own()
    with pytest.warns(UserWarning, match="does not have a `build"):
        model.build((None, *SHAPE))
    return model


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            Own,
            r"'own' is not built, .*; call it once on .* model\(numpy.zeros\(\(1, 24, 24, 3\)\)\)",
        ),
        (built_by_name, "'conv' of the model 'own' has no weights yet; call the model once"),
        (lambda: keras.Sequential([L.Flatten(), L.Dense(3)]), "is not built"),
    ],
)
def test_models_without_weights_are_refused_and_get_none(make, expected):
    model = make()
    refused(UnsupportedModelError, expected, model, input_shape=(24, 24, 3))
    assert not model.variables
    assert not any(layer._called for layer in model._flatten_layers())


def test_without_a_shape_the_message_has_words_for_the_sizes():
    refused(UnsupportedModelError, r"zeros\(\(1, height, width, channels\)\)", Own())


# The model


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("default.onnx", r"takes Keras models, got '.*\.onnx'; choose 'jax' or 'onnxruntime'"),
        (np.zeros(3), "takes Keras models, got ndarray; give it one of those"),
        (None, "takes Keras models, got NoneType"),
    ],
    ids=["onnx", "array", "nothing"],
)
def test_what_other_backends_take(tmp_path, model, expected):
    pytest.importorskip("xaimaps_onnx")
    if isinstance(model, str):
        model = tmp_path / model
        model.write_bytes(xaimaps.zoo.MODELS["default"].read_bytes())
    refused(BackendError, expected, model, backend="tensorflow")


def test_a_keras_model_for_other_backends(file):
    pytest.importorskip("xaimaps_jax")
    for model in (file, network()):
        refused(BackendError, "'jax' takes .*; choose 'tensorflow'", model, backend="jax")


def test_a_file_of_any_name_is_tried(file, tmp_path):
    path = tmp_path / "network.model"
    path.write_bytes(file.read_bytes())
    assert xaimaps.load(path, backend="tensorflow").input_shape == SHAPE


def test_keras_that_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    expected = "it does not import .*; set KERAS_BACKEND=tensorflow"
    refused(BackendError, expected, "keras:VGG16", backend="tensorflow")


def test_cam_of_what_has_no_name():
    expected = (
        "here Relu in the model's own code is pooled, which has no name; use "
        "grad_cam, or make a layer of it, as keras.layers.ReLU"
    )
    with pytest.raises(LayerError, match=expected):
        xaimaps.attribute(SMALL["subclassed"](), np.zeros((1, 24, 24, 3)), "cam")


# Commands


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command in a folder of its own that has a picture; its status, and what it says."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", SHAPE[:2], "red").save("red.png")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["xaimaps", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    return run


COMMANDS = [("explain", "red.png"), ("compare", "red.png"), ("layers",)]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_commands_offer_their_own_option_for_files_with_code(command, tmp_path, words):
    network(L.Lambda(lambda x: x * 2, output_shape=(5,))).save(tmp_path / "code.keras")
    status, said = command(*words, "-m", "code.keras")
    assert (status, said.count("\n")) == (2, 1)
    assert "Lambda layer" in said
    assert said.endswith("load it with --allow-unsafe\n")
    options = ["-M", "grad_cam", "-p", "unit"] if len(words) > 1 else []
    assert command(*words, "-m", "code.keras", "--allow-unsafe", *options)[0] == 0


def test_parity_offers_the_same_option(command, tmp_path):
    network(L.Lambda(lambda x: x * 2, output_shape=(5,))).save(tmp_path / "code.keras")
    status, said = command("parity", "code.keras", "red.png")
    assert status == 2
    assert said.endswith("load it with --allow-unsafe\n")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("custom_objects=3", "which Python alone can give, got 3"),
        ("input_shape=7", "(height, width, channels)"),
        ("input_shape=9,9,3", "takes images of the shape (8, 8, 3)"),
        ("allow_unsafe=maybe", "`allow_unsafe` must be true or false, got 'maybe'"),
        ("weights=5", "there is no option weights here"),
        ("params=5", "there is no option params here"),
    ],
)
def test_commands_refuse_options_of_another_type(command, file, option, expected):
    status, said = command("layers", "-m", file, "--load", option)
    assert (status, said.count("\n")) == (2, 1)
    assert expected in said
