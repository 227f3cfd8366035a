"""The viewer's server: what it answers, to whom, and what it refuses."""

import asyncio
import base64
import contextlib
import hashlib
import html.parser
import importlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import xaimaps
from xaimaps._cli import cli
from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    InputImageError,
    ModelLoadError,
    UnsupportedModelError,
)
from xaimaps.testing import ReferenceBackend, pooled_network

pytest.importorskip("starlette")
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from xaimaps._view import app as application
from xaimaps._view import pictures as kept
from xaimaps._view.app import make_app
from xaimaps._view.explainer import Question
from xaimaps._view.session import Session
from xaimaps._view.sharing import PAGE
from xaimaps._view.worker import Worker

TOKEN = "a token"
HOSTILE = "</script><img src=x onerror=alert(1)>"
PICTURES = np.random.default_rng(4).integers(0, 256, (2, 20, 30, 3), np.uint8)
API = [
    ("GET", "about"),
    ("POST", "pictures"),
    ("GET", "models/0/pictures/0"),
    ("POST", "maps"),
    ("POST", "file"),
]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels(url):
    kind, _, data = url.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "more" / "b.png"]
    paths[1].parent.mkdir()
    for path, picture in zip(paths, PICTURES, strict=True):
        path.write_bytes(png(picture))
    return paths


@pytest.fixture
def session(pooled, files):
    return Session({"pooled": pooled}, files)


@contextlib.contextmanager
def client_of(session):
    app = make_app(session, TOKEN, Worker())
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url="http://127.0.0.1:1234", headers=headers) as made:
        yield made


@pytest.fixture
def client(session):
    with client_of(session) as made:
        yield made


@pytest.fixture
def wide():
    """Return another model: of another input size, and of other classes."""
    backend = ReferenceBackend(pooled_network(3, size=12, classes=3))
    backend.info.labels, backend.info.preprocess = ("ray", "goldfish", "cock"), PRESETS["tf"]
    return backend


def refused(answer, status, *words):
    assert answer.status_code == status, answer.text
    (message,) = answer.json().values()
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(("verb", "path"), API)
def test_the_api_needs_its_token(client, verb, path):
    for token in ("", "Bearer", "Bearer ", "Bearer another", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        answer = client.request(verb, f"/api/{path}", headers={"Authorization": token})
        refused(answer, 401, "open the address that `xaimaps view` printed")
    assert client.request(verb, f"/api/{path}").status_code != 401


@pytest.mark.parametrize("path", ["/", "/viewer.js", *(f"/api/{path}" for _, path in API)])
def test_another_host_name_gets_nothing(client, path):
    for host in ("evil.example", "127.0.0.1.evil.example", "0.0.0.0", ""):
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, len(answer.content) < 50) == (400, True)
    assert client.get("/", headers={"Host": "localhost:80"}).status_code == 200


def test_every_answer_says_what_a_browser_must_not_do(client):
    answers = [client.get(path) for path in ("/", "/viewer.css", "/none", "/api/about")]
    answers += [client.get("/api/about", headers={"Authorization": ""}), client.get("/api/maps")]
    assert [one.status_code for one in answers] == [200, 200, 404, 200, 401, 405]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_names_no_other_host_and_sets_no_markup():
    for file in PAGE.iterdir():
        text = file.read_text()
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text), file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)


def test_only_the_files_of_the_page_are_read(client):
    for path in ("/../session.py", "/%2e%2e/session.py", "/..%2fapp.py", "//etc/passwd"):
        assert client.get(path).status_code == 404


def test_the_model_is_described(client, pooled):
    about = client.get("/api/about").json()
    assert about["pictures"] == [[0, "a.png"], [1, "more/b.png"]]
    (told,) = about["models"]
    assert (told["name"], told["backend"]) == ("pooled", "reference")
    assert told["usual"][:2] == ["grad_cam", "saliency"]
    assert [one["name"] for one in told["layers"]] == [
        layer.name for layer in pooled.layers() if layer.is_spatial
    ]
    assert told["layer"] == pooled.default_layer().name
    assert set(xaimaps.METHODS) >= {one["name"] for one in told["methods"]}


def test_a_picture_is_what_the_model_sees_with_its_classes(client, pooled, files):
    found = xaimaps.explain(pooled, files[1])
    told = client.get("/api/models/0/pictures/1").json()
    assert np.array_equal(pixels(told["view"]), found.views[0])
    assert (told["height"], told["width"]) == found.views[0].shape[:2]
    best = [(one["label"], one["score"], one["probability"]) for one in told["choices"]]
    assert best == [(one.label, pytest.approx(one.score), one.probability) for one in found.top(5)]
    refused(client.get("/api/models/0/pictures/2"), 400, "no longer here")


@pytest.mark.parametrize("method", ["grad_cam", "saliency", "occlusion", "eigen_cam"])
def test_maps_are_those_of_explain(client, pooled, files, method):
    layer = "conv1" if xaimaps.METHODS[method].takes_layer else None
    asked = {"picture": 1, "method": method, "layer": layer, "target": "goldfish"}
    told = client.post("/api/maps", json=asked).json()
    found = xaimaps.explain(pooled, files[1], method, layer=layer, target="goldfish")
    values = np.frombuffer(base64.b64decode(told["values"]), "<f4")
    assert np.array_equal(values.reshape(told["rows"], told["columns"]), found.maps[0])
    assert np.array_equal(pixels(told["heatmap"]), found.heatmap())
    assert (told["layer"], told["notes"]) == (layer, found.notes())
    assert told["target"] == ("goldfish" if found.row.uses_target else None)
    assert told["range"] == [found.maps.min(), found.maps.max()]


def test_each_of_two_models_is_asked_by_its_number(pooled, wide, files):
    with client_of(Session({"a": pooled, "b": wide}, files)) as client:
        assert [one["name"] for one in client.get("/api/about").json()["models"]] == ["a", "b"]
        for number, model in enumerate((pooled, wide)):
            found = xaimaps.explain(model, files[1], target="goldfish")
            told = client.get(f"/api/models/{number}/pictures/1").json()
            assert {one["label"] for one in told["choices"]} == set(model.info.labels)
            assert tuple(told["seen"]) == found.views[0].shape[:2]
            asked = {"model": number, "picture": 1, "method": "grad_cam", "target": "goldfish"}
            told = client.post("/api/maps", json=asked).json()
            values = np.frombuffer(base64.b64decode(told["values"]), "<f4")
            assert np.array_equal(values.reshape(told["rows"], told["columns"]), found.maps[0])
        refused(client.post("/api/maps", json={**asked, "target": "tench"}), 400, "no target")
        refused(client.get("/api/models/2/pictures/0"), 400, "no model 2", "of the list")


def test_every_model_is_checked_before_the_page_opens(pooled, wide, files):
    wide.info.preprocess = None
    with pytest.raises(ArrayInputError, match="--preprocess"):
        Session({"a": pooled, "b": wide}, files)


def test_without_a_target_the_first_class_is_explained(client, pooled, files):
    told = client.post("/api/maps", json={"picture": 0, "method": "grad_cam"}).json()
    assert told["target"] == xaimaps.explain(pooled, files[0]).target_name()


def test_large_pictures_are_shown_smaller(pooled, tmp_path):
    Image.new("RGB", (2000, 1000)).save(tmp_path / "x.png")
    pooled.info.preprocess = xaimaps._images.preprocess.get_preprocess("unit")
    session = Session({"pooled": pooled}, [tmp_path / "x.png"])
    told, found = session.picture(0, 0), session.explain(Question(0, "saliency"))
    assert max(told["height"], told["width"]) == 768
    assert pixels(found["heatmap"]).shape == pixels(told["view"]).shape


def test_an_uploaded_picture_is_that_of_a_file(client):
    number = client.post("/api/pictures?name=x.png", content=png(PICTURES[1])).json()
    asked = {"picture": number, "method": "grad_cam"}
    told, given = (
        client.post("/api/maps", json={**asked, "picture": i}).json() for i in (number, 1)
    )
    assert {**told, "seconds": 0} == {**given, "seconds": 0}
    assert client.get(f"/api/models/0/pictures/{number}").json()["name"] == "x.png"


def test_uploads_are_bounded(client, session, monkeypatch):
    for data in (b"", b"no picture", png(PICTURES[0])[:200], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        refused(client.post("/api/pictures", content=data), 400, "must be a picture")
    session._pictures.max_pixels = 100
    refused(client.post("/api/pictures", content=png(PICTURES[0])), 400, "'picture'", "megapixels")
    session._pictures.max_pixels = 600
    monkeypatch.setattr(application, "MOST_BYTES", 1000)
    refused(client.post("/api/pictures", content=png(PICTURES[0])), 413, "at most 1000 bytes")


def test_the_oldest_upload_is_forgotten(session, monkeypatch):
    monkeypatch.setattr(kept, "MOST_UPLOADS", 2)
    first, *others = [session.add(name, png(PICTURES[0])) for name in "abc"]
    with pytest.raises(InputImageError, match="no longer here"):
        session.picture(0, first)
    assert [session.picture(0, number)["name"] for number in (0, *others)] == ["a.png", "b", "c"]
    assert [name for _, name in session.about()["pictures"]] == ["a.png", "more/b.png", "b", "c"]


GOOD = {"picture": 0, "method": "grad_cam"}


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({**GOOD, "method": "grad_camm"}, 400, ["'grad_camm'", "of the list"]),
        ({**GOOD, "layer": "conv9"}, 400, ["'conv9'", "of the list"]),
        ({**GOOD, "method": "saliency", "layer": "conv1"}, 400, ["must be None"]),
        ({**GOOD, "target": "region:/etc/passwd@0"}, 400, ["no target", "of the list"]),
        ({**GOOD, "target": "similarity:/etc/passwd"}, 400, ["no target"]),
        ({**GOOD, "target": "0"}, 400, ["no target"]),
        ({**GOOD, "picture": 99}, 400, ["no longer here"]),
        ({**GOOD, "picture": -1}, 400, ["no longer here"]),
        ({**GOOD, "picture": "/etc/passwd"}, 400, ["numbers"]),
        ({**GOOD, "picture": True}, 400, ["numbers"]),
        ({**GOOD, "model": 1}, 400, ["no model 1", "of the list"]),
        ({**GOOD, "model": -1}, 400, ["no model -1"]),
        ({**GOOD, "model": "0"}, 400, ["numbers"]),
        ({**GOOD, "model": False}, 400, ["numbers"]),
        ({**GOOD, "target": ["a"]}, 400, ["texts"]),
        ({**GOOD, "layer": {}}, 400, ["texts"]),
        ({**GOOD, "extra": 1}, 400, ["must have"]),
        ({}, 400, ["must have"]),
        ([GOOD], 400, ["must have"]),
        (0, 400, ["must have"]),
    ],
)  # fmt: skip
def test_wrong_questions_get_one_sentence(client, asked, status, words):
    refused(client.post("/api/maps", json=asked), status, *words)


def test_questions_that_are_no_json(client):
    for data in (b"", b"{", b"\xff", b"[" * 60_000):
        refused(client.post("/api/maps", content=data), 400, "JSON")
    refused(client.post("/api/maps", content=b" " * 70_000), 413, "at most 65536 bytes")


class Elements(html.parser.HTMLParser):
    """The elements of a page, and the text in each script and style."""

    def __init__(self, text):
        super().__init__()
        self.names, self.texts, self.policy = ["page"], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert not any(name.startswith("on") for name in given)
        self.names.append(tag if tag != "script" else given.get("id", "module"))
        self.policy += given.get("content") or "" if "http-equiv" in given else ""

    def handle_endtag(self, tag):
        self.names.append("page")

    def handle_data(self, data):
        self.texts[self.names[-1]] = self.texts.get(self.names[-1], "") + data


def test_a_saved_page_needs_no_server_and_holds_only_text(pooled, wide):
    pooled.info.labels = (HOSTILE, *pooled.info.labels[1:])
    with client_of(Session({HOSTILE: pooled, f"{HOSTILE} 2": wide})) as client:
        sent = {"params": {"name": HOSTILE}, "content": png(PICTURES[0])}
        number = client.post("/api/pictures", **sent).json()
        asked = [{"model": i, "picture": number, "method": "grad_cam"} for i in (0, 1)]
        text = client.post("/api/file", json=asked).text
        maps = [client.post("/api/maps", json=question).json() for question in asked]
    page = Elements(text)
    assert page.names.count("module") == page.names.count("shown") == 1
    assert "img" not in page.names
    assert not re.search(r'(src|href)="(?!data:,")', text)
    shown = json.loads(page.texts["shown"])
    assert shown["pictures"]["0"]["name"] == shown["about"]["models"][0]["name"] == HOSTILE
    assert shown["pictures"]["0"]["seen"] == shown["pictures"]["1"]["seen"] == [20, 20]
    assert shown["maps"] == [{**one, "model": i} for i, one in enumerate(maps)]
    for name in ("style", "module"):
        digest = base64.b64encode(hashlib.sha256(page.texts[name].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.policy
    assert "unsafe" not in page.policy


@pytest.mark.parametrize("asked", [[], [GOOD] * 3, GOOD, [GOOD, {**GOOD, "picture": 1}], [None]])
def test_a_saved_page_has_one_or_two_maps_of_one_picture(client, asked):
    refused(client.post("/api/file", json=asked), 400, "must have")


def test_numbers_that_json_lacks(client, pooled, monkeypatch):
    forward = ReferenceBackend.forward_with_activations

    def nan(self, images, layers, rules=None):
        outputs, kept = forward(self, images, layers, rules)
        return outputs * np.float32("nan"), kept

    monkeypatch.setattr(ReferenceBackend, "forward_with_activations", nan)
    told = client.get("/api/models/0/pictures/0").json()
    assert [one["score"] for one in told["choices"]] == [None] * 5


def test_a_model_without_a_method(monkeypatch, pooled):
    monkeypatch.setattr(ReferenceBackend, "capabilities", frozenset())
    with pytest.raises(UnsupportedModelError, match="no method can explain"):
        Session({"pooled": pooled})


def test_a_model_of_unknown_preprocessing_is_refused_before_the_page_opens(pooled):
    pooled.info.preprocess = None
    with pytest.raises(ArrayInputError, match="--preprocess"):
        Session({"pooled": pooled})


def test_mistakes_on_the_command_line(monkeypatch, pooled):
    def run(*arguments):
        return CliRunner().invoke(cli, ["view", *arguments], catch_exceptions=False)

    command = importlib.import_module("xaimaps._cli.view")
    load = command.load_model

    def loaded(name, *given):
        return pooled if name == "default" else load(name, *given)

    monkeypatch.setattr(command, "load_model", loaded)
    assert "MODEL must be a model, got the picture 'cat.jpg'" in run("cat.jpg").output
    assert "Invalid value for '--port'" in run("default", "--port", "99999").output
    with pytest.raises(InputImageError, match=r"no such file: 'no\.png'"):
        run("default", "no.png")
    with pytest.raises(ModelLoadError, match=r"no model file 'no\.onnx'"):
        run("default", "--with", "no.onnx")
    assert "--with must name each file once" in run("default", "--with", "default").output


def view_models(monkeypatch, models, files, **given):
    """Load models as the command does, and return them and what each was loaded with last."""
    command, asked = importlib.import_module("xaimaps._cli.view"), {}

    def loaded(name, backend, loading):
        asked[name] = {key: value for key, value in loading.items() if value is not None}
        return models[name]

    monkeypatch.setattr(command, "load_model", loaded)
    options = {**dict.fromkeys(("labels", "preprocess", "fit", "window")), **given}
    return command._models(files, None, options), asked


def test_models_of_the_same_name_get_those_of_their_files(monkeypatch, pooled, wide):
    files = ["a/model.onnx", "b/model.onnx"]
    models = dict(zip(files, (pooled, wide), strict=True))
    assert view_models(monkeypatch, models, files)[0] == models
    wide.info.name = "wide"
    assert list(view_models(monkeypatch, models, files)[0]) == ["reference network", "wide"]


def test_options_of_loading_do_not_replace_what_one_of_several_models_records(
    monkeypatch, pooled, wide
):
    models = {"a": pooled, "b": wide}
    pooled.info.preprocess = wide.info.labels = None
    given = {"labels": "x", "preprocess": "unit", "fit": "pad", "allow_unsafe": True}
    _, asked = view_models(monkeypatch, models, ["a", "b"], **given)
    assert asked["a"] == {"preprocess": "unit", "fit": "pad", "allow_unsafe": True}
    assert asked["b"] == {"labels": "x", "fit": "pad"}
    assert view_models(monkeypatch, models, ["a"], **given)[1] == {"a": given}


def test_a_cancelled_computation_is_left_out():
    worker, gate, done = Worker(), threading.Event(), []
    first = worker.submit(gate.wait, 10)
    second, third = worker.submit(done.append, 2), worker.submit(done.append, 3)
    failing = worker.submit(int, "x")
    assert second.cancel()
    gate.set()
    assert (first.result(10), third.result(10), done) == (True, None, [3])
    with pytest.raises(ValueError, match="'x'"):
        failing.result(10)


def test_a_request_that_went_away_is_not_computed(session):
    class Gone:
        async def is_disconnected(self):
            return True

    worker, gate, done = Worker(), threading.Event(), []
    worker.submit(gate.wait, 10)
    with pytest.raises(HTTPException, match="was ended"):
        asyncio.run(application._Api(session, worker)._computed(Gone(), done.append, 1))
    gate.set()
    assert worker.submit(len, "abc").result(10) == 3
    assert done == []


def test_a_port_that_is_taken():
    from xaimaps._view.server import _listening

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BackendError, match=f"must be a free port, got {port}"):
            _listening(port)


def test_without_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("uvicorn", "xaimaps._view."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(BackendError, match=r"uvicorn, .*'xaimaps\[view\]'"):
        CliRunner().invoke(cli, ["view"], catch_exceptions=False)


SLOW = """
import sys, time
from xaimaps import _load
from xaimaps._cli import main
from xaimaps._images.preprocess import PRESETS
from xaimaps._view.explainer import Explainer
from xaimaps.testing import ReferenceBackend, pooled_network

model = ReferenceBackend(pooled_network())
model.info.preprocess = PRESETS["unit"]
_load.load = lambda *source, **options: model


def explain(self, question):
    print("computing", flush=True)
    time.sleep(60)


Explainer._explain = explain
sys.argv = ["xaimaps", "view", "any", "--no-browser"]
main()
"""


def test_ctrl_c_ends_it_while_it_computes():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SLOW], **pipes) as process:
        address, _, token = process.stdout.readline().strip().partition("#")
        assert process.stdout.readline() == "Ctrl-C ends it.\n"
        port = int(address.rstrip("/").rpartition(":")[2])
        body = json.dumps({"picture": 0, "method": "slow"})
        asked = f"POST /api/maps HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(f"{asked}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            assert process.stdout.readline() == "computing\n"
            begin = time.perf_counter()
            process.send_signal(signal.SIGINT)
            assert connection.recv(100).startswith(b"HTTP/1.1 503")
        out, error = process.communicate(timeout=60)
    assert (out, error, process.returncode) == ("", "", 0)
    assert time.perf_counter() - begin < 10
