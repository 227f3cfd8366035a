"""The viewer's page in a real browser: what is drawn is compared pixel by pixel."""

import base64
import contextlib
import io
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._images.preprocess import PRESETS
from xaimaps._results.render import blend
from xaimaps.testing import ReferenceBackend, pooled_network

playwright = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")
from xaimaps._view.app import make_app  # noqa: E402
from xaimaps._view.session import Session  # noqa: E402
from xaimaps._view.worker import Worker  # noqa: E402

HOSTILE = '"><img src=x onerror=document.title=1>'
LABELS = ("tench", HOSTILE, "shark", "ray", "cock")
PICTURES = np.random.default_rng(5).integers(0, 256, (2, 60, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    backend = ReferenceBackend(pooled_network())
    backend.info.labels = LABELS
    backend.info.preprocess = PRESETS["unit"]
    return backend


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "a.png", folder / "<b onclick=x>.png"]
    for path, picture in zip(paths, PICTURES, strict=True):
        Image.fromarray(picture).save(path)
    return paths


@pytest.fixture(scope="module")
def other():
    """Another model: of another input size, and of other classes."""
    backend = ReferenceBackend(pooled_network(3, size=12, classes=3))
    backend.info.labels = (HOSTILE, "Ray", "goldfish")
    backend.info.preprocess = PRESETS["tf"]
    return backend


@contextlib.contextmanager
def served(session):
    app = make_app(session, "secret", Worker())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/#secret"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(model, files):
    with served(Session({"reference network": model}, files[:1])) as address:
        yield address


@pytest.fixture(scope="module")
def address_of_two(model, other, files):
    with served(Session({"reference network": model, HOSTILE: other}, files[:1])) as address:
        yield address


@pytest.fixture(scope="module")
def browser(installed_browser):
    with playwright.sync_playwright() as player:
        # The sandbox of the browser needs a user that is not root.
        started = player.chromium.launch(executable_path=installed_browser, args=["--no-sandbox"])
        yield started
        started.close()


@contextlib.contextmanager
def page_of(browser, address):
    """The page, with everything that it asks for and that goes wrong in it."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    page.goto(address)
    done(page)
    yield page
    assert page.wrong == []
    assert all(url.startswith((address.partition("#")[0], "data:", "blob:")) for url in page.asked)
    context.close()


@pytest.fixture
def opened(browser, address):
    with page_of(browser, address) as page:
        yield page


@pytest.fixture
def two(browser, address_of_two):
    """The page of two models."""
    with page_of(browser, address_of_two) as page:
        yield page


def done(page):
    playwright.expect(page.locator("#status")).to_have_text("Done.")


def canvas(page, index=0):
    url = page.locator("canvas").nth(index).evaluate("canvas => canvas.toDataURL()")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.asarray(image.convert("RGB")).astype(int)


def same(page, expected, index=0):
    """Wait until the canvas shows a picture; a browser rounds its blending otherwise than numpy."""
    for _ in range(100):
        found = canvas(page, index)
        if found.shape == np.shape(expected) and np.abs(found - np.asarray(expected)).max() <= 2:
            return True
        time.sleep(0.05)
    return False


def slide(page, percent):
    page.locator("#alpha").evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')) }", percent
    )


def test_the_overlay_is_that_of_explain(opened, model, files):
    found = xaimaps.explain(model, files[0])
    assert same(opened, found.overlay())
    slide(opened, 0)
    assert same(opened, found.views[0])
    slide(opened, 100)
    assert same(opened, found.heatmap())
    slide(opened, 30)
    assert same(opened, blend(found.views[0], np.asarray(found.heatmap()), 0.3))


def test_a_click_on_class_method_and_layer_moves_the_heat(opened, model, files):
    before = canvas(opened)
    for label in ("ray", "cock"):
        opened.get_by_label(label).click()
        done(opened)
        assert same(opened, xaimaps.explain(model, files[0], target=label).overlay())
    opened.get_by_label("conv1").click()
    assert same(opened, xaimaps.explain(model, files[0], target="cock", layer="conv1").overlay())
    opened.get_by_label("Method").select_option("saliency")
    assert same(opened, xaimaps.explain(model, files[0], "saliency", target="cock").overlay())
    assert not np.array_equal(before, canvas(opened))
    assert opened.locator(".layers").is_hidden()


def test_names_and_labels_are_text(opened, model, files):
    opened.set_input_files("#file", files[1])
    playwright.expect(opened.locator("#pictures option")).to_have_count(2)
    done(opened)
    assert same(opened, xaimaps.explain(model, files[1]).overlay())
    opened.get_by_label("Search the targets").fill("onerror")
    playwright.expect(opened.locator(".choices label")).to_have_count(1)
    opened.get_by_label(HOSTILE).click()
    done(opened)
    assert HOSTILE in opened.locator(".about").inner_text()
    assert opened.locator("#pictures option").nth(1).inner_text() == files[1].name
    assert opened.locator("img").count() == 0
    assert opened.title() == "reference network - xaimaps"


def test_a_file_that_is_no_picture_gets_one_sentence(opened, tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    before = canvas(opened)
    opened.set_input_files("#file", tmp_path / "x.png")
    playwright.expect(opened.locator("#status.wrong")).to_contain_text("'x.png' must be a picture")
    assert np.array_equal(canvas(opened), before)
    assert len(opened.wrong) == 1, "the browser logs the status 400"
    opened.wrong.clear()


def test_a_dropped_picture_is_shown(opened, model, files):
    data = base64.b64encode(files[1].read_bytes()).decode()
    transfer = opened.evaluate_handle(
        """data => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "dropped.png"));
          return transfer;
        }""",
        data,
    )
    opened.dispatch_event("main", "drop", {"dataTransfer": transfer})
    assert same(opened, xaimaps.explain(model, files[1]).overlay())


def test_raw_values_by_pointer_and_by_keyboard(opened, model, files):
    found = xaimaps.explain(model, files[0]).maps[0]
    rows, columns = found.shape
    box = opened.locator("canvas").bounding_box()
    output = opened.locator("output")
    for row, column in ((0, 0), (2, 3), (rows - 1, columns - 1)):
        x, y = (column + 0.5) / columns * box["width"], (row + 0.5) / rows * box["height"]
        opened.mouse.move(box["x"] + x, box["y"] + y)
        place = f"in row {row + 1} of {rows}, column {column + 1} of {columns}"
        playwright.expect(output).to_contain_text(place)
        assert float(output.inner_text().split()[0]) == pytest.approx(found[row, column], rel=1e-3)
    opened.mouse.move(0, 0)
    playwright.expect(output).to_have_text("")
    opened.locator("canvas").focus()
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowUp")
    playwright.expect(output).to_contain_text(
        f"in row {rows // 2} of {rows}, column {columns // 2}"
    )


def saved(shown, browser, path):
    """Save a page, and return the file's own page, which is offline."""
    with shown.expect_download() as download:
        shown.get_by_role("button", name="Download").click()
    download.value.save_as(path)
    page = browser.new_page(offline=True)
    page.on("pageerror", lambda error: shown.wrong.append(str(error)))
    page.goto(path.as_uri())
    return page


def test_two_methods_are_saved_in_one_file(opened, browser, model, files, tmp_path):
    opened.get_by_label("Side by side").check()
    done(opened)
    page = saved(opened, browser, tmp_path / "saved.html")
    for index, method in enumerate(("grad_cam", "saliency")):
        expected = xaimaps.explain(model, files[0], method).overlay()
        assert same(opened, expected, index)
        assert same(page, expected, index)
    assert page.get_by_label("Blending").is_visible()
    assert page.locator("#controls").is_hidden()
    page.close()


def test_two_models_show_the_same_class_side_by_side(two, model, other, files):
    def both_show(first, second):
        done(two)
        assert same(two, xaimaps.explain(model, files[0], target=first).overlay())
        assert same(two, xaimaps.explain(other, files[0], target=second).overlay(), 1)

    first, second = (two.locator(".choices").nth(index) for index in (0, 1))
    unlike = two.locator("#unlike")
    best = xaimaps.explain(model, files[0]).target_name()
    assert xaimaps.explain(other, files[0]).target_name() != best
    both_show(best, best)
    first.get_by_label("ray").click()
    both_show("ray", "Ray")
    assert unlike.is_hidden()
    first.get_by_label("tench").click()
    both_show("tench", "Ray")
    playwright.expect(unlike).to_have_text("The two maps explain different targets: tench and Ray.")
    second.get_by_label(HOSTILE).click()
    both_show(HOSTILE, HOSTILE)
    assert unlike.is_hidden()
    second.get_by_label("goldfish").click()
    both_show(HOSTILE, "goldfish")
    playwright.expect(unlike).to_contain_text(f"{HOSTILE} and goldfish")
    assert two.locator("img").count() == 0


def test_models_and_their_layers_are_chosen_by_panel(two, model, other, files):
    two.locator(".choices").first.get_by_label("ray").click()
    two.locator(".layers").nth(1).get_by_label("conv1").click()
    done(two)
    assert same(two, xaimaps.explain(model, files[0], target="ray").overlay())
    assert same(two, xaimaps.explain(other, files[0], target="Ray", layer="conv1").overlay(), 1)
    two.get_by_label("Side by side").uncheck()
    assert two.locator("fieldset:visible").count() == 3
    two.get_by_label("Model").select_option(HOSTILE)
    done(two)
    assert same(two, xaimaps.explain(other, files[0], target="Ray", layer="conv1").overlay())
    assert two.get_by_label("Side by side").is_visible()
    two.get_by_label("Method").select_option("saliency")
    done(two)
    assert same(two, xaimaps.explain(other, files[0], "saliency", target="Ray").overlay())


def test_a_new_picture_is_explained_by_both_models(two, browser, model, other, files, tmp_path):
    two.set_input_files("#file", files[1])
    assert same(two, xaimaps.explain(model, files[1]).overlay())
    two.locator(".choices").first.get_by_label("ray").click()
    done(two)
    expected = [xaimaps.explain(one, files[1], target="ray").overlay() for one in (model, other)]
    page = saved(two, browser, tmp_path / "saved.html")
    for index, overlay in enumerate(expected):
        assert same(two, overlay, index)
        assert same(page, overlay, index)
    assert HOSTILE in page.title()
    page.close()


def test_maps_of_different_parts_of_a_picture_are_not_subtracted(
    browser, two, model, other, files, monkeypatch
):
    two.get_by_label("Difference", exact=True).check()
    assert two.get_by_text("cannot be subtracted").is_hidden()
    assert canvas(two, 2).shape == canvas(two).shape
    cut = replace(PRESETS["unit"], crop_fraction=0.5)
    monkeypatch.setattr(other.info, "preprocess", cut)
    with (
        served(Session({"a": model, "b": other}, files[:1])) as address,
        page_of(browser, address) as page,
    ):
        page.get_by_label("Difference", exact=True).check()
        assert page.get_by_text("cannot be subtracted").is_visible()
        assert page.locator("canvas").nth(2).evaluate("({ width }) => width") == 0
        page.locator("canvas").first.hover()
        assert page.locator("output").first.inner_text()
        assert not page.locator("output").nth(1).inner_text()


def parts(found, size):
    """The values at the size of the picture, by their largest magnitude."""
    values = found.maps[0] / np.abs(found.maps[0]).max()
    rows, columns = (
        ((np.arange(n) + 0.5) / n * k).astype(int) for n, k in zip(size, values.shape, strict=True)
    )
    return values[rows][:, columns]


def test_the_difference_of_two_methods(opened, model, files):
    assert opened.get_by_label("Difference", exact=True).is_hidden()
    opened.get_by_label("Side by side").check()
    done(opened)
    opened.get_by_label("Difference", exact=True).check()
    slide(opened, 100)
    size = PICTURES.shape[1:3]
    first, second = (
        parts(xaimaps.explain(model, files[0], m), size) for m in ("grad_cam", "saliency")
    )
    apart = first - second
    colours = np.where(apart[..., None] > 0, (178, 24, 43), (33, 102, 172))
    expected = 255 + np.minimum(np.abs(apart), 1)[..., None] * (colours - 255)
    assert same(opened, expected, 2)
    opened.locator("canvas").nth(2).scroll_into_view_if_needed()
    box = opened.locator("canvas").nth(2).bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.7)
    shown = opened.locator("output").nth(2)
    row, column = int(0.7 * size[0]), int(0.3 * size[1])
    playwright.expect(shown).to_contain_text(f"minus {second[row, column]:.3f}")
    assert float(shown.inner_text().partition(":")[0]) == pytest.approx(
        apart[row, column], abs=2e-3
    )
    opened.get_by_label("Method").nth(1).select_option("grad_cam")
    done(opened)
    assert same(opened, np.full((*size, 3), 255), 2)
    opened.get_by_label("Side by side").uncheck()
    assert opened.locator("canvas").count() == 1


def test_everything_is_reached_by_keyboard_and_fits_a_phone(opened):
    opened.set_viewport_size({"width": 360, "height": 700})
    assert opened.evaluate("document.scrollingElement.scrollWidth") <= 360
    opened.locator("body").click(position={"x": 1, "y": 1})
    reached = set()
    for _ in range(12):
        opened.keyboard.press("Tab")
        reached.add(
            opened.evaluate(
                "(({ id, type, localName }) => id || type || localName)(document.activeElement)"
            )
        )
    assert reached >= {
        "file",
        "pictures",
        "search",
        "alpha",
        "both",
        "save",
        "select-one",
        "canvas",
    }


def test_without_the_token_the_page_says_what_to_do(browser, address):
    page = browser.new_page()
    page.goto(address.replace("secret", "another"))
    playwright.expect(page.locator("#status.wrong")).to_contain_text("that `xaimaps view` printed")
    assert page.locator("#tools").is_hidden()
    page.close()


NOTEBOOK = """async ([source, page]) => {
    const { default: widget } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
    const listeners = [];
    widget.render({ el: document.body, model: {
        get: (name) => ({ page, height: "40rem" })[name],
        on: (_, listener) => listeners.push(listener),
        send: async (asked, _, files) => {
            const bytes = files.map((file) => [...new Uint8Array(file)]);
            const told = await window.python(asked, bytes);
            listeners.forEach((listener) => listener(told));
        },
    } });
}"""
"""What a notebook does with a widget."""


def test_in_a_notebook_the_page_asks_python(browser, model, files, tmp_path):
    pytest.importorskip("anywidget")
    viewer, told = xaimaps.view(model, files[0]), []
    viewer.send = told.append

    def python(asked, files):
        viewer._handle_custom_msg(asked, [memoryview(bytes(file)) for file in files])
        return told.pop()

    page = browser.new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.expose_function("python", python)
    page.evaluate(NOTEBOOK, [viewer._esm, viewer.page])
    page.locator("iframe").wait_for()
    frame = page.frames[-1]
    done(frame)
    assert same(frame, xaimaps.explain(model, files[0]).overlay())
    frame.get_by_label("ray").click()
    done(frame)
    assert same(frame, xaimaps.explain(model, files[0], target="ray").overlay())
    frame.locator("#file").set_input_files(files[1])
    done(frame)
    assert frame.locator("#pictures option").all_text_contents() == [file.name for file in files]
    page.frames[-1].locator("#file").set_input_files(__file__)
    playwright.expect(frame.locator("#status")).to_have_class("wrong")
    with page.expect_download() as download:
        frame.get_by_role("button", name="Download").click()
    assert download.value.path().read_text("utf-8").startswith("<!doctype html>")
    assert page.wrong == []
    assert all(url.startswith(("about:", "data:", "blob:")) for url in page.asked)
    page.close()
