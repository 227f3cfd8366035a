"""Saving: which files, what is in them, and nothing by halves."""

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._results import formats
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
        "a cat-grad_cam-goldfish-overlay.png",
        "a cat-grad_cam-goldfish-heatmap.png",
        "a cat-grad_cam-goldfish-maps.npz",
        "a cat-grad_cam-goldfish-manifest.json",
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
        assert {"maps", "scores", "classes"} <= set(arrays)
        np.testing.assert_array_equal(arrays["maps"], found.maps[0])
        np.testing.assert_array_equal(arrays["scores"], found.scores[0])
        assert arrays["classes"] == 1


def test_the_manifest_says_what_it_takes_to_reproduce(found, path, tmp_path):
    files = found.save(tmp_path / "out")
    manifest = json.loads(files[-1].read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = {
        "xaimaps": version("xaimaps"),
        "method": "grad_cam",
        "options": {**METHODS["grad_cam"].options, "relu": False},
        "layer": "relu2",
        "backend": "reference",
        "backend_version": None,
        "target": "goldfish",
        "targets": [
            {
                "target": "goldfish",
                "class": 1,
                "label": "goldfish",
                "score": float(found.scores[0, 1]),
            }
        ],
        "maps": {"shape": [5, 5], "dtype": "float32", "several": False},
        "notes": [
            "the model saw the middle 20 x 20 of 20 x 30 pixels; `fit` pad or stretch (--fit) "
            "shows it the whole picture",
            "scores are logits",
        ],
        "files": names(files[:-1]),
    }
    assert {key: manifest[key] for key in expected} == expected
    source = {"name": "reference network", "file": "net.onnx", "source": "/models/net.onnx"}
    assert manifest["model"].items() >= {**source, "sha256": "ab" * 32}.items()
    assert manifest["preprocess"]["name"] == "unit"
    assert manifest["preprocess"]["interpolation"] == "bicubic"
    picture = {"source": str(path), "sha256": digest, "mode": "RGB", "size": [20, 30], "notes": []}
    assert manifest["picture"] == {**picture, "range": [0, 255]}
    assert set(manifest["seconds"]) == {"compile", "run"}
    assert manifest["top"] == [asdict(one) for one in found.top()]


def test_several_targets_have_pictures_of_their_own(pooled, path, tmp_path):
    found = xaimaps.explain(pooled, path, "cam", target=several("goldfish", 4))
    files = found.save(tmp_path / "out")
    assert names(files) == [
        "a cat-cam-goldfish-overlay.png",
        "a cat-cam-goldfish-heatmap.png",
        "a cat-cam-hammerhead-overlay.png",
        "a cat-cam-hammerhead-heatmap.png",
        "a cat-cam-goldfish+hammerhead-maps.npz",
        "a cat-cam-goldfish+hammerhead-manifest.json",
    ]
    targets = json.loads(files[-1].read_text())["targets"]
    assert [one["label"] for one in targets] == ["goldfish", "hammerhead"]
    with Image.open(files[3]) as image:
        np.testing.assert_array_equal(image, found.heatmap(target=1))


def test_arrays_are_numbered_and_have_no_overlay(pooled, images, tmp_path):
    files = xaimaps.attribute(pooled, images[:2], "saliency", target=4).save(tmp_path)
    assert names(files) == [
        f"image-{i}-saliency-hammerhead-{kind}"
        for i in range(2)
        for kind in ("heatmap.png", "maps.npz", "manifest.json")
    ]
    manifest = json.loads(files[-1].read_text())
    assert manifest["picture"] is None
    with np.load(files[1]) as arrays:
        assert arrays["maps"].shape == (9, 9)


@pytest.mark.fault("I43")
def test_pictures_of_one_name_get_names_of_their_own(pooled, path, tmp_path):
    others = [path.with_suffix(".bmp"), tmp_path / "A CAT.png", path]
    for other in others:
        Image.fromarray(PICTURE).save(other)
    files = xaimaps.explain(pooled, [path, *others], "cam").save(tmp_path / "out")
    assert len({file.name.casefold() for file in files}) == 16


@pytest.mark.fault("F04")
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

    for module in (saving, formats):
        monkeypatch.setattr(module, "write_atomic", write)
    with pytest.raises(OutputError, match="No space left"):
        found.save(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == written


def test_maps_with_channels_write_nothing(pooled, path, tmp_path):
    found = xaimaps.explain(pooled, path, "saliency", reduce=None)
    with pytest.raises(ArrayInputError, match="a `reduce` other than None"):
        found.save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.fault("O01")
def test_a_folder_that_is_a_file(found, path):
    before = path.read_bytes()
    with pytest.raises(OutputError, match="not a folder"):
        found.save(path)
    assert path.read_bytes() == before


def test_the_figure_has_a_panel_for_each_target(pooled, path, tmp_path):
    one = xaimaps.explain(pooled, path, "cam")
    two = xaimaps.explain(pooled, path, "saliency", target=several(1, 2))
    view, first, second = one.views[0], saving.draw(one), saving.draw(two)
    assert width(saving.save_figure(view, [*first, *second], tmp_path / "4.png")) == 2 * width(
        saving.save_figure(view, first, tmp_path / "2.png")
    )


def width(file):
    with Image.open(file) as image:
        return image.width


TARGETS = {
    "goldfish vs tench": ["goldfish vs tench"],
    "top-2": None,
    "goldfish; goldfish vs 3": ["goldfish", "goldfish vs 3"],
    "output:2": ["output:2"],
    "tench vs goldfish; 4": ["tench vs goldfish", "4"],
}


@pytest.mark.parametrize("text", TARGETS)
def test_the_manifest_and_the_names_say_what_was_explained(pooled, path, tmp_path, text):
    target = text if not text.startswith("output") else 2
    found = xaimaps.explain(pooled, path, "cam" if text == "top-2" else "grad_cam", target=target)
    files = found.save(tmp_path / "out")
    told = json.loads(files[-1].read_text())
    assert told["target"] == str(found.target)
    assert told["not_recorded"] == ["the model did not come from a file"]
    for k, one in enumerate(told["targets"]):
        scores = found.target_scores[0]
        assert one["score"] == pytest.approx(float(np.atleast_1d(scores)[k]))
    if TARGETS[text] is not None and target == text:
        assert [one["target"] for one in told["targets"]] == TARGETS[text]
    if target == text and "/" not in text:
        overlays = [name for name in names(files) if name.endswith("-overlay.png")]
        wanted = [f"a cat-{found.method}-{one['target']}-overlay.png" for one in told["targets"]]
        assert overlays == wanted


def test_a_function_is_named_where_it_cannot_be_recorded(pooled, path):
    from xaimaps._results.manifest import manifest
    from xaimaps.targets import Function

    found = xaimaps.explain(pooled, path)
    object.__setattr__(found, "target", Function(len))
    told = manifest(found, 0, [])
    assert told["target"] == "<function len>"
    assert "the target is the Python function 'len'" in told["not_recorded"]


def test_a_batch_records_each_images_own_target(pooled, path, tmp_path):
    found = xaimaps.explain(pooled, [path, path], target=["goldfish", 4])
    manifests = [
        json.loads(f.read_text()) for f in found.save(tmp_path / "out") if f.suffix == ".json"
    ]
    assert [one["target"] for one in manifests] == ["goldfish", "4"]


def test_overlays_have_a_format(found, tmp_path):
    files = found.save(tmp_path, format="jpg")
    assert names(files)[:2] == [
        "a cat-grad_cam-goldfish-overlay.jpg",
        "a cat-grad_cam-goldfish-heatmap.jpg",
    ]
    with pytest.raises(OutputError, match="one of png, jpg, webp, got 'jpgg'; nearest: 'jpg'"):
        found.save(tmp_path, format="jpgg")
