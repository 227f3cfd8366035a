"""The viewer in a notebook: what the page's messages are answered."""

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import BackendError, InputImageError
from xaimaps.testing import ReferenceBackend, pooled_network

PICTURE = np.random.default_rng(4).integers(0, 256, (20, 30, 3), np.uint8)
ASKED = {"model": 0, "picture": 0, "method": "grad_cam", "layer": None, "target": "2"}


@pytest.fixture
def model():
    backend = ReferenceBackend(pooled_network())
    backend.info.preprocess = PRESETS["unit"]
    return backend


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def ask(model, picture):
    """Ask as the page does, and return the message that comes back."""
    pytest.importorskip("anywidget")
    page, told = xaimaps.view({"mine": model}, picture), []
    page.send = told.append

    def answered(path, body=None, files=()):
        page._handle_custom_msg({"id": "7", "path": path, "body": body}, list(files))
        assert told[-1]["id"] == "7"
        return told[-1]

    return answered


def test_what_the_page_asks_is_answered(ask, model, picture):
    about = ask("about")["answer"]
    assert [one["name"] for one in about["models"]] == ["mine"]
    assert about["pictures"] == [[0, "a.png"]]
    assert ask("models/0/pictures/0")["answer"]["choices"]
    found = ask("maps", ASKED)["answer"]
    expected = xaimaps.explain(model, picture, "grad_cam", target=2)
    assert found["range"] == [expected.maps.min(), expected.maps.max()]
    assert ask("file", [ASKED])["answer"].startswith("<!doctype html>")
    added = ask("pictures?name=b.png", files=[memoryview(picture.read_bytes())])["answer"]
    assert ask(f"models/0/pictures/{added}")["answer"]["name"] == "b.png"


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("maps", {**ASKED, "method": "../x"}, "'../x'"),
        ("maps", {**ASKED, "model": 3}, "no model 3"),
        ("maps", "words", "question"),
        ("file", [], "one or two maps"),
        ("models/0/pictures/9", None, "no longer here"),
        ("models/0/pictures/-1", None, "'models/0/pictures/-1'"),
        ("pictures?name=x", None, "'pictures'"),
        ("secrets", None, "'secrets'"),
        (None, None, "'None'"),
    ],
)
def test_a_wrong_question_gets_one_sentence(ask, path, body, word):
    told = ask(path, body)
    assert word in told["error"]
    assert "answer" not in told


def test_a_file_that_is_no_picture_is_refused(ask):
    assert "b.png" in ask("pictures?name=b.png", files=[memoryview(b"words")])["error"]


def test_mistakes_in_python(model, picture, monkeypatch):
    pytest.importorskip("anywidget")
    with pytest.raises(InputImageError, match=r"none\.png"):
        xaimaps.view(model, [picture.with_name("none.png")])
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    monkeypatch.delitem(__import__("sys").modules, "xaimaps._view.widget")
    with pytest.raises(BackendError, match=r"`xaimaps\.view` needs anywidget.*\[notebook\]"):
        xaimaps.view(model, picture)
