"""Keras's applications by name: preprocessing, sizes, and weights from where they may be."""

import hashlib
import importlib
import inspect
import urllib.error

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
from xaimaps_tensorflow._applications import architectures, build, module, preset

from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import ModelLoadError

NAMES = sorted(architectures())
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
SMALL = "MobileNetV3Small"


@pytest.fixture(scope="module")
def small():
    """A network and what it answers."""
    model, _ = build(SMALL, None)
    return randomised(model)


def randomised(model, seed=0):
    """Weights under which every layer counts, and no output is lost in the softmax."""
    rng = np.random.default_rng(seed)
    values = []
    for variable in model.weights:
        scale = np.sqrt(1 / max(np.prod(variable.shape[:-1]), 1))
        value = rng.normal(0, scale, variable.shape)
        values.append(np.abs(value) + 0.5 if "variance" in variable.path else value)
    model.set_weights(values)
    return model


def answer(model):
    side = model.input_shape[1]
    images = np.random.default_rng(1).uniform(0, 255, (1, side, side, 3)).astype(np.float32)
    return np.asarray(model(images, training=False))


@pytest.fixture
def fetched(monkeypatch):
    """Stand in for the download by Keras: a file, or an exception."""

    def use(constructor, result):
        def get_file(*_args, **_options):
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(constructor.__globals__["file_utils"], "get_file", get_file)

    return use


@pytest.mark.parametrize("name", NAMES)
def test_preprocessing_is_that_of_keras(name):
    constructor = architectures()[name]
    theirs = importlib.import_module(f"keras.applications.{module(constructor)}").preprocess_input
    expected = theirs(PIXELS.astype(np.float32))
    ours = PRESETS[preset(constructor)].values(PIXELS)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=2e-5)


def test_all_architectures_of_keras_are_known():
    modules = [m for _, m in inspect.getmembers(keras.applications, inspect.ismodule)]
    known = {n for m in modules for n, f in inspect.getmembers(m, inspect.isfunction)}
    assert {name for name in known if name[0].isupper()} <= set(NAMES)
    assert {"VGG16", "ResNet50", "InceptionV3", "Xception", "NASNetMobile"} <= set(NAMES)


@pytest.mark.parametrize(
    ("name", "size"), [(SMALL, 224), ("MobileNetV2", 224), ("Xception", 299), ("MobileNet", 224)]
)
def test_size_and_classes_are_those_of_the_architecture(name, size):
    model, info = build(name, None)
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, 1000)
    assert (info.name, info.labels_name) == (name, "imagenet-1k")
    assert "random" in info.notes[0]


def test_unknown_architecture_gets_the_nearest():
    with pytest.raises(ModelLoadError, match=r"got 'VGG61'; nearest: .*'VGG16'"):
        build("VGG61")


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".hdf5", ".keras"])
def test_weights_from_a_file(tmp_path, small, suffix):
    path = tmp_path / f"own{suffix}"
    if suffix == ".hdf5":
        small.save_weights(path.with_suffix(".weights.h5"))
        path.with_suffix(".weights.h5").rename(path)
    else:
        small.save_weights(path) if suffix == ".weights.h5" else small.save(path)
    model, info = build(SMALL, path)
    np.testing.assert_array_equal(answer(model), answer(small))
    assert info.source == str(path)
    assert len(info.sha256) == 64
    assert info.notes == []


def test_weights_of_another_architecture(tmp_path, small):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(ModelLoadError, match=rf"does not hold the weights of {SMALL}"):
        build(SMALL, path)


def test_missing_weights():
    with pytest.raises(ModelLoadError, match="No such file"):
        build(SMALL, "nowhere.h5")


def test_weights_that_are_no_numbers(tmp_path, small):
    model = keras.models.clone_model(small)
    model.set_weights([np.full_like(w, np.nan) for w in small.get_weights()])
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(ModelLoadError, match="NaN"):
        build(SMALL, tmp_path / "nan.weights.h5")


def test_offline_names_the_file_and_the_way_out(monkeypatch, tmp_path, capsys):
    def refuse(*_args, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path))
    expected = r"get vgg16_weights_tf_dim_ordering_tf_kernels\.h5 on .* with --weights FILE"
    with pytest.raises(ModelLoadError, match=expected) as caught:
        build("VGG16")
    assert "\n" not in str(caught.value)
    assert "https://" in str(caught.value)
    assert capsys.readouterr().out == ""


def test_imagenet_weights_are_those_that_keras_fetches(tmp_path, small, fetched):
    small.save(tmp_path / "fetched.h5")
    fetched(architectures()[SMALL], tmp_path / "fetched.h5")
    model, info = build(SMALL)
    np.testing.assert_array_equal(answer(model), answer(small))
    assert info.preprocess == PRESETS["raw"]


@pytest.mark.parametrize("published", [True, False])
def test_efficientnet_is_rescaled_where_keras_would(tmp_path, fetched, monkeypatch, published):
    """Keras builds another network for its own weights: the file tells for which one it is."""
    constructor = architectures()["EfficientNetB0"]
    path = tmp_path / "efficientnetb0.weights.h5"
    constructor(weights=None).save_weights(path)
    fetched(constructor, path)
    keras_own = constructor(weights="imagenet")
    digest = hashlib.md5(path.read_bytes()).hexdigest() if published else ""
    monkeypatch.setitem(constructor.__globals__["WEIGHTS_HASHES"], "b0", (digest, ""))
    ours = stem(build("EfficientNetB0", path)[0])
    assert np.allclose(ours, stem(keras_own), rtol=1e-5) == published
    keras_own.save_weights(tmp_path / "again.weights.h5")
    again = stem(build("EfficientNetB0", tmp_path / "again.weights.h5")[0])
    np.testing.assert_allclose(again, stem(keras_own), rtol=1e-5)


def stem(model):
    """The images as the first convolution of EfficientNet gets them."""
    return answer(keras.Model(model.inputs, model.get_layer("stem_conv_pad").output))
