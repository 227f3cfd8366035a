"""Every snippet of the README and the guides runs, page by page."""

import collections
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import xaimaps
from xaimaps import _registry, zoo
from xaimaps._cli import cli
from xaimaps._view import server
from xaimaps.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def snippets(page: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(page.read_text()) if language in languages]


def modules(page: Path) -> dict[str, str]:
    """Return the Python files that a page shows, each with its name in the first line."""
    texts = [re.match(r"# (\w+\.py)\n", code) for code in snippets(page, "py")]
    return {text[1]: text.string for text in texts if text}


def commands(page: Path) -> list[str]:
    lines = "\n".join(snippets(page, "sh", "console")).splitlines()
    lines = [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines]
    return [line for line in lines if line.startswith("xaimaps ")]


NEEDS = {
    "from-a-tutorial": ("tensorflow",),
    "conversion": ("tensorflow", "tf2onnx"),
    "export": ("tensorflow",),
    "jax": ("equinox", "flax", "haiku", "optax"),
}
"""What a page's snippets need beyond what is always there."""


@pytest.fixture
def without_downloads(monkeypatch):
    """Keras's applications with drawn weights in place of those that it would download."""
    applications = pytest.importorskip("xaimaps_tensorflow._applications")
    build = applications.build
    monkeypatch.setattr(applications, "build", lambda name, weights=None: build(name, None))


@pytest.fixture
def equipped(request, page):
    """Skip a page whose frameworks are not installed."""
    needed = NEEDS.get(page.stem, ())
    for module in needed:
        pytest.importorskip(module)
    if "tensorflow" in needed:
        request.getfixturevalue("without_downloads")


@pytest.fixture(scope="module")
def programs():
    """The compiled programs of each file in each backend."""
    return collections.defaultdict(dict)


@pytest.fixture
def compiled_once(monkeypatch, programs):
    """Keep the programs of a file, as the pages load the same few again and again."""
    load = _registry.load_with

    def load_with(backend, model, options):
        loaded = load(backend, model, options)
        if loaded.info.sha256 and not options:
            loaded._compiled = programs[loaded.name, loaded.info.sha256]
        return loaded

    monkeypatch.setattr(_registry, "load_with", load_with)


@pytest.fixture
def folder(tmp_path, monkeypatch, compiled_once, page):
    """A user's folder, with the files that the snippets name."""
    for name, text in modules(page).items():
        (tmp_path / name).write_text(text)
    for name in ("dalmatian.jpg", "cat_and_dog.jpg"):
        shutil.copy(zoo.PICTURES["chelsea"], tmp_path / name)
    shutil.copy(zoo.MODELS["default"], tmp_path / "copy.onnx")
    shutil.copy(zoo.PICTURES["coffee"], tmp_path / "coffee.png")
    (tmp_path / "photos").mkdir()
    shutil.copy(zoo.PICTURES["chelsea"], tmp_path / "photos")
    shutil.copy(zoo.PICTURES["coffee"], tmp_path / "photos")
    shutil.copy(zoo.PICTURES["chelsea"], tmp_path / "cat.jpg")
    shutil.copy(zoo.MODELS["default"], tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p, "python")], ids=lambda p: p.stem)
def test_python_snippets_run(page, folder, equipped):
    namespace: dict[str, object] = {}
    for code in snippets(page, "python"):
        exec(compile(code, page.name, "exec"), namespace)
    assert namespace


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_commands_run(page, folder, equipped, monkeypatch):
    monkeypatch.setattr(server, "serve", lambda session, port, announce: announce("address"))
    monkeypatch.setattr("webbrowser.open", lambda address: None)
    for command in commands(page):
        result = CliRunner().invoke(cli, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output, result.exception)


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = '<p>if <span class="arithmatex">\\(a &lt; b\\)</span></p>'
    page += '<div class="arithmatex">\\[\\frac{1}{2}\\]</div>'
    made = hooks.on_page_content(page)
    assert re.findall(r'display="(\w+)"', made) == ["inline", "block"]
    assert "<mfrac>" in made
    assert "\\" not in made
    assert "arithmatex" not in made
    with pytest.raises(ValueError, match="known commands"):
        hooks.on_page_content('<span class="arithmatex">\\(\\nocommand\\)</span>')


def test_readme_lists_every_method_with_its_summary():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    expected = [(row.name, row.summary.removesuffix(".")) for row in METHODS.values()]
    assert [(name, text[0].upper() + text[1:]) for name, text in rows] == expected


def test_the_gallery_shows_every_method():
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "gallery.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(METHODS)
    assert all((ROOT / "docs" / "images" / "gallery" / f"{name}.jpg").exists() for name in METHODS)


def test_troubleshooting_quotes_messages_of_the_code():
    """Each cell is a message with `...` for its values; the words between them are in one place."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = re.findall(r"^\| (?:`` (.*?) ``|`(.*?)`)(?: \(a note\))? \|", page, re.MULTILINE)
    messages = [one or other for one, other in cells]
    assert len(messages) > 15
    folders = [ROOT / "xaimaps", *(ROOT / "backends").glob("*/src")]
    code = " ".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?r?"', "", code)  # strings that go on in the next line
    code = re.sub(r"\{[^{}\n]*\}", "...", code)
    assert [message for message in messages if message not in code] == []


def test_the_reference_covers_the_public_names():
    reference = (ROOT / "docs" / "reference.md").read_text()
    shown = re.findall(r"^::: ([\w.]+)$", reference, re.MULTILINE)
    for name in xaimaps.__all__:
        whole = f"xaimaps.{name}"
        assert any(one == whole or one.startswith(f"{whole}.") for one in shown), name


def test_fences_are_of_a_known_language():
    found = {language for page in PAGES for language, _ in FENCE.findall(page.read_text())}
    assert found <= {"python", "sh", "console", "py", "text", "toml", "yaml"}  # not all are run
