"""Saving: which files, what is in them, and nothing by halves."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._results import save as saving
from xaimaps.errors import ArrayInputError, OutputError
from xaimaps.methods import METHODS
from xaimaps.targets import several

PICTURE = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "in" / "a cat.png"
    path.parent.mkdir()
    Image.fromarray(PICTURE).save(path)
    return path


@pytest.fixture
def found(pooled, path):
    pooled.info.source, pooled.info.sha256 = "/models/net.onnx", "ab" * 32
    pooled.info.notes.append("scores are logits")
    return xaimaps.explain(pooled, path, target="goldfish", relu=False)


def names(files):
    return [file.name for file in files]


def test_one_picture_gives_four_files(found, tmp_path):
    files = found.save(tmp_path / "new" / "out")
    assert names(files) == [
        "a cat-grad_cam-overlay.png",
        "a cat-grad_cam-heatmap.png",
        "a cat-grad_cam-maps.npz",
        "a cat-grad_cam-manifest.json",
    ]
    assert sorted(files) == sorted((tmp_path / "new" / "out").iterdir())


def test_pictures_are_what_the_result_draws(found, tmp_path):
    overlay, heatmap, *_ = found.save(tmp_path)
    for file, drawn in ((overlay, found.overlay()), (heatmap, found.heatmap())):
        with Image.open(file) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            np.testing.assert_array_equal(image, drawn)


def test_raw_maps_come_back_bit_for_bit(found, tmp_path):
    with np.load(found.save(tmp_path)[2]) as arrays:
        assert {"maps", "scores", "target"} <= set(arrays)
        np.testing.assert_array_equal(arrays["maps"], found.maps[0])
        np.testing.assert_array_equal(arrays["scores"], found.scores[0])
        assert arrays["target"] == 1


def test_the_manifest_says_what_it_takes_to_reproduce(found, path, tmp_path):
    files = found.save(tmp_path / "out")
    manifest = json.loads(files[-1].read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = {
        "xaimaps": xaimaps._results.save.version("xaimaps"),
        "method": "grad_cam",
        "options": {**METHODS["grad_cam"].options, "relu": False},
        "layer": "relu2",
        "backend": "reference",
        "backend_version": None,
        "model": {"name": "reference network", "file": "net.onnx", "sha256": "ab" * 32},
        "targets": [{"class": 1, "label": "goldfish", "score": float(found.scores[0, 1])}],
        "maps": {"shape": [5, 5], "dtype": "float32"},
        "notes": ["scores are logits"],
        "files": names(files[:-1]),
    }
    assert {key: manifest[key] for key in expected} == expected
    assert manifest["preprocess"]["name"] == "unit"
    assert manifest["preprocess"]["interpolation"] == "bicubic"
    picture = {"source": str(path), "sha256": digest, "mode": "RGB", "size": [20, 30], "notes": []}
    assert manifest["picture"] == picture
    assert set(manifest["seconds"]) == {"compile", "run"}


def test_several_targets_have_pictures_of_their_own(pooled, path, tmp_path):
    found = xaimaps.explain(pooled, path, "cam", target=several("goldfish", 4))
    files = found.save(tmp_path / "out")
    assert names(files) == [
        "a cat-cam-1-overlay.png",
        "a cat-cam-1-heatmap.png",
        "a cat-cam-4-overlay.png",
        "a cat-cam-4-heatmap.png",
        "a cat-cam-maps.npz",
        "a cat-cam-manifest.json",
    ]
    targets = json.loads(files[-1].read_text())["targets"]
    assert [one["label"] for one in targets] == ["goldfish", "hammerhead"]
    with Image.open(files[3]) as image:
        np.testing.assert_array_equal(image, found.heatmap(target=1))


def test_arrays_are_numbered_and_have_no_overlay(pooled, images, tmp_path):
    files = xaimaps.attribute(pooled, images[:2], "saliency").save(tmp_path)
    assert names(files) == [
        f"image-{i}-saliency-{kind}"
        for i in range(2)
        for kind in ("heatmap.png", "maps.npz", "manifest.json")
    ]
    manifest = json.loads(files[-1].read_text())
    assert manifest["picture"] is None
    with np.load(files[1]) as arrays:
        assert arrays["maps"].shape == (9, 9)


def test_pictures_of_one_name_get_names_of_their_own(pooled, path, tmp_path):
    others = [path.with_suffix(".bmp"), tmp_path / "A CAT.png", path]
    for other in others:
        Image.fromarray(PICTURE).save(other)
    files = xaimaps.explain(pooled, [path, *others], "cam").save(tmp_path / "out")
    assert len({file.name.casefold() for file in files}) == 16


@pytest.mark.parametrize("written", range(4))
def test_a_disk_that_fails_leaves_no_part(found, tmp_path, monkeypatch, written):
    """The disk is full at one of the four files: those before it are whole, and nothing else is."""
    whole, left = saving.write_atomic, [written]

    def write(path, fill):
        def fill_or_fail(file):
            file.write(b"half of it")
            raise OSError(28, "No space left on device")

        whole(path, fill if left[0] else fill_or_fail)
        left[0] -= 1

    monkeypatch.setattr(saving, "write_atomic", write)
    with pytest.raises(OutputError, match="No space left"):
        found.save(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == written


def test_maps_with_channels_write_nothing(pooled, path, tmp_path):
    found = xaimaps.explain(pooled, path, "saliency", reduce=None)
    with pytest.raises(ArrayInputError, match="another `reduce`"):
        found.save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_is_a_file(found, path):
    before = path.read_bytes()
    with pytest.raises(OutputError, match="not a folder"):
        found.save(path)
    assert path.read_bytes() == before


def test_the_figure_has_a_panel_for_each_target(pooled, path, tmp_path):
    one = xaimaps.explain(pooled, path, "cam")
    two = xaimaps.explain(pooled, path, "saliency", target=several(1, 2))
    assert width(saving.save_figure([one, two], tmp_path / "4.png")) == 2 * width(
        saving.save_figure([one], tmp_path / "2.png")
    )


def width(file):
    with Image.open(file) as image:
        return image.width
