"""Exported programs: called through `jax.export` alone, and equal to the model's maps."""

import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import xaimaps_jax

import xaimaps
from xaimaps.errors import (
    ArrayInputError,
    MethodError,
    OutputError,
    TargetError,
    UnsupportedModelError,
    XaimapsError,
)

IMAGES = np.random.default_rng(3).normal(size=(4, 9, 9, 3)).astype(np.float32)
PARAMS = {
    "kernel": np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype(np.float32),
    "dense": np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32),
}
AXES = ("NHWC", "HWIO", "NHWC")


def scores(params, images):
    maps = jax.lax.conv_general_dilated(
        images, params["kernel"], (1, 1), "SAME", dimension_numbers=AXES
    )
    return jax.nn.relu(maps).mean((1, 2)) @ params["dense"]


@pytest.fixture(scope="module")
def model():
    labels = ["ant", "bee", "cat", "dog"]
    return xaimaps.load(scores, params=PARAMS, input_shape=(9, 9, 3), labels=labels)


def called(file, *arguments):
    found = jax.export.deserialize(bytearray(file.read_bytes())).call(*arguments)
    return {name: np.asarray(value) for name, value in found.items()}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("grad_cam", {}),
        ("saliency", {}),
        ("eigen_cam", {}),
        ("guided_backprop", {}),
        ("lrp", {}),
    ],
)
def test_a_program_takes_any_number_of_images(model, tmp_path, method, options):
    file = tmp_path / "program.jax"
    written = xaimaps_jax.export(model, file, method, platforms=("cpu",), **options)
    expected = xaimaps.attribute(model, IMAGES, method, **options)
    for count in (1, 4):
        found = called(file, IMAGES[:count])
        close(found["map"], expected.maps[:count])
        close(found["outputs"], np.asarray(scores(PARAMS, IMAGES[:count])))
    assert (written.bytes, written.arguments) == (file.stat().st_size, ("images",))
    assert written.map_difference < 1e-5


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("integrated_gradients", {"n_steps": 16}),
        ("smoothgrad", {"n_samples": 4}),
        ("occlusion", {"window": 3, "stride": 3}),
        ("rise", {"n_masks": 8}),
    ],
)
def test_methods_of_several_passes_have_a_fixed_batch(model, tmp_path, method, options):
    file = tmp_path / "program.jax"
    with pytest.raises(UnsupportedModelError, match="give a fixed `batch`"):
        xaimaps_jax.export(model, file, method, platforms=("cpu",), **options)
    assert not file.exists()
    xaimaps_jax.export(model, file, method, batch=2, platforms=("cpu",), **options)
    close(
        called(file, IMAGES[:2])["map"],
        xaimaps.attribute(model, IMAGES[:2], method, **options).maps,
    )


def test_targets(model, tmp_path):
    file = tmp_path / "program.jax"
    for target in (2, "cat"):
        xaimaps_jax.export(model, file, target=target, platforms=("cpu",))
        close(called(file, IMAGES)["map"], xaimaps.attribute(model, IMAGES, target=2).maps)
    written = xaimaps_jax.export(model, file, target="input", platforms=("cpu",))
    assert written.arguments == ("images", "target")
    found = called(file, IMAGES, np.array([3, 0, 1, 2], np.int32))
    close(found["map"], xaimaps.attribute(model, IMAGES, target=[3, 0, 1, 2]).maps)
    xaimaps_jax.export(model, file, target="top-2", batch=4, platforms=("cpu",))
    close(called(file, IMAGES)["map"], xaimaps.attribute(model, IMAGES, target="top-2").maps)


def test_weights_may_be_an_argument(model, tmp_path):
    inside, outside = tmp_path / "inside.jax", tmp_path / "outside.jax"
    xaimaps_jax.export(model, inside, platforms=("cpu",), target=1)
    xaimaps_jax.export(model, outside, platforms=("cpu",), target=1, weights="argument")
    twice = jax.tree.map(lambda weight: 2 * jnp.asarray(weight), PARAMS)
    expected = called(inside, IMAGES)["map"]
    close(called(outside, PARAMS, IMAGES)["map"], expected)
    close(called(outside, twice, IMAGES)["map"], 4 * expected)  # both layers are linear in theirs


@pytest.mark.parametrize("form", ["input", "normalised"])
def test_forms(model, tmp_path, form):
    file = tmp_path / "program.jax"
    xaimaps_jax.export(model, file, form=form, platforms=("cpu",))
    found = called(file, IMAGES)["map"]
    raw = xaimaps.attribute(model, IMAGES).maps
    assert found.shape == (4, 9, 9)
    if form == "normalised":
        top = np.maximum(raw, 0).max((1, 2), keepdims=True)
        raw = np.maximum(raw, 0) / np.where(top > 0, top, 1)
    close(found, raw)  # the layer has the size of the input


def test_it_runs_without_xaimaps_and_for_accelerators(model, tmp_path):
    file = tmp_path / "program.jax"
    written = xaimaps_jax.export(model, file, "grad_cam")
    assert written.platforms == ("cpu", "cuda", "tpu")
    np.save(tmp_path / "images.npy", IMAGES)
    script = (
        "import pathlib, sys, jax.export, numpy as np\n"
        "data = bytearray(pathlib.Path('program.jax').read_bytes())\n"
        "program = jax.export.deserialize(data)\n"
        "assert program.platforms == ('cpu', 'cuda', 'tpu')\n"
        "np.save('maps.npy', program.call(np.load('images.npy'))['map'])\n"
        "assert not any(name.startswith(('xaimaps', 'onnx')) for name in sys.modules)\n"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    close(np.load(tmp_path / "maps.npy"), xaimaps.attribute(model, IMAGES).maps)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"form": "large"}, MethodError, "'large'"),
        ({"weights": "outside"}, MethodError, "'outside'"),
        ({"platforms": ("tpu",)}, OutputError, "'cpu', where the program is compared"),
        ({"platforms": "cpu"}, OutputError, "must be a list"),
        ({"platforms": ("cpu", "abacus")}, OutputError, "abacus"),
        ({"batch": 0}, ArrayInputError, "a whole number from 1"),
        ({"batch": True}, ArrayInputError, "got True"),
        ({"target": 9}, TargetError, "from 0 to 3"),
        ({"target": "crow"}, TargetError, "crow"),
        ({"images": IMAGES[:, :5]}, ArrayInputError, "9, 9, 3"),
        ({"method": "no_such"}, MethodError, "no_such"),
    ],
)
def test_wrong_use_gets_one_sentence_and_no_file(model, tmp_path, given, error, said):
    with pytest.raises(error, match=said) as raised:
        xaimaps_jax.export(model, tmp_path / "program.jax", **given)
    assert isinstance(raised.value, XaimapsError)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_any_size_needs_images(tmp_path):
    model = xaimaps.load(scores, params=PARAMS, input_shape=(None, None, 3))
    with pytest.raises(ArrayInputError, match="`images` must be given"):
        xaimaps_jax.export(model, tmp_path / "program.jax")
    written = xaimaps_jax.export(model, tmp_path / "program.jax", images=IMAGES, platforms=["cpu"])
    assert called(tmp_path / "program.jax", IMAGES)["map"].shape == (4, 9, 9)
    assert written.target == "top-1"


def test_a_program_with_other_maps_is_not_written(model, tmp_path, monkeypatch):
    explain = xaimaps_jax._export.function

    def wrong(*args, **options):
        method = explain(*args, **options)

        def doubled(*given):
            found = method(*given)
            return type(found)(2 * found.maps, found.outputs)

        return doubled

    monkeypatch.setattr(xaimaps_jax._export, "function", wrong)
    with pytest.raises(UnsupportedModelError, match="nothing was written"):
        xaimaps_jax.export(model, tmp_path / "program.jax", platforms=("cpu",))
    assert list(tmp_path.iterdir()) == []
