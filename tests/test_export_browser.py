"""The example page with an exported model, in a real browser: maps equal to those of JAX."""

import base64
import functools
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps import zoo
from xaimaps._form import formed
from xaimaps._prepare import prepare

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("xaimaps_jax")
EXAMPLE = Path(__file__).parents[1] / "examples" / "browser"
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
RUN = """async (encoded) => {
  const { explain, load } = await import("./explain.js");
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const found = await explain(await load(), new Float32Array(bytes.buffer));
  return { target: found.target, scores: [...found.scores], map: [...found.map] };
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example as a user sets it up."""
    npm = shutil.which("npm") or pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("site") / "browser"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "*.onnx"))
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
    install = [npm, "install", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install onnxruntime-web: {done.stderr[-200:]}")
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line in the log for each."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(folder):
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(address, installed_browser):
    with playwright.sync_playwright() as player:
        started = player.chromium.launch(
            executable_path=installed_browser, args=["--no-sandbox", *CAMERA]
        )
        page = started.new_page(permissions=["camera"])
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#file:enabled")
        yield page
        started.close()


def pixels(page):
    """Return the canvas as `(H, W, 4)`."""
    read = "() => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    size = page.evaluate("() => (globalThis.canvas = document.querySelector('canvas')).width")
    return np.array(page.evaluate(read), np.int64).reshape(size, size, 4)


def test_the_map_is_that_of_jax(page):
    model = xaimaps.load("default", backend="jax")
    images = prepare(model, zoo.PICTURES["chelsea"]).images
    expected = xaimaps.attribute(model, images, "grad_cam")
    maps = np.asarray(formed(model, model.asarray(expected.maps), "normalised", (224, 224)))
    values = np.ascontiguousarray(np.moveaxis(images[0], -1, 0))
    found = page.evaluate(RUN, base64.b64encode(values.tobytes()).decode())
    assert found["target"] == expected.scores[0].argmax()
    np.testing.assert_allclose(found["scores"], expected.scores[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.reshape(found["map"], (224, 224)), maps[0], rtol=0, atol=1e-4)


def test_a_picture_is_explained_and_another_class_moves_the_heat(page, address):
    page.set_input_files("#file", zoo.PICTURES["chelsea"])
    page.wait_for_selector("ol button")
    assert "Egyptian cat" in page.inner_text("ol button[aria-pressed=true]")
    page.fill("#alpha", "0")
    page.dispatch_event("#alpha", "input")
    plain = pixels(page)
    page.fill("#alpha", "1")
    page.dispatch_event("#alpha", "input")
    heat = np.abs(pixels(page) - plain)[..., :3].sum(-1)
    assert heat[60:160, 60:160].mean() > 1.5 * heat[-40:, :60].mean()  # the face, a corner
    page.click("ol li:nth-child(2) button")
    page.wait_for_selector("ol li:nth-child(2) button[aria-pressed=true]")
    assert np.abs(np.abs(pixels(page) - plain)[..., :3].sum(-1) - heat).max() > 50
    assert all(url.startswith((address, "blob:", "data:")) for url in page.asked)


def test_the_camera_is_explained_until_it_is_stopped(page):
    page.click("#camera")
    page.wait_for_selector("ol button[aria-pressed=true]")
    first = pixels(page)
    page.wait_for_function(
        "before => document.querySelector('canvas').getContext('2d').getImageData(0, 0, 224, 224)"
        ".data.some((value, i) => Math.abs(value - before[i]) > 20)",
        arg=first.ravel().tolist(),
    )  # the browser's test picture moves
    page.click("#camera")


def test_what_is_no_picture_gets_a_sentence(page, tmp_path):
    (tmp_path / "note.png").write_text("not a picture")
    page.set_input_files("#file", tmp_path / "note.png")
    page.wait_for_function("() => document.querySelector('output').value.includes('must be')")
