"""How images reach an accelerator, and maps the host; the accelerator is a reference backend."""

import itertools

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS, Preprocess
from xaimaps._levels import looked_up, prepared
from xaimaps._prepare import prepare
from xaimaps.backend import Device
from xaimaps.parity._subjects import Subject
from xaimaps.testing import ReferenceBackend, pooled_network

METHODS = ["saliency", "grad_cam", "integrated_gradients", "occlusion"]


class Accelerated(ReferenceBackend):
    """Has memory of its own, and records what it copies, computes and fetches."""

    device = Device("a GPU", memory=40 * 10**9)

    def __init__(self, preset="unit"):
        super().__init__(pooled_network())
        self.info.preprocess = PRESETS[preset] if isinstance(preset, str) else preset
        self.events, self.copied = [], []

    def compile(self, fn, *arrays):
        run = super().compile(fn, *arrays)

        def recorded(*arrays):
            self.events.append("compute")
            return run(*arrays)

        return recorded

    def arguments(self, images, *arrays):
        self.copied.append(images.dtype)
        return super().arguments(images, *arrays)

    def to_numpy(self, array):
        self.events.append("fetch")
        return super().to_numpy(array)


def plain(preset="unit"):
    backend = ReferenceBackend(pooled_network())
    backend.info.preprocess = PRESETS[preset] if isinstance(preset, str) else preset
    return backend


@pytest.fixture
def files(tmp_path):
    draw = np.random.default_rng(0)
    for i in range(5):
        pixels = draw.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


def in_turns(backend):
    """Return what the backend did; the arrays of a chunk are fetched one after the other."""
    runs = ((event, len(list(run))) for event, run in itertools.groupby(backend.events))
    return [e for event, count in runs for e in [event] * (count if event == "compute" else 1)]


def test_chunks_are_computed_ahead_of_what_is_fetched(images):
    backend = Accelerated()
    xaimaps.attribute(backend, images, "cam", batch_size=2)
    assert in_turns(backend) == ["compute"] * 3 + ["fetch", "compute", "fetch"]


def test_a_host_computes_and_fetches_in_turns(images, monkeypatch):
    monkeypatch.setattr(Accelerated, "device", Device("cpu"))
    backend = Accelerated()
    xaimaps.attribute(backend, images, "cam", batch_size=2)
    assert in_turns(backend) == ["compute", "fetch"] * 4


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16])
def test_maps_are_those_of_a_host(images, batch_size):
    found = xaimaps.attribute(Accelerated(), images, METHODS, batch_size=batch_size)
    expected = xaimaps.attribute(plain(), images, METHODS, batch_size=batch_size)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.maps, other.maps)


@pytest.mark.parametrize("preset", ["unit", "torch", "caffe", "tf"])
@pytest.mark.parametrize(
    ("methods", "options"),
    [(METHODS, {}), (["lime"], {"segments": "slic", "n_samples": 10})],  # lime: each by itself
)
def test_pictures_travel_as_levels_and_become_the_same_numbers(files, preset, methods, options):
    backend = Accelerated(preset)
    found = xaimaps.explain(backend, files, methods, batch_size=2, **options)
    expected = xaimaps.explain(plain(preset), files, methods, batch_size=2, **options)
    assert {*backend.copied} == {np.dtype(np.uint8)}
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.maps, other.maps)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_pictures_of_other_values_travel_as_floats():
    backend = Accelerated()
    xaimaps.explain(backend, Image.fromarray(np.full((20, 20), 40_000, np.uint16)), "cam")
    assert {*backend.copied} == {np.dtype(np.float32)}


def test_levels_have_the_values_of_the_preprocessing():
    draw = np.random.default_rng(1)
    for name, preset in PRESETS.items():
        if preset.native:
            continue
        pixels = draw.integers(0, 256, (37, 23, 3), dtype=np.uint8)
        images, levels = prepared(preset, open_picture(pixels), (9, 9))
        np.testing.assert_array_equal(images[0], preset(pixels, (9, 9)), err_msg=name)
        found = looked_up(plain().xp, levels.values, levels.table)
        np.testing.assert_array_equal(found, images, err_msg=name)


def test_grey_levels_have_one_column():
    preset = Preprocess("grey", mean=(0.5,), std=(0.25,), scale=1 / 255)
    table = preset.table(1)
    assert table.shape == (256, 1)
    np.testing.assert_allclose(table[[0, 255], 0], [-2, 2])


def test_disturbed_images_do_not_travel_as_the_levels_of_the_others(files):
    backend = Accelerated()
    batch = prepare(backend, [*map(str, sorted(files.iterdir()))])
    other = Subject("jax", backend, batch).disturbed(0.1).batch
    assert batch.levels is not None
    assert other.levels is None
