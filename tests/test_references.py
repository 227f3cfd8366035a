"""Models by the function that makes them, as `module:function`."""

import json
import sys
import textwrap

import numpy as np
import pytest

import xaimaps
from xaimaps._cli import main
from xaimaps._cli.parsing import import_class
from xaimaps.errors import BackendError, ModelLoadError

MODULE = """
import onnx
import xaimaps

def network():
    return onnx.load(xaimaps.zoo.MODELS["default"])

class Inner:
    @staticmethod
    def scores(params, images):
        return (images * params).mean((1, 2))

Renamed = Inner

def pair():
    return Inner.scores, 2.0

def needs(size):
    return size

def fails():
    raise RuntimeError("no such disk\\nand more")

def text():
    return "a text"

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    yield tmp_path / "my_models.py"
    sys.modules.pop("my_models", None)


def test_the_functions_model_is_loaded(module):
    before = list(sys.path)
    model = xaimaps.load("my_models:network", allow_unsafe=True, backend="jax")
    assert model.input_shape == (224, 224, 3)
    assert model.info.loading["model"] == "my_models:network"
    assert model.info.source == str(module)
    assert sys.path == before


def test_a_pair_has_the_parameters(module):
    model = xaimaps.load("my_models:pair", allow_unsafe=True, input_shape=(4, 4, 3))
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(model.forward(images), 2 * images.mean((1, 2)), atol=1e-6)


def test_nothing_is_imported_unless_it_is_allowed(module):
    with pytest.raises(ModelLoadError, match=r"no model file 'my_models:network'.*allow_unsafe"):
        xaimaps.load("my_models:network")
    assert "my_models" not in sys.modules


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("my_models:absent", "MODULE:FUNCTION, got 'my_models:absent'.*no attribute 'absent'"),
        ("nowhere:network", "No module named 'nowhere'"),
        ("my_models:number", "no function"),
        ("my_models:needs", "without arguments, but raises TypeError"),
        ("my_models:fails", "raises RuntimeError: no such disk$"),
    ],
)
def test_references_that_give_no_model(module, reference, message):
    with pytest.raises(ModelLoadError, match=message):
        xaimaps.load(reference, allow_unsafe=True)


def test_an_object_that_is_no_model(module):
    with pytest.raises(BackendError, match="'a text'"):
        xaimaps.load("my_models:text", allow_unsafe=True)


def test_a_custom_class_has_the_name_that_the_user_wrote(module):
    name, found = import_class("my_models:Renamed")
    assert (name, found.__name__) == ("Renamed", "Inner")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command, and return its exit status and its text."""

    def ended(*words):
        monkeypatch.setattr(sys, "argv", ["xaimaps", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, "".join(capsys.readouterr())

    return ended


def test_the_command_line_and_its_manifest(module, run):
    picture = xaimaps.zoo.PICTURES["chelsea"]
    given = ("-m", "my_models:pair", "--load", "input_shape=(8, 8, 3)", "-p", "unit")
    status, text = run("explain", picture, *given, "-M", "saliency")
    assert (status, "--allow-unsafe" in text) == (2, True)
    assert run("explain", picture, *given, "-M", "saliency", "--allow-unsafe")[0] == 0
    (file,) = module.parent.glob("xaimaps-output/*-manifest.json")
    told = json.loads(file.read_text())
    assert (told["model"]["source"], told["not_recorded"]) == ("my_models:pair", [])
    assert "--allow-unsafe" in run("reproduce", file)[1]
    assert run("reproduce", file, "--allow-unsafe")[0] == 0
    module.write_text(module.read_text() + "\n# changed\n")
    assert "got a different one" in run("reproduce", file, "--allow-unsafe")[1]
