"""Deep pictures and bands from the file to the overlay and back from the manifest."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import xaimaps
from xaimaps._cli import cli
from xaimaps._images.open import open_picture
from xaimaps.errors import ArrayInputError, MethodError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZE = (6, 8)
RANDOM = np.random.default_rng(4)


def linear(channels):
    """A 1 x 1 convolution and the mean over all positions: scores by one product."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    kernel = RANDOM.normal(size=(2, channels, 1, 1)).astype("f4")
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["images", "kernel"], ["conv"]),
            node("GlobalAveragePool", ["conv"], ["pool"]),
            node("Flatten", ["pool"], ["scores"]),
        ],
        "linear",
        [info("images", 1, ["N", channels, *SIZE])],
        [info("scores", 1, ["N", 2])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), kernel[..., 0, 0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["jax", "onnxruntime"])
def backend(request):
    if request.param == "jax":
        pytest.importorskip("xaimaps_jax")
    return request.param


METHODS = {"jax": "saliency", "onnxruntime": "eigen_cam"}
"""A method that each backend has."""


def test_a_tile_of_8_bands(backend, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tile = RANDOM.integers(0, 3000, (*SIZE, 8), np.uint16)
    path = tmp_path / "tile.tif"
    tifffile.imwrite(path, tile, photometric="minisblack", planarconfig="contig")
    proto, kernel = linear(8)
    mean, std = tuple(RANDOM.random(8) * 1000), tuple(RANDOM.random(8) * 500 + 1)
    bands = xaimaps.Preprocess("bands", 1.0, mean, std, native=True)
    model = xaimaps.load(proto, backend=backend, preprocess=bands)
    result = xaimaps.explain(model, path, METHODS[backend])
    expected = ((tile - np.array(mean)) / std).mean((0, 1)) @ kernel.T
    np.testing.assert_allclose(result.scores[0], expected, rtol=1e-4, atol=1e-5)
    assert np.asarray(result.overlay()).shape == (*SIZE, 3)
    np.testing.assert_array_equal(result.views[0], open_picture(path).pixels)
    if backend == "jax":
        gradient = np.abs(kernel[result.classes[0]]).max() / np.prod(SIZE)
        np.testing.assert_allclose(result.maps[0], gradient, rtol=1e-5)


def film(path):
    """A 12-bit picture in a file of 16 bits."""
    values = RANDOM.integers(1000, 1903, SIZE, np.uint16)
    Image.fromarray(values).save(path)
    return values


def test_a_12_bit_film_has_a_note_and_keeps_its_levels(backend, tmp_path):
    values = film(tmp_path / "film.png")
    proto, kernel = linear(1)
    model = xaimaps.load(proto, backend=backend, preprocess="raw")
    result = xaimaps.explain(model, tmp_path / "film.png", METHODS[backend])
    np.testing.assert_allclose(result.scores[0], values.mean() / 257 * kernel[:, 0], rtol=1e-4)
    (note,) = (note for note in result.notes() if "small part" in note)
    assert f"{values.min()} to {values.max()}" in note
    assert "0 to 65535; `window` (--window LOW HIGH)" in note

    model = xaimaps.load(proto, backend=backend, preprocess="raw", window=(0, 4095))
    result = xaimaps.explain(model, tmp_path / "film.png", METHODS[backend])
    np.testing.assert_allclose(result.scores[0], values.mean() * 255 / 4095 * kernel[:, 0], 1e-4)
    assert not any("small part" in note for note in result.notes())
    assert len(np.unique(result.pictures[0].levels())) == len(np.unique(values))


def test_own_values_have_no_note_of_the_range(backend, tmp_path):
    film(tmp_path / "film.png")
    model = xaimaps.load(linear(1)[0], backend=backend, preprocess="native")
    result = xaimaps.explain(model, tmp_path / "film.png", METHODS[backend])
    assert not any("small part" in note for note in result.notes())


def test_the_manifest_reproduces_a_window(backend, tmp_path):
    film(tmp_path / "film.png")
    onnx.save(linear(1)[0], tmp_path / "model.onnx")
    model = xaimaps.load(
        tmp_path / "model.onnx", backend=backend, preprocess="unit", window=(900, 1500)
    )
    result = xaimaps.explain(model, tmp_path / "film.png", METHODS[backend])
    path = result.save(tmp_path / "out")[-1]
    told = json.loads(path.read_text())
    assert told["preprocess"]["window"] == [900, 1500]
    assert told["picture"]["range"] == [900, 1500]
    assert xaimaps.reproduce(path).agrees


def test_a_window_needs_a_preprocessing(backend):
    with pytest.raises(ArrayInputError, match=r"`window` needs a known preprocessing, got \(0, 9"):
        xaimaps.load(linear(1)[0], backend=backend, window=(0, 9))


def test_the_window_of_the_command_line(backend, folder):
    np.save("ct.npy", np.int16([[-1000, -160, 40, 240, 1000, 40]] * 6))
    onnx.save(linear(1)[0], "model.onnx")
    words = f"explain ct.npy -m model.onnx -b {backend} -p raw --fit stretch -M {METHODS[backend]}"
    failed = CliRunner().invoke(cli, words.split())
    assert "'ct.npy' must say which of its values are black and white" in str(failed.exception)
    done = CliRunner().invoke(cli, [*words.split(), "--window", "-160", "240"])
    assert done.exit_code == 0, done.output
    told = json.loads(next((folder / "xaimaps-output").glob("*-manifest.json")).read_text())
    assert told["picture"]["range"] == [-160, 240]
    assert told["picture"]["mode"] == "int16"
    overlay = open_picture(next((folder / "xaimaps-output").glob("*-overlay.png")))
    assert overlay.size == (6, 6)


# Overlays of arrays


def test_attribute_draws_on_pictures(pooled, images):
    pictures = [RANDOM.integers(0, 256, (20, 30, 3), np.uint8) for _ in images]
    result = xaimaps.attribute(pooled, images, target=1, pictures=pictures)
    plain = xaimaps.attribute(pooled, images, target=1)
    np.testing.assert_array_equal(result.maps, plain.maps)
    np.testing.assert_array_equal(np.asarray(result.overlay(2, alpha=0)), pictures[2])
    assert result.overlay(2).size == (30, 20)


def test_attribute_on_pictures_is_saved_as_of_an_array(pooled, images, tmp_path):
    result = xaimaps.attribute(pooled, images[:1], pictures=np.zeros((5, 5, 3), np.uint8))
    overlay, _, _, manifest = result.save(tmp_path)
    assert overlay.name == "image-0-grad_cam-goldfish-overlay.png"
    told = json.loads(manifest.read_text())
    assert told["not_recorded"][0] == "an array was explained, not a picture"


def test_there_is_a_picture_for_each_image(pooled, images):
    with pytest.raises(ArrayInputError, match="one for each of the 7 images, got 1"):
        xaimaps.attribute(pooled, images, pictures=np.zeros((5, 5, 3), np.uint8))


# Colours of other numbers of channels


@pytest.mark.parametrize(("name", "level"), [("black", 0), ("gray", 0.5), ("white", 1)])
def test_baselines_have_the_channels_of_the_model(captum, name, level):
    from xaimaps.methods._baselines import baselines

    captum.info.preprocess = xaimaps.PRESETS["unit"]
    found = baselines(captum, np.ones((2, 4, 4, 1), np.float32), name)
    assert found.shape == (1, 2, 4, 4, 1)
    np.testing.assert_allclose(found, level, rtol=1e-6)


def test_own_values_have_no_colours(captum):
    images = np.ones((1, 4, 4, 1), np.float32)
    captum.info.preprocess = xaimaps.PRESETS["native"]
    for method, option in (("integrated_gradients", "baseline"), ("occlusion", "baseline")):
        default = xaimaps.attribute(captum, images, method, target=0)
        zeros = xaimaps.attribute(captum, images, method, target=0, **{option: "zeros"})
        np.testing.assert_array_equal(default.maps, zeros.maps)
    with pytest.raises(MethodError, match=r"the baseline 'black' needs .* preprocessing of pixels"):
        xaimaps.attribute(captum, images, "integrated_gradients", target=0, baseline="black")


def test_a_mask_of_16_bits_keeps_its_small_values(tmp_path, pooled):
    from xaimaps.targets._spatial import _read_mask

    mask = np.zeros((4, 5), np.uint16)
    mask[1:3, 2] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(_read_mask(str(tmp_path / "mask.png")), mask)


def test_a_window_is_one_of_the_preprocessing():
    wanted = dataclasses.replace(xaimaps.PRESETS["unit"], window=(1, 2))
    assert xaimaps.load("default", preprocess="unit", window=(1, 2)).info.preprocess == wanted
