"""Exported SavedModels: called through TensorFlow alone, and equal to the model's maps."""

import os
import subprocess
import sys

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import (
    ArrayInputError,
    MethodError,
    OutputError,
    TargetError,
    UnsupportedModelError,
)

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
import xaimaps_tensorflow  # noqa: E402

IMAGES = np.random.default_rng(3).normal(size=(3, 9, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((9, 9, 3)),
        keras.layers.Conv2D(5, 3, padding="same", activation="relu", bias_initializer="normal"),
        keras.layers.BatchNormalization(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4),
    ]
    loaded = xaimaps.load(keras.Sequential(layers))
    loaded.info.labels = ["ant", "bee", "cat", "dog"]
    return loaded


def called(folder, *arguments):
    found = keras.layers.TFSMLayer(folder, call_endpoint="serve")(*arguments)
    return {name: np.asarray(value) for name, value in found.items()}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("grad_cam", {}),
        ("integrated_gradients", {"n_steps": 4}),
        ("guided_backprop", {}),
        ("rise", {"n_masks": 8}),
    ],
)
def test_a_folder_has_the_maps_of_the_model(model, tmp_path, method, options):
    before = [np.asarray(weight) for weight in model.model.get_weights()]
    folder = tmp_path / "explained"
    written = xaimaps_tensorflow.export(model, folder, method, batch=3, target="top-1", **options)
    found = called(folder, IMAGES)
    close(found["map"], xaimaps.attribute(model, IMAGES, method, **options).maps)
    close(found["outputs"], np.asarray(model.model(IMAGES)))
    assert written.bytes == sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert written.map_difference < 1e-6
    for weight, own in zip(model.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, own)


def test_targets_and_forms(model, tmp_path):
    written = xaimaps_tensorflow.export(model, tmp_path / "one", target="cat", form="input")
    found = called(tmp_path / "one", IMAGES[:1])["map"]
    close(found, xaimaps.attribute(model, IMAGES[:1], target=2).maps)
    assert (written.target, found.shape) == ("cat", (1, 9, 9))
    xaimaps_tensorflow.export(model, tmp_path / "two", target="top-2", form="normalised", batch=3)
    found = called(tmp_path / "two", IMAGES)["map"]
    raw = np.maximum(xaimaps.attribute(model, IMAGES, target="top-2").maps, 0)
    top = raw.max((2, 3), keepdims=True)
    close(found, raw / np.where(top > 0, top, 1))


def test_the_class_as_an_argument(model, tmp_path):
    xaimaps_tensorflow.export(model, tmp_path / "any", target="input", batch=3)
    read = tf.saved_model.load(str(tmp_path / "any"))
    found = read.serve(IMAGES, np.array([3, 0, 1], np.int32))["map"]
    close(np.asarray(found), xaimaps.attribute(model, IMAGES, target=[3, 0, 1]).maps)


def test_it_runs_without_xaimaps(model, tmp_path):
    xaimaps_tensorflow.export(model, tmp_path / "explained", batch=3)
    np.save(tmp_path / "images.npy", IMAGES)
    script = (
        "import sys, numpy as np, tensorflow as tf\n"
        "read = tf.saved_model.load('explained')\n"
        "found = read.signatures['serving_default'](images=tf.constant(np.load('images.npy')))\n"
        "np.save('maps.npy', found['map'])\n"
        "assert not any(name.startswith('xaimaps') for name in sys.modules)\n"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    close(np.load(tmp_path / "maps.npy"), xaimaps.attribute(model, IMAGES).maps)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"form": "large"}, MethodError, "'large'"),
        ({"batch": 0}, ArrayInputError, "a whole number from 1"),
        ({"target": 9}, TargetError, "from 0 to 3"),
        ({"target": "crow"}, TargetError, "crow"),
        ({"images": IMAGES[:, :5]}, ArrayInputError, "9, 9, 3"),
        ({"method": "no_such"}, MethodError, "no_such"),
    ],
)
def test_wrong_use_gets_one_sentence_and_no_folder(model, tmp_path, given, error, said):
    with pytest.raises(error, match=said):
        xaimaps_tensorflow.export(model, tmp_path / "explained", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(model, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="must not exist yet"):
        xaimaps_tensorflow.export(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_program_with_other_maps_is_not_written(model, tmp_path, monkeypatch):
    name = xaimaps_tensorflow._export.named

    def doubled(*given):
        found = name(*given)
        return {**found, "map": 2 * found["map"]}

    monkeypatch.setattr(xaimaps_tensorflow._export, "named", doubled)
    with pytest.raises(UnsupportedModelError, match="nothing was written"):
        xaimaps_tensorflow.export(model, tmp_path / "explained")
    assert list(tmp_path.iterdir()) == []
