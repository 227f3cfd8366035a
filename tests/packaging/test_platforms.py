"""The table of platforms: it has every extra and no other, and its script is what made it."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("platforms", ROOT / "docs" / "make_platforms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(script):
    text = script.PAGE.read_text(encoding="utf-8").split(script.BEGIN)[1].split(script.END)[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_the_table_has_every_extra_and_platform(script):
    head, _, *found = rows(script)
    assert head == ["extra", *script.PLATFORMS]
    assert [row[0] for row in found] == [f"`{extra}`" for extra in script.EXTRAS]
    known = {"all", "no", *script.PYTHONS}
    assert {one for row in found for cell in row[1:] for one in cell.split(", ")} <= known


def test_the_table_is_written_from_what_resolves(script):
    cells = {(extra, one): ["3.11"] for extra in script.EXTRAS for one in script.PLATFORMS}
    first = script.EXTRAS[0]
    cells[first, "Windows"], cells[first, "Linux ARM"] = [], list(script.PYTHONS)
    line = script.table(cells).splitlines()[2]
    assert line == f"| `{first}` | 3.11 | all | no | 3.11 |"


def test_a_wheel_that_no_platform_has_is_not_resolved(script, tmp_path, monkeypatch):
    class Done:
        returncode, stderr = 1, "No solution found when resolving dependencies"

    monkeypatch.setattr(script.subprocess, "run", lambda *_, **__: Done)
    assert not script.resolves("jax", "Windows", "3.11", tmp_path)
    Done.stderr = "network is unreachable"
    with pytest.raises(RuntimeError, match="unreachable"):
        script.resolves("jax", "Windows", "3.11", tmp_path)
