"""The notes of a result: maps that explain nothing, crops, and random models."""

import dataclasses

import numpy as np
import pytest

import xaimaps
from xaimaps.targets import several

PICTURE = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def found(pooled, images):
    return xaimaps.attribute(pooled, images, "grad_cam", target=1)


def test_a_map_that_says_something_has_no_note(found):
    assert found.maps[0].any()
    assert found.notes(0) == []


def test_scores_that_are_probabilities(found):
    """As of two softmaxes and their mean, which no logits lead to."""
    powers = np.exp(found.scores.astype(float))
    softmax = powers / powers.sum(axis=1, keepdims=True)
    mean = dataclasses.replace(found, scores=(softmax + softmax[:, ::-1]) / 2)
    (note,) = mean.notes(0)
    assert note.startswith("the scores are probabilities")
    named = dataclasses.replace(mean, model=dataclasses.replace(mean.model, labels_name="imagenet"))
    told = [one.probability for one in named.top(1)]
    assert told == pytest.approx([mean.scores[0].max()])


@pytest.mark.fault("A13")
def test_a_map_of_zeros(found, pooled):
    zero = dataclasses.replace(found, maps=np.zeros_like(found.maps))
    assert zero.notes(0) == [
        f"the grad_cam map of {pooled.info.labels[1]} is zero everywhere: nothing at this layer "
        "speaks for the score; for the score of one position, such as of a box, layer_cam and "
        "hires_cam keep it apart from the others"
    ]


@pytest.mark.fault("A13")
def test_a_map_of_one_value(found, pooled):
    flat = dataclasses.replace(found, maps=np.full_like(found.maps, 0.25))
    label = pooled.info.labels[1]
    assert flat.notes(0) == [f"the grad_cam map of {label} has the same value everywhere, 0.25"]


@pytest.mark.fault("R03", "R04")
def test_outputs_and_maps_that_are_no_numbers(found, pooled):
    scores, maps = found.scores.copy(), found.maps.copy()
    scores[0, :2], maps[0, 0, 0] = (np.nan, np.inf), np.nan
    odd = dataclasses.replace(found, scores=scores, maps=maps)
    assert odd.notes(0) == [
        "2 of the model's 5 outputs are NaN or infinite; check the preprocessing and the weights",
        f"the grad_cam map of {pooled.info.labels[1]} has values that are NaN or infinite",
    ]
    assert odd.notes(1) == found.notes(1)


@pytest.mark.parametrize(("size", "is_noise"), [(1e-9, True), (1e-5, False)])
def test_a_map_below_the_rounding_of_its_score(found, size, is_noise):
    """Float32 rounds a score of 1 to 1.2e-7."""
    scale = size * np.abs(found.target_scores[0]) / np.abs(found.maps[0]).sum()
    small = dataclasses.replace(found, maps=found.maps * scale)
    noise = [note for note in small.notes(0) if "smaller than the rounding of the score" in note]
    assert bool(noise) == is_noise


def test_each_target_has_its_own_note(pooled, images):
    found = xaimaps.attribute(pooled, images, "grad_cam", target=several(1, 4))
    maps = found.maps.copy()
    maps[0, 1] = 0
    (note,) = dataclasses.replace(found, maps=maps).notes(0)
    assert pooled.info.labels[4] in note
    assert dataclasses.replace(found, maps=maps).notes(1) == found.notes(1)


@pytest.mark.parametrize(("fit", "is_cropped"), [("crop", True), ("stretch", False)])
def test_a_crop_is_noted(pooled, fit, is_cropped):
    pooled.info.preprocess = dataclasses.replace(xaimaps.PRESETS["unit"], fit=fit)
    found = xaimaps.explain(pooled, PICTURE, "saliency", target=1)
    crop = [
        note for note in found.notes() if note.startswith("the model saw the middle 20 x 20 of 20")
    ]
    assert bool(crop) == is_cropped


def test_notes_are_in_the_manifest(pooled, tmp_path):
    found = xaimaps.explain(pooled, PICTURE, "grad_cam", target=1)
    zero = dataclasses.replace(found, maps=np.zeros_like(found.maps))
    zero.save(tmp_path)
    (manifest,) = tmp_path.glob("*manifest.json")
    assert "is zero everywhere" in manifest.read_text()
