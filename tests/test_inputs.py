"""Volumes, vectors and pairs against PyTorch, in every backend (references/make_inputs.py)."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from PIL import Image

import xaimaps
from xaimaps._cli import cli
from xaimaps.errors import ArrayInputError, InputImageError, XaimapsError

pytest.importorskip("xaimaps_jax")

REFERENCES = Path(__file__).parent / "references"
FOUND = np.load(REFERENCES / "inputs.npz")
TARGET = 1
FILES = {"volume": "volume", "image": "table", "patient": "table", "left": "pair", "right": "pair"}
OTHERS = {"image": "patient", "patient": "image", "left": "right", "right": "left"}
MAPS = ("saliency", "grad_cam")
NUMBERS = {
    "saliency": {},
    "input_x_gradient": {},
    "integrated_gradients": {"n_steps": 20, "rule": "riemann_middle"},
}


def other_value(name, index, *, channels_first):
    """Return the value of the input that is not explained, as the model takes it."""
    value = FOUND[OTHERS[name]][index]
    return np.moveaxis(value, -1, 0) if channels_first and value.ndim == 3 else value


def of_file(name, index, backend="jax"):
    path = REFERENCES / f"inputs_{FILES[name]}.onnx"
    if name not in OTHERS:
        return xaimaps.load(path, backend=backend)
    value = other_value(name, index, channels_first=True)
    return xaimaps.load(path, backend=backend, inputs={OTHERS[name]: value})


def of_keras(name, index):
    pytest.importorskip("tensorflow")
    model = KERAS[FILES[name]](pytest.importorskip("keras"))
    if name not in OTHERS:
        return xaimaps.load(model)
    value = other_value(name, index, channels_first=False)
    return xaimaps.load(model, inputs={OTHERS[name]: value})


def keras_weights(model, name, inner=None):
    """Set the weights of layers that have the names of PyTorch's, with `_` for a dot."""
    order = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    for key in (key for key in FOUND.files if key.startswith(f"{name}:")):
        layer, _, part = key.removeprefix(f"{name}:").rpartition(".")
        owner = inner if inner is not None and layer.startswith("encoder") else model
        own = owner.get_layer(layer.replace(".", "_"))
        names = ("gamma", "beta") if hasattr(own, "gamma") else ("kernel", "bias")
        kind = order.get(part) or names[part == "bias"]
        # A kernel (out, in, *sizes) becomes (*sizes, in, out).
        value = np.moveaxis(FOUND[key], (0, 1), (-1, -2)) if kind == "kernel" else FOUND[key]
        getattr(own, kind).assign(value)
    return model


def encoder(keras):
    layers, image = keras.layers, keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="encoder_conv1")(image)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="encoder_conv2")(x)
    return keras.Model(image, x, name="encoder")


def keras_table(keras):
    layers, inner = keras.layers, encoder(keras)
    image, patient = keras.Input((12, 12, 3), name="image"), keras.Input((3,), name="patient")
    gate = layers.Dense(8, activation="sigmoid", name="gate")(patient)
    pooled = layers.Multiply()([layers.GlobalAveragePooling2D()(inner(image)), gate])
    side = layers.Dense(5, activation="tanh", name="side")(patient)
    scores = layers.Dense(4, name="fc")(layers.Concatenate()([pooled, side]))
    model = keras.Model({"image": image, "patient": patient}, scores)
    return keras_weights(model, "table", inner)


def keras_pair(keras):
    layers, inner = keras.layers, encoder(keras)
    left, right = (keras.Input((12, 12, 3), name=name) for name in ("left", "right"))
    pool = layers.GlobalAveragePooling2D()
    distance = layers.Subtract()([pool(inner(left)), pool(inner(right))])
    squared = layers.Multiply()([distance, distance])
    model = keras.Model([left, right], layers.Dense(2, name="fc")(squared))
    return keras_weights(model, "pair", inner)


def keras_volume(keras):
    layers, volume = keras.layers, keras.Input((6, 8, 10, 1), name="volume")

    def normed(x, name):
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    def conv(x, count, name, stride=1):
        padded = layers.ZeroPadding3D(1)(x)
        return layers.Conv3D(count, 3, stride, use_bias=False, name=name)(padded)

    def block(x, count, name, stride):
        inner = layers.ReLU()(normed(conv(x, count, f"{name}_conv1", stride), f"{name}_bn1"))
        inner = normed(conv(inner, count, f"{name}_conv2"), f"{name}_bn2")
        if stride > 1:
            x = layers.Conv3D(count, 1, stride, name=f"{name}_shorten")(x)
        return layers.ReLU(name=name)(layers.Add()([inner, x]))

    x = layers.ReLU()(normed(conv(volume, 4, "stem"), "bn"))
    x = layers.GlobalAveragePooling3D()(block(block(x, 4, "one", 1), 6, "two", 2))
    return keras_weights(keras.Model(volume, layers.Dense(3, name="fc")(x)), "volume")


KERAS = {"volume": keras_volume, "table": keras_table, "pair": keras_pair}


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("route", [of_file, of_keras])
@pytest.mark.parametrize("name", ["volume", "image", "left", "right"])
def test_maps_equal_those_of_pytorch(route, name):
    loaded = route(name, 1)
    for method in MAPS:
        found = xaimaps.attribute(loaded, FOUND[name][1], method, target=TARGET)
        near(found.maps[0], FOUND[f"{name}/{method}"][1])
    key = {"right": "left"}.get(name, name)
    near(found.scores[0], FOUND[f"{key}/scores"][1])


@pytest.mark.parametrize("name", ["volume", "image", "left", "right"])
def test_scores_in_onnx_runtime_equal_those_of_pytorch(name):
    pytest.importorskip("xaimaps_onnx")
    loaded = of_file(name, 1, "onnxruntime")
    key = {"right": "left"}.get(name, name)
    near(loaded.forward(FOUND[name][1:]), FOUND[f"{key}/scores"][1:])


@pytest.mark.parametrize("route", [of_file, of_keras])
def test_the_attributions_of_a_vector_equal_those_of_pytorch(route):
    loaded = route("patient", 0)
    assert (loaded.info.input, loaded.info.is_vector) == ("patient", True)
    for method, options in NUMBERS.items():
        found = xaimaps.attribute(loaded, FOUND["patient"][0], method, target=TARGET, **options)
        near(found.maps[0], FOUND[f"patient/{method}"][0])
        np.testing.assert_array_equal(found.vectors, FOUND["patient"][:1])
    with pytest.raises(ArrayInputError, match=r"shape \(N, 3\), got \(1, 4\)"):
        xaimaps.attribute(loaded, np.zeros((1, 4)), "saliency")


def test_a_vector_in_onnx_runtime_has_the_numbers_of_jax():
    found = [
        xaimaps.attribute(of_file("patient", 0, name), FOUND["patient"][:1], "occlusion").maps
        for name in ("jax", "onnxruntime")
    ]
    near(*found)


# Pictures as values


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two folders of pictures, of the size of the models."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(3).integers
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for index in range(2):
            pixels = draw(0, 256, (12, 12, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / side / f"{index}.png")
    np.save("patients.npy", FOUND["patient"])
    return tmp_path


def prepared(path):
    """Return a picture from 0 to 1, resized to the models' size."""
    resized = Image.open(path).resize((12, 12), Image.Resampling.BICUBIC, reducing_gap=None)
    return np.asarray(resized, np.float32) / 255


def run(*words):
    done = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


PAIR = REFERENCES / "inputs_pair.onnx"
TABLE = REFERENCES / "inputs_table.onnx"


def alone(index, explained="left", other="right"):
    """Return the map of one picture of a pair, from arrays."""
    value = np.moveaxis(prepared(f"{other}/{index}.png"), -1, 0)
    model = xaimaps.load(PAIR, backend="jax", inputs={other: value})
    picture = prepared(f"{explained}/{index}.png")
    return xaimaps.attribute(model, picture, "saliency", target=TARGET).maps[0]


@pytest.mark.parametrize("route", ["onnx", "keras"])
def test_the_picture_of_an_input_is_prepared_as_the_models_own(folder, route):
    model = PAIR
    if route == "keras":
        pytest.importorskip("tensorflow")
        model = keras_pair(pytest.importorskip("keras"))
    Image.open("right/0.png").resize((30, 30)).save("right/0.png")
    loaded = xaimaps.load(model, preprocess="unit", inputs={"right": "right/0.png"})
    near(xaimaps.explain(loaded, "left/0.png", "saliency", target=TARGET).maps[0], alone(0))


def test_a_crop_of_another_picture_has_a_note(folder):
    Image.open("right/0.png").resize((30, 24)).save("wide.png")
    loaded = xaimaps.load(PAIR, preprocess="unit", inputs={"right": "wide.png"})
    (note,) = xaimaps.explain(loaded, "left/0.png", "saliency", target=TARGET).notes()
    assert note.startswith("the input 'right': the model saw the middle 24 x 24 of 24 x 30 pixels")


def test_each_picture_has_its_own_values(folder):
    model = xaimaps.load(PAIR, preprocess="unit", inputs={"right": "right/1.png"})
    files = ["left/0.png", "left/1.png"]
    both = xaimaps.explain(
        model, files, ["saliency", "grad_cam"], target=TARGET, inputs={"right": "right"}
    )
    near(both[0].maps, np.stack([alone(0), alone(1)]))
    assert [one["right"] for one in both[1].inputs] == ["right/0.png", "right/1.png"]
    manifests = sorted(path for path in both[0].save("out") if path.suffix == ".json")
    told = [json.loads(path.read_text()) for path in manifests]
    assert [one["inputs"] for one in told] == [{"right": f"right/{i}.png"} for i in range(2)]
    assert all(xaimaps.reproduce(path).agrees for path in manifests)
    assert both[0][1].inputs == ({"right": "right/1.png"},)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"right": ["right/0.png"]}, "1 of 'right' for 2 pictures"),
        ({"right": "right/0.png"}, "'right' must have a value for each picture"),
        ({"right": []}, "'right' must have a value for each picture"),
        ({"right": ""}, "'right' must be numbers, a .npy file or a picture, got ''"),
        (3, "`inputs` must be a dictionary"),
        ({}, "as many values as there are pictures, got none"),
        ({"right": np.full((2, 3, 12, 12), np.nan)}, "'right' must be finite"),
        ({"right": ["right/0.png", 3]}, r"'right' must have the shape \(3, 12, 12\), got \(\)"),
    ],
)
def test_values_that_are_not_one_for_each_picture(folder, inputs, message):
    model = xaimaps.load(PAIR, preprocess="unit", inputs={"right": "right/1.png"})
    with pytest.raises(ArrayInputError, match=message):
        xaimaps.explain(model, ["left/0.png", "left/1.png"], "saliency", inputs=inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": {"right": "right/9.png"}}, "'right' must be numbers, a .npy file or a picture"),
        ({"inputs": {"right": "broken.png"}}, "'right': 'broken.png' must be a picture"),
        ({"inputs": {"right": "right/0.png"}, "preprocess": None}, "preprocessing .* is unknown"),
    ],
)
def test_pictures_that_cannot_be_values(folder, options, message):
    Path("broken.png").write_text("no picture")
    with pytest.raises((ArrayInputError, InputImageError), match=message):
        xaimaps.load(PAIR, **{"preprocess": "unit", **options})


def test_a_function_takes_no_picture_as_a_value(folder):
    def function(params, images, right):
        return (images - right).mean((1, 2)) @ params

    with pytest.raises(ArrayInputError, match="of a function must be numbers"):
        xaimaps.load(
            function, np.eye(3), input_shape=(12, 12, 3), preprocess="unit",
            inputs={"right": "right/0.png"},
        )  # fmt: skip


def test_an_input_of_any_size_has_the_size_that_the_user_gives(folder):
    model = onnx.load(PAIR)
    for value in model.graph.input:
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = "any"
    with pytest.raises(ArrayInputError, match=r"'right' takes pictures of any size; give `input_s"):
        xaimaps.load(model, preprocess="unit", inputs={"right": "right/0.png"})
    sized = {"input_size": (12, 12), "preprocess": "unit"}
    loaded = xaimaps.load(model, inputs={"right": "right/0.png"}, **sized)
    near(xaimaps.explain(loaded, "left/0.png", "saliency", target=TARGET).maps[0], alone(0))


def test_a_picture_is_no_vector(folder):
    with pytest.raises(ArrayInputError, match=r"must take a picture.* its shape is \(3,\)"):
        xaimaps.load(TABLE, preprocess="unit", inputs={"patient": "left/0.png"})


# The command line


def test_both_pictures_of_a_pair_have_a_map(folder):
    words = ("explain", "left", "-m", PAIR, "-p", "unit", "-b", "jax", "-t", TARGET)
    told = run(*words, "-M", "saliency", "--each", "right=right", "--explained", "right")["results"]
    assert [(one["input"], one["picture"]) for one in told] == [
        (side, f"left/{i}.png") for i in range(2) for side in ("left", "right")
    ]
    for index in range(2):
        for stem, expected in (("", alone(index)), ("-right", alone(index, "right", "left"))):
            with np.load(f"xaimaps-output/{index}{stem}-saliency-class 1-maps.npz") as arrays:
                near(arrays["maps"], expected)
            assert Path(f"xaimaps-output/{index}{stem}-saliency-class 1-overlay.png").exists()


def test_a_vector_has_a_table_of_numbers(folder):
    words = ("explain", "left/0.png", "-m", TABLE, "-p", "unit", "-b", "jax", "-t", TARGET)
    words += ("--input", "patient=0.5,-1,2", "--explained", "patient")
    image, patient = run(*words)["results"]
    assert (image["input"], patient["input"]) == ("image", "patient")
    names = [one["method"] for one in patient["methods"]]
    assert names == ["saliency", "input_x_gradient", "integrated_gradients"]
    value = np.moveaxis(prepared("left/0.png"), -1, 0)
    model = xaimaps.load(TABLE, inputs={"image": value})
    for one in patient["methods"]:
        expected = xaimaps.attribute(model, [[0.5, -1, 2]], one["method"], target=TARGET).maps
        near(one["vector"]["attributions"], expected)
        assert one["vector"]["values"] == [0.5, -1, 2]
    manifest = Path("xaimaps-output/0-patient-input_x_gradient-class 1-manifest.json")
    told = json.loads(manifest.read_text())
    assert told["vector"] == patient["methods"][1]["vector"]
    assert xaimaps.reproduce(manifest).agrees
    for wrong in ({"values": 3}, {"values": [[1]]}):
        manifest.write_text(json.dumps({**told, "vector": wrong}))
        with pytest.raises(XaimapsError):
            xaimaps.reproduce(manifest)
    shown = CliRunner().invoke(cli, list(map(str, words))).output
    row = [f"{v['vector']['attributions'][0][1]:.4g}" for v in patient["methods"]]
    assert ["1", "-1", *row] in [line.split() for line in shown.splitlines()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--each", "right=right/0.png"), "must have a value for each picture"),
        (("--each", "right=patients.npy"), "must have the shape (3, 12, 12), got (3,)"),
        (("--each", "rihgt=right"), "got 'rihgt'; nearest: 'right'"),
        (("--input", "right=right/0.png", "--explained", "rigth"), "nearest: 'right'"),
        (("--input", "right=right.npy", "--explained", "right"), "needs the file of a picture"),
    ],
)
def test_wrong_words(folder, words, message):
    np.save("right.npy", np.zeros((3, 12, 12)))
    given = ["explain", "left", "-m", str(PAIR), "-p", "unit", "-M", "saliency", *words]
    with pytest.raises(XaimapsError, match=re.escape(message)):
        CliRunner().invoke(cli, given, catch_exceptions=False)


def test_a_broken_value_fails_its_picture_alone(folder):
    Path("right/1.png").write_text("no picture")
    words = ["explain", "left", "-m", str(PAIR), "-p", "unit", "-M", "saliency"]
    done = CliRunner().invoke(cli, [*words, "--each", "right=right", "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)["results"]
    assert [one["status"] for one in told] == ["ok", "failed"]
    assert "the input 'right': 'right/1.png'" in told[1]["reason"]
