"""What importing costs, and what the package holds."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import xaimaps
from xaimaps.errors import ModelLoadError

HEAVY = {"numpy", "jax", "jaxlib", "onnx", "matplotlib", "PIL", "rich", "click", "scipy"}


def modules_after(code):
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def run_help(*words):
    return (
        "import xaimaps._cli\n"
        f"try: xaimaps._cli.cli([*{words!r}, '--help'])\n"
        "except SystemExit as end: assert end.code == 0"
    )


@pytest.mark.parametrize(
    ("code", "free"),
    [
        ("import xaimaps", set()),
        ("import xaimaps; dir(xaimaps); xaimaps.errors; xaimaps.zoo.PICTURES", set()),
        ("import xaimaps; xaimaps.Backend, xaimaps.Layer", {"numpy"}),
        ("import xaimaps; xaimaps.METHODS, xaimaps.PRESETS", {"numpy"}),
        ("import xaimaps; xaimaps.attribute, xaimaps.explain, xaimaps.load", {"numpy"}),
        ("import xaimaps.testing", {"numpy"}),
        (run_help(), {"click"}),
        (run_help("explain"), {"click"}),
        (run_help("layers"), {"click"}),
    ],
)
def test_imports_load_no_more_than_they_need(code, free):
    assert modules_after(code) & HEAVY <= free


def test_the_probe_sees_what_is_loaded():
    assert {"numpy", "jax", "onnx"} <= modules_after("import xaimaps; xaimaps.load()")


@pytest.mark.parametrize("name", xaimaps.__all__)
def test_every_public_name_is_there(name):
    found = getattr(xaimaps, name)
    assert found is not None
    assert name in dir(xaimaps)
    assert found is getattr(xaimaps, name)


def test_star_import_and_unknown_names():
    namespace = {}
    exec("from xaimaps import *", namespace)
    assert set(xaimaps.__all__) <= set(namespace)
    with pytest.raises(AttributeError, match="no attribute 'atribute'"):
        xaimaps.atribute  # noqa: B018


def test_what_type_checkers_see_is_what_there_is():
    source = Path(xaimaps.__file__).read_text()
    checked, _, _ = source.partition("__all__ =")
    assert all(name in checked for name in xaimaps.__all__)
    assert len(source.splitlines()) <= 90


def test_types_and_data_are_shipped():
    root = Path(xaimaps.__file__).parent
    assert (root / "py.typed").exists()
    for path in (*xaimaps.zoo.MODELS.values(), *xaimaps.zoo.PICTURES.values()):
        assert path.stat().st_size > 1000
    assert len(xaimaps.zoo.LABELS["imagenet-1k"].read_text().splitlines()) == 1000


@pytest.mark.parametrize("name", xaimaps.zoo.NETWORKS)
def test_without_the_network_its_names_say_how_to_install_it(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(xaimaps.zoo, "MODELS", xaimaps.zoo._models())
    with pytest.raises(ModelLoadError, match="pip install xaimaps-network") as raised:
        xaimaps.load(name)
    assert name in str(raised.value)
