"""One prepared batch serves many methods: how often each step runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import xaimaps
from xaimaps import _load
from xaimaps._cli import cli
from xaimaps._images import preprocess
from xaimaps._images.preprocess import PRESETS, Preprocess
from xaimaps._results import render
from xaimaps.errors import OutputError
from xaimaps.testing import REFERENCE_METHODS, ReferenceBackend, pooled_network

PIXELS = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)


class Counting(ReferenceBackend):
    """Counts the programs that are compiled and run."""

    def __init__(self):
        super().__init__(pooled_network())
        self.info.preprocess = PRESETS["unit"]
        self.compiled_programs = 0
        self.runs = []

    def compile(self, fn, *arrays):
        self.compiled_programs += 1

        def run(*arrays):
            self.runs.append(len(arrays[0]))
            return fn(self, *arrays)

        return run


@pytest.fixture
def model(monkeypatch):
    """What the command line loads."""
    backend = Counting()
    monkeypatch.setattr(_load, "load", lambda *args, **options: backend)
    return backend


@pytest.fixture
def calls(monkeypatch):
    """How often a step is called, by its name."""
    counts: dict[str, int] = {}

    def count(owner, name):
        original = getattr(owner, name)

        def counted(*args, **options):
            counts[name] = counts.get(name, 0) + 1
            return original(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    count(preprocess, "_resized")
    count(Preprocess, "view")
    count(render, "heatmap")
    return counts


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in "abcde":
        Image.fromarray(PIXELS).save(f"in/{name}.png")
    return tmp_path


def run(*words):
    done = CliRunner().invoke(cli, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_explain_prepares_runs_and_draws_once(model, calls, folder):
    assert run("explain", "in/a.png").exit_code == 0
    assert calls == {"_resized": 1, "view": 2, "heatmap": 3}, "the values and the pixels"
    assert model.runs == [1]


def test_compare_does_too(model, calls, folder):
    assert run("compare", "in/a.png", "-M", "saliency,cam", "-M", "grad_cam").exit_code == 0
    assert calls == {"_resized": 1, "view": 2, "heatmap": 3}, "the values and the pixels"
    assert model.runs == [1]


def test_costly_methods_have_programs_of_their_own(model, images):
    names = ["saliency", "occlusion", "cam"]
    found = xaimaps.attribute(model, images, names, target="top-2")
    assert [one.method for one in found] == names
    assert len(model.runs) == 2
    for one in found:
        alone = xaimaps.attribute(model, images, one.method, target="top-2")
        np.testing.assert_allclose(one.maps, alone.maps, rtol=1e-5, atol=1e-6)


def test_a_folder_runs_in_batches_that_a_bad_picture_does_not_stop(model, calls, folder):
    Path("in/c.png").write_bytes(b"this is no picture")
    done = run("explain", "in", "-M", "cam", "--batch-size", 2, "--json")
    assert done.exit_code == 1
    records = json.loads(done.stdout)["results"]
    assert [one["status"] for one in records] == ["ok", "ok", "failed", "ok", "ok"]
    assert [Path(one["picture"]).stem for one in records] == list("abcde")
    assert (model.compiled_programs, model.runs) == (1, [2, 2, 2])


def test_a_batch_gives_the_maps_of_each_picture_by_itself(model, folder):
    run("explain", "in", "-M", "grad_cam", "-t", "1", "-o", "together", "--batch-size", 3)
    run("explain", "in/d.png", "-M", "grad_cam", "-t", "1", "-o", "alone")
    with (
        np.load(next(Path("together").glob("d-*.npz"))) as one,
        np.load(next(Path("alone").glob("d-*.npz"))) as two,
    ):
        np.testing.assert_allclose(one["maps"], two["maps"], rtol=1e-5, atol=1e-7)


def test_all_stands_for_what_the_model_allows(model, folder):
    done = run("compare", "in/a.png", "-M", "all", "--json")
    assert [one["method"] for one in json.loads(done.stdout)["methods"]] == list(REFERENCE_METHODS)


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_pictures_are_of_the_format_that_their_names_say(model, folder, suffix, kind):
    run("compare", "in/a.png", "-M", "cam", "-o", f"figure.{suffix}")
    run("explain", "in/a.png", "-o", "out", "--format", suffix)
    pictures = [Path(f"figure.{suffix}"), *Path("out").glob(f"*.{suffix}")]
    assert len(pictures) == 8
    for path in pictures:
        with Image.open(path) as image:
            assert image.format == kind


def test_a_figure_can_be_a_pdf_and_no_unknown_format(model, folder):
    run("compare", "in/a.png", "-M", "cam", "-o", "figure.pdf")
    assert Path("figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(OutputError, match=r"must end in one of \.png, .* nearest: 'jpg'"):
        run("compare", "in/a.png", "-M", "cam", "-o", "figure.jpgg")
    assert not Path("figure.jpgg").exists()


def test_a_picture_is_drawn_alike_alone_and_in_any_batch(images):
    backend = Counting()
    together = xaimaps.attribute(backend, images, "occlusion", target=1)
    for i in range(len(images)):
        alone = xaimaps.attribute(backend, images[i], "occlusion", target=1)
        assert together.display[i] == alone.display[0]
        np.testing.assert_array_equal(together.display[i].signed, (together.maps[i] < 0).any())


def test_a_function_is_a_method_whose_result_can_be_drawn(pooled, images):
    def brightness(backend, images, target, *, power=1):
        return xaimaps.methods.Maps(images[..., 0] ** power, backend.forward(images))

    found = xaimaps.attribute(pooled, images, brightness, power=2)
    np.testing.assert_array_equal(found.maps, images[..., 0] ** 2)
    assert (found.method, found.options) == ("brightness", {"power": 2})
    assert found.heatmap().size == (9, 9)
    row = xaimaps.methods.Method(brightness, "cam", frozenset(), paper="", cost="")
    assert xaimaps.attribute(pooled, images, row).display[0].percentile == 100
    by_function = xaimaps.attribute(pooled, images, xaimaps.methods.grad_cam)
    assert by_function.row is xaimaps.METHODS["grad_cam"]
