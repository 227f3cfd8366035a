"""Methods of one's own: as a function, as a row, registered, and brought by a distribution."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import xaimaps
from xaimaps._cli import cli
from xaimaps.errors import BackendError, MethodError
from xaimaps.methods import METHODS, Maps, Method, _registry, get_method, method, saliency
from xaimaps.methods._row import _letters
from xaimaps.metrics import METRICS


@pytest.fixture
def rows(monkeypatch):
    """A table that is as before afterwards."""
    monkeypatch.setattr(_registry, "ROWS", dict(_registry.ROWS))


@pytest.fixture
def install(monkeypatch, rows):
    """Pretend that distributions bring the given methods."""

    def pretend(**entries):
        found = [EntryPoint(name, value, _registry.GROUP) for name, value in entries.items()]
        monkeypatch.setattr(_registry, "entry_points", lambda group: found)
        _registry.refresh()

    yield pretend
    monkeypatch.undo()
    _registry.refresh()


def brightness(backend, images, target=None, factor=1.0):
    """The images themselves."""
    return Maps(factor * backend.xp.sum(images, axis=-1), backend.forward(images))


def test_a_plain_function_is_a_method(pooled, images):
    found = xaimaps.attribute(pooled, images, brightness, factor=2.0)
    np.testing.assert_allclose(found.maps, 2 * images.sum(axis=-1), rtol=1e-6)
    assert (found.method, found.layer, found.options) == ("brightness", None, {"factor": 2.0})
    assert "brightness" not in METHODS


def test_its_result_can_be_drawn(pooled):
    pixels = np.random.default_rng(2).integers(0, 256, (9, 9, 3), np.uint8)
    found = xaimaps.explain(pooled, pixels, brightness)
    assert found.overlay().size == (9, 9)
    assert found.heatmap().size == (9, 9)


def test_functions_of_one_name_are_told_apart(pooled, images):
    functions = [
        lambda backend, images, target, c=c: Maps(c * images[..., 0], backend.forward(images))
        for c in (1, 3)
    ]
    one, three = (xaimaps.attribute(pooled, images, fn).maps for fn in functions)
    np.testing.assert_allclose(three, 3 * one)


def test_a_function_of_the_table_is_its_row(pooled, images):
    assert get_method(saliency) is METHODS["saliency"]
    by_name = xaimaps.attribute(pooled, images, "saliency").maps
    np.testing.assert_array_equal(xaimaps.attribute(pooled, images, saliency).maps, by_name)


def test_a_row_need_not_be_registered(pooled, images):
    row = Method(brightness, family="perturbation", needs=frozenset({"forward"}), paper="", cost="")
    assert get_method(row) is row
    assert xaimaps.attribute(pooled, images, row).maps.shape == (7, 9, 9)
    pooled.capabilities = frozenset()
    with pytest.raises(BackendError, match="the method 'brightness' needs a backend that can"):
        xaimaps.attribute(pooled, images, row)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda images: images, r"function of \(backend, images, target, ...\), got one of \(im"),
        (None, "or a function, got None"),
        ("brightness", "got 'brightness'"),
    ],
)
def test_what_is_no_method(pooled, images, wrong, message):
    with pytest.raises(MethodError, match=message):
        xaimaps.attribute(pooled, images, wrong)


def test_a_registered_method_has_a_name(pooled, images, rows):
    method(family="custom", needs={"forward"}, paper="none", cost="1 F")(brightness)
    assert xaimaps.attribute(pooled, images, "brightness").method == "brightness"
    assert list(METHODS)[-1] == "brightness"
    assert xaimaps.register_method(METHODS["brightness"]) is METHODS["brightness"]


def test_two_methods_cannot_have_one_name(rows):
    def saliency(backend, images, target=None):
        """Another one."""

    row = Method(saliency, family="custom", needs=frozenset(), paper="", cost="")
    with pytest.raises(MethodError, match=r"'saliency' is already registered by xaimaps\.meth"):
        xaimaps.register_method(row)


ROW = Method(brightness, family="custom", needs=frozenset({"forward"}), paper="", cost="")


def test_a_distribution_brings_a_method(install, monkeypatch, pooled, images):
    monkeypatch.setattr("xaimaps.testing.ROW", ROW, raising=False)
    install(brightness="xaimaps.testing:ROW")
    assert len(METHODS) == len(list(METHODS))
    assert xaimaps.attribute(pooled, images, "brightness").maps.shape == (7, 9, 9)


def test_a_broken_one_hides_no_other(install):
    install(broken="no_such_module_of_ours:cam")
    with pytest.warns(RuntimeWarning, match="'broken' of no_such_module_of_ours:cam cannot be lo"):
        assert "saliency" in METHODS


GUIDE = Path(__file__).parents[1] / "docs" / "adding-a-method.md"


def test_the_guide_adds_a_method(rows):
    """Its file registers the method, and its test passes."""
    files = re.findall(r'^```py title="(.*?)"\n(.*?)^```', GUIDE.read_text(), re.M | re.S)
    namespace = {"__name__": "guide"}
    for name, code in files:
        exec(compile(code, name, "exec"), namespace)
    assert get_method("short_recipro_cam").summary.startswith("The score when all of a layer")
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Grad-CAM++", "grad_cam_plusplus"), ("gradcam", "grad_cam"), ("Grad-CAM", "grad_cam"),
        ("HiResCAM", "hires_cam"), ("Integrated Gradients", "integrated_gradients"),
        ("RISE", "rise"), ("Smooth Grad-CAM++", "smooth_grad_cam_plusplus"),
        ("input x gradient", "input_x_gradient"),
    ],
)  # fmt: skip
def test_the_spellings_of_papers(spelling, name):
    assert get_method(spelling).name == name


def test_no_two_names_have_the_same_letters():
    assert len({_letters(name) for name in METHODS}) == len(METHODS)
    with pytest.raises(MethodError, match="nearest: 'grad_cam'"):
        get_method("grad_cma")


@pytest.mark.parametrize("row", [*METHODS.values(), *METRICS.values()], ids=lambda row: row.name)
def test_every_option_is_documented(row):
    assert all(row.documented.get(option) for option in row.options), row.options


def test_the_options_of_a_method_on_the_command_line():
    shown = CliRunner().invoke(cli, ["methods", "Grad-CAM++"]).output
    assert shown.startswith("grad_cam_plusplus: ")
    assert "cost: 1 F + 1 b" in shown
    assert "arXiv:1710.11063" in shown
    assert "keep only positive values, as the paper does." in shown
    assert "better: lower" in CliRunner().invoke(cli, ["metrics", "deletion"]).output
    unknown = CliRunner().invoke(cli, ["methods", "grad_cma"])
    assert "nearest: 'grad_cam'" in str(unknown.exception)
