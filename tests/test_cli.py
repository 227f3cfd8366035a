"""The command line: what it prints, what it writes, and how it ends."""

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import skimage
from PIL import Image

from xaimaps import _cli as cli
from xaimaps import _registry as plugins
from xaimaps import zoo
from xaimaps._cli import listing
from xaimaps._images.open import open_picture
from xaimaps.methods import METHODS

onnx = pytest.importorskip("onnx")
pytest.importorskip("xaimaps_jax")

MOTORCYCLE = Path(skimage.__file__).parent / "data" / "motorcycle_left.png"
PIXELS = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
LABELS = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]


class Ended(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def xaimaps(monkeypatch, capsys, tmp_path):
    """Run `main` with the words of a shell, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["xaimaps", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Ended(end.value.code or 0, *capsys.readouterr())

    return run


def small_model():
    """A convolution, ReLU, pooling and dense weights; it says how it wants its pictures."""
    draw = np.random.default_rng(0).normal
    weights = {"kernel": draw(size=(8, 3, 3, 3)), "weights": draw(size=(8, 5))}
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["images", "kernel"], ["conv"]),
            node("Relu", ["conv"], ["relu"]),
            node("GlobalAveragePool", ["relu"], ["pool"]),
            node("Flatten", ["pool"], ["flat"]),
            node("Gemm", ["flat", "weights"], ["logits"]),
        ],
        "small",
        [onnx.helper.make_tensor_value_info("images", 1, ["N", 3, 12, 12])],
        [onnx.helper.make_tensor_value_info("logits", 1, ["N", 5])],
        [onnx.numpy_helper.from_array(w.astype("f4"), name) for name, w in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.helper.set_model_props(model, {"xaimaps.preprocess": "unit"})
    return model.SerializeToString()


@pytest.fixture
def folder(tmp_path):
    """Models, labels and pictures, good ones and bad ones."""
    model = small_model()
    for name, data in {
        "small.onnx": model,
        "cut.onnx": model[: len(model) // 2],
        "empty.onnx": b"",
        "text.onnx": b"this is no model",
        "net.flax": b"PK",
        "labels.txt": "\n".join(LABELS).encode(),
        "text.png": b"this is no picture",
        "cut.png": zoo.PICTURES["chelsea"].read_bytes()[:5000],
        "empty.png": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
    Image.fromarray(PIXELS).save(tmp_path / "good.png")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    (tmp_path / "folder").mkdir()
    return tmp_path


SMALL = ("-m", "small.onnx", "--labels", "labels.txt")


@pytest.mark.parametrize("words", [("compare", "folder"), ("targets", "small.onnx", "*.png")])
def test_a_command_on_one_picture_takes_no_several(xaimaps, folder, words):
    ended = xaimaps(*words, *(SMALL if words[0] == "compare" else ("--labels", "labels.txt")))
    assert ended.status == 2
    assert "folder" in ended.err or "no such file" in ended.err


def test_a_pattern_on_the_command_line(xaimaps, folder):
    ended = xaimaps("explain", "go*.png", *SMALL, "-M", "saliency", "--json")
    assert [one["picture"] for one in json.loads(ended.out)["results"]] == ["good.png"]


def test_alpha_is_the_weight_of_the_map(xaimaps, folder):
    for alpha in (0, 1):
        words = ("good.png", *SMALL, "-M", "saliency", "-t", "4", "--alpha", alpha)
        assert xaimaps("explain", *words, "-o", f"out-{alpha}").status == 0
        assert xaimaps("compare", *words, "-o", f"figure-{alpha}.png").status == 0
    overlay = open_picture("out-0/good-saliency-hammerhead-overlay.png").pixels
    np.testing.assert_array_equal(overlay, PIXELS[:, 5:35])
    heatmap = open_picture("out-1/good-saliency-hammerhead-heatmap.png").pixels
    whole = open_picture("out-1/good-saliency-hammerhead-overlay.png").pixels
    np.testing.assert_array_equal(whole, heatmap)
    figures = [open_picture(f"figure-{alpha}.png").pixels for alpha in (0, 1)]
    assert (figures[0] != figures[1]).any()


# What it says of real photographs


def test_the_three_photographs(xaimaps, tmp_path):
    pictures = [zoo.PICTURES["chelsea"], zoo.PICTURES["coffee"], MOTORCYCLE]
    ended = xaimaps("explain", *pictures, "-M", "cam", "--json")
    assert (ended.status, ended.err) == (0, "")
    results = json.loads(ended.out)["results"]
    expected = [("Egyptian cat", 285, 0.386), ("espresso", 967, 0.940), ("moped", 665, 0.718)]
    for result, picture, (label, index, probability) in zip(
        results, pictures, expected, strict=True
    ):
        top = result["top"]
        assert (result["picture"], result["status"]) == (str(picture), "ok")
        assert (top[0]["label"], top[0]["index"]) == (label, index)
        assert top[0]["probability"] == pytest.approx(probability, abs=0.01)
        assert len(top) == 5
        assert result["methods"][0]["layer"] == "head/relu6"
        assert result["methods"][0]["targets"][0]["class"] == index
    assert len(list((tmp_path / "xaimaps-output").iterdir())) == 12


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The README's first command, in a process of its own."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "160"}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
        environment.pop(name, None)  # tests have settings that users do not have
    command = [sys.executable, "-W", "error", "-m", "xaimaps", "demo"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return done, folder


def test_the_demo_tells_the_classes_the_layer_and_the_time(demo):
    done, _ = demo
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["285", "Egyptian", "cat", "9.014", "0.386"] in rows
    assert len([row for row in rows if row and row[0].isdecimal()]) == 5
    told = [row for row in rows if row and row[0] in METHODS]
    assert all(row[1:3] == ["Egyptian", "cat"] for row in told)
    layers = {row[0]: row[3] for row in told}
    assert layers == {"saliency": "(input)", "cam": "head/relu6", "grad_cam": "head/relu6"}
    assert all((ms, s) == ("ms", "s") for *_, ms, _, s in told)


def test_the_demo_writes_what_it_lists(demo):
    done, folder = demo
    written = {str(path.relative_to(folder)) for path in (folder / "xaimaps-output").iterdir()}
    listed = [line for line in done.stdout.splitlines() if "xaimaps-output" in line]
    figure = "xaimaps-output/chelsea-Egyptian cat-figure.png"
    assert listed == [figure, f"xaimaps-output: {len(written)} files"]
    kinds = ("overlay.png", "heatmap.png", "maps.npz", "manifest.json")
    stems = [f"chelsea-{method}-Egyptian cat" for method in ("saliency", "cam", "grad_cam")]
    names = {f"{stem}-{kind}" for stem in stems for kind in kinds}
    assert {Path(name).name for name in written} == {*names, "chelsea-Egyptian cat-figure.png"}
    with Image.open(folder / "xaimaps-output" / "chelsea-cam-Egyptian cat-overlay.png") as overlay:
        assert overlay.size == (300, 300)


def test_the_demo_runs_on_the_backend_that_is_installed(xaimaps, monkeypatch):
    pytest.importorskip("onnxruntime")
    found = {name: entry for name, entry in plugins.installed().items() if name == "onnxruntime"}
    monkeypatch.setattr(plugins, "installed", lambda: found)
    ended = xaimaps("demo")
    assert ended.status == 0, ended.err
    assert Path("xaimaps-output/chelsea-cam-Egyptian cat-overlay.png").exists()


def test_the_demo_keeps_what_it_compiled(demo):
    assert list((demo[1] / "cache" / "xaimaps" / "programs").iterdir())


# Explaining


def test_a_run_for_another_class_overwrites_nothing(xaimaps, folder):
    def run(*words):
        assert xaimaps("explain", "good.png", *SMALL, "-o", "out", *words).status == 0
        assert xaimaps("compare", "good.png", *SMALL, *words).status == 0
        files = [*Path("out").iterdir(), *Path("xaimaps-output").iterdir()]
        return {file.name: file.read_bytes() for file in files}

    methods = ("-M", "grad_cam,eigen_cam")
    first = run(*methods, "-t", "goldfish")
    second = run(*methods, "-t", "hammerhead")
    both = run(*methods, "-t", "goldfish", "-t", "hammerhead")
    kinds = ("overlay.png", "heatmap.png", "maps.npz", "manifest.json")
    targeted = {f"good-grad_cam-goldfish-{kind}" for kind in kinds}
    figures = {"good-goldfish-figure.png", "good-goldfish-compare.png"}
    assert set(first) == targeted | figures | {f"good-eigen_cam-{kind}" for kind in kinds}
    assert all(first[name] == both[name] for name in targeted | figures if name[-4:] != "json")
    assert len(second) == len(first) + len(targeted) + len(figures)
    assert "good-goldfish+hammerhead-compare.png" in both


def test_classes_of_one_name_have_files_of_their_own(xaimaps, folder):
    Path("labels.txt").write_text("crane\nb\ncrane\nd\ne\n")
    for target in ("0", "2"):
        words = ("-M", "grad_cam", "-t", target, "-o", "out")
        assert xaimaps("explain", "good.png", *SMALL, *words).status == 0
    overlays = sorted(path.name for path in Path("out").glob("*overlay.png"))
    assert overlays == [f"good-grad_cam-crane {i}-overlay.png" for i in (0, 2)]


def test_a_folder_is_read_with_its_subfolders_and_without_its_output(xaimaps, folder):
    for name in ("a/x.png", "b/x.png", "b/y.png", ".hidden/z.png"):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("good.png", path)
    words = ("explain", "in", *SMALL, "-M", "eigen_cam", "-o", "in/maps", "--json")
    for _ in range(2):
        done = xaimaps(*words)
        assert done.status == 0, done.err
        told = json.loads(done.out)["results"]
        assert [one["picture"] for one in told] == ["in/a/x.png", "in/b/x.png", "in/b/y.png"]
    overlays = sorted(path.name for path in Path("in/maps").glob("*overlay.png"))
    assert overlays == [f"{name}-eigen_cam-overlay.png" for name in ("a-x", "b-x", "y")]


def test_explain_small_model_by_label_at_a_layer(xaimaps, folder):
    ended = xaimaps(
        "explain", "good.png", *SMALL, "-M", "grad_cam", "-t", "Goldfish", "-t", "4", "-l", "conv",
        "-O", "relu=false", "-o", "out", "--json",
    )  # fmt: skip
    assert (ended.status, ended.err) == (0, "")
    manifest = json.loads(
        (folder / "out" / "good-grad_cam-goldfish+hammerhead-manifest.json").read_text()
    )
    assert [one["label"] for one in manifest["targets"]] == ["goldfish", "hammerhead"]
    assert (manifest["layer"], manifest["options"]["relu"]) == ("conv", False)
    with np.load(folder / "out" / "good-grad_cam-goldfish+hammerhead-maps.npz") as arrays:
        assert arrays["maps"].shape == (2, 10, 10)
        assert (arrays["maps"] < 0).any()


def test_default_methods(xaimaps, folder):
    ended = xaimaps("explain", "good.png", *SMALL, "--json")
    methods = [one["method"] for one in json.loads(ended.out)["results"][0]["methods"]]
    assert methods == ["saliency", "cam", "grad_cam"]
    ended = xaimaps("explain", "good.png", *SMALL, "-l", "conv", "--json")
    methods = json.loads(ended.out)["results"][0]["methods"]
    assert [(one["method"], one["layer"]) for one in methods] == [("grad_cam", "conv")]


@pytest.mark.parametrize("command", ["explain", "parity"])
def test_default_methods_suit_the_target(xaimaps, folder, command):
    model, *labels = SMALL[1:] if command == "parity" else ("good.png", *SMALL)
    picture = ["good.png"] if command == "parity" else []
    ended = xaimaps(command, model, *picture, *labels, "-t", "goldfish vs hammerhead")
    assert (ended.status, ended.err) == (0, "")
    assert "grad_cam" in ended.out


@pytest.mark.parametrize("as_json", [True, False])
def test_a_batch_goes_on_and_ends_with_1(xaimaps, folder, as_json):
    pictures = ["good.png", "cut.png", "missing.png", "good.png"]
    ended = xaimaps("explain", *pictures, *SMALL, "-M", "cam", "-o", "out", *["--json"] * as_json)
    assert ended.status == 1
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert "cut.png" in lines[0]
    assert "missing.png" in lines[1]
    assert {path.name.split("-")[0] for path in (folder / "out").iterdir()} == {"good"}
    if as_json:
        records = json.loads(ended.out)["results"]
        assert [one["picture"] for one in records] == pictures[:3]
        assert [one["status"] for one in records] == ["ok", "failed", "failed"]
        assert "truncated" in records[1]["reason"]


def test_what_is_printed_with_quiet(xaimaps, folder):
    words = ("explain", "good.png", "cut.png", *SMALL, "-M", "cam", "-o", "out")
    told = [line for line in xaimaps(*words).out.splitlines() if line.startswith("note: ")]
    ended = xaimaps(*words, "--quiet")
    assert (ended.status, ended.out) == (1, "")
    *notes, failure = ended.err.splitlines()
    assert notes == [line.replace("note", "xaimaps: good.png", 1) for line in told]
    assert notes
    assert "cut.png" in failure


def test_a_folder_stands_for_its_pictures(xaimaps, folder):
    for name in ("b.png", "a.png", "a.bmp"):
        Image.fromarray(PIXELS).save(folder / "folder" / name)
    ended = xaimaps("explain", "folder", *SMALL, "-M", "cam", "-o", "out", "--json")
    records = json.loads(ended.out)["results"]
    assert [Path(one["picture"]).name for one in records] == ["a.bmp", "a.png", "b.png"]
    assert len(list((folder / "out").iterdir())) == 12


@pytest.mark.parametrize("name", ["[b]x.png", "[/x].png", b"\xff\xfe.png", "-dash.png", "Ω 猫.png"])
@pytest.mark.parametrize("as_json", [True, False])
def test_odd_names_are_printed(xaimaps, folder, name, as_json):
    path = folder / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((folder / "good.png").read_bytes())
    ended = xaimaps("explain", path, *SMALL, "-M", "cam", *["--json"] * as_json)
    assert (ended.status, ended.err) == (0, "")
    shown = str(path).encode("utf-8", "backslashreplace").decode()
    if as_json:
        assert json.loads(ended.out)["results"][0]["picture"] == str(path)
    else:
        assert ended.out.startswith(f"{shown}\n")


# Wrong use: one sentence, exit status 2

GOOD = ("explain", "good.png", *SMALL)
WRONG = {
    "missing file": (("explain", "missing.png", *SMALL), ["missing.png"]),
    "missing folder": (("explain", "none/x.png", *SMALL), ["none/x.png"]),
    "not an image": (("explain", "text.png", *SMALL), ["text.png", "PNG, JPEG"]),
    "an empty image": (("explain", "empty.png", *SMALL), ["empty.png", "empty"]),
    "a truncated image": (("explain", "cut.png", *SMALL), ["cut.png", "truncated"]),
    "NaN": (("explain", "nan.tif", *SMALL), ["nan.tif", "with NaN or infinity"]),
    "a folder without images": (("explain", "folder", *SMALL), ["no pictures in", "folder"]),
    "a bomb": ((*GOOD, "--max-pixels", 100), ["good.png", "--max-pixels"]),
    "unknown model": (("explain", "good.png", "-m", "defualt"), ["'defualt'", "'default'"]),
    "missing model": (("layers", "-m", "none.onnx"), ["'none.onnx'"]),
    "corrupt model": (("layers", "-m", "cut.onnx"), ["cut.onnx", "not a readable ONNX file"]),
    "empty model": (("layers", "-m", "empty.onnx"), ["empty.onnx", "empty file"]),
    "text as a model": (("layers", "-m", "text.onnx"), ["text.onnx", "not a readable ONNX file"]),
    "a model for nobody": (("layers", "-m", "net.flax"), ["net.flax", "no backend takes"]),
    "unknown layer": ((*GOOD, "-M", "grad_cam", "-l", "rely"), ["'rely'", "'relu'"]),
    "vector as a layer": ((*GOOD, "-M", "grad_cam", "-l", "pool"), ["'pool'", "'relu'"]),
    "not the pooled layer": ((*GOOD, "-M", "cam", "-l", "conv"), ["layer 'relu'", "grad_cam"]),
    "no layer for it": ((*GOOD, "-M", "saliency", "-l", "relu"), ["`layer` must be None"]),
    "class out of range": ((*GOOD, "-t", 5), ["from 0 to 4, got 5"]),
    "class below zero": ((*GOOD, "-t", "-1"), ["from 0 to 4, got -1"]),
    "no labels": (("explain", "good.png", "-m", "small.onnx", "-t", 5000), ["got 5000"]),
    "label unknown": ((*GOOD, "-t", "goldfisch"), ["'goldfisch'", "nearest: 'goldfish'"]),
    "label for no labels": (
        ("explain", "good.png", "-m", "small.onnx", "-t", "tench"),
        ["labels are not known", "index"],
    ),
    "too many": ((*GOOD, "-t", "top-6"), ["top-6", "5 classes"]),
    "top among several": ((*GOOD, "-t", "top-2", "-t", 1), ["'top-2'", "one by one"]),
    "unknown method": ((*GOOD, "-M", "gradcma"), ["'gradcma'", "nearest: 'grad_cam'"]),
    "unknown option": ((*GOOD, "-M", "cam", "-O", "relu=1"), ["'cam'", "'relu'"]),
    "half an option": ((*GOOD, "-O", "relu"), ["NAME=VALUE", "'relu'"]),
    "an option with a value of its own": ((*GOOD, "-O", "target=3"), ["'target'", "--help"]),
    "a list as an option": ((*GOOD, "-M", "grad_cam", "-O", "relu=[1]"), ["`relu`", "[1]"]),
    "neither yes nor no": ((*GOOD, "-M", "grad_cam", "-O", "relu=maybe"), ["`relu`", "'maybe'"]),
    "a wrong reduction": ((*GOOD, "-M", "saliency", "-O", "reduce=median"), ["'median'", "'max'"]),
    "unknown preset": ((*GOOD, "-p", "imagenett"), ["'imagenett'", "torch"]),
    "a custom class without a name": ((*GOOD, "--custom", "json"), ["MODULE:CLASS", "'json'"]),
    "no custom class": ((*GOOD, "--custom", "json:loads"), ["'json:loads'", "no class"]),
    "no custom module": ((*GOOD, "--custom", "nowhere:A"), ["nowhere"]),
    "unknown labels": (("layers", "--labels", "none.txt"), ["none.txt", "imagenet-1k"]),
    "another size": ((*GOOD, "--input-size", 10, 10), ["must be (12, 12)", "(10, 10)"]),
    "a file as the folder": ((*GOOD, "-o", "good.png"), ["good.png", "not a folder"]),
    "backend unknown": (("layers", "-b", "jaxx"), ["'jaxx'", "nearest: 'jax'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_gets_one_sentence(xaimaps, folder, case):
    words, parts = WRONG[case]
    before = sorted(folder.rglob("*"))
    ended = xaimaps(*words)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("xaimaps: ")
    assert ended.err.count("\n") == 1
    assert [part for part in parts if part not in ended.err] == []
    added = set(folder.rglob("*")) - set(before)
    assert not [path for path in added if path.is_file() and "cache" not in path.parts]


def test_a_backend_that_is_not_installed(xaimaps, folder, monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    plugins.refresh()
    ended = xaimaps(*GOOD)
    listed = xaimaps("backends")
    monkeypatch.undo()
    plugins.refresh()
    assert ended.status == 2
    assert ended.err == (
        "xaimaps: no backend takes the model 'small.onnx' (none is installed); pip install "
        "'xaimaps[EXTRA]', where EXTRA is one of all, convert, cuda13, jax, onnx, tensorflow\n"
    )
    assert "No backend is installed; pip install 'xaimaps[jax]'" in listed.out


@pytest.mark.parametrize("words", [("explain",), ("explain", "x.png", "--nope"), ("xplain",)])
def test_click_refuses_the_rest(xaimaps, words):
    ended = xaimaps(*words)
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("xaimaps: ")


def test_debug_shows_where(xaimaps, folder):
    ended = xaimaps("--debug", "layers", "-m", "cut.onnx")
    assert ended.status == 2
    assert ended.err.startswith("Traceback (most recent call last):")
    assert ended.err.splitlines()[-1].startswith("xaimaps: 'cut.onnx' is not")


# Listing


def test_layers_in_text(xaimaps, folder):
    ended = xaimaps("layers", *SMALL)
    assert (ended.status, ended.err) == (0, "")
    rows = [line.split() for line in ended.out.splitlines()]
    assert ["*", "relu", "Relu", "10", "x", "10", "x", "8"] in rows
    assert ["pool", "GlobalAveragePool", "1", "x", "1", "x", "8"] in rows
    assert "layers of small" in ended.out
    assert xaimaps("layers", "small.onnx").out == ended.out
    assert "given once" in xaimaps("layers", "small.onnx", *SMALL).err


def test_the_size_of_the_input_is_told_once_for_every_command(xaimaps, folder):
    """A dense layer after a flattening: the file declares any size, but runs at 5 x 7."""
    model = onnx.load("small.onnx")
    for axis, name in enumerate(("height", "width"), 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.node[2]
    model.graph.node[2].input[0] = "relu"
    dense = np.random.default_rng(1).normal(size=(8 * 3 * 5, 5)).astype("f4")
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(dense, "weights"))
    onnx.save(model, "free.onnx")
    assert "--input-size" in xaimaps("layers", "-m", "free.onnx").err
    told = ("-m", "free.onnx", "--input-size", 5, 7)
    assert "3 x 5 x 8" in xaimaps("layers", *told).out
    ended = xaimaps("explain", "good.png", *told, "-M", "grad_cam", "--json")
    assert json.loads(ended.out)["results"][0]["status"] == "ok"
    (manifest,) = Path("xaimaps-output").glob("*.json")
    assert xaimaps("reproduce", manifest).status == 0


def test_layers_in_json(xaimaps, folder):
    rows = json.loads(xaimaps("layers", *SMALL, "--json").out)
    assert [row["name"] for row in rows if row["spatial"]] == ["conv", "relu"]
    assert [row["name"] for row in rows if row["default"]] == ["relu"]
    assert rows[0]["shape"] == [None, 10, 10, 8]


def scrollback(text):
    """Return the lines that a terminal shows in the end."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\r":
            column = 0
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return lines


def test_no_bar_stays_in_a_terminal(folder, monkeypatch):
    pty = pytest.importorskip("pty")
    monkeypatch.chdir(folder)
    shutil.copy("good.png", "other.png")
    words = ["explain", "good.png", "other.png", *SMALL, "-M", "saliency", "--batch-size", "1"]
    here, there = pty.openpty()
    command = [sys.executable, "-m", "xaimaps", *words]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there) as running:
        os.close(there)
        said = b""
        with contextlib.suppress(OSError):  # at its end
            while part := os.read(here, 65536):
                said += part
        os.close(here)
    assert running.returncode == 0
    assert "━" in said.decode(), "there were bars"
    assert "loading small.onnx" in said.decode()
    shown = scrollback(said.decode())
    assert "━" not in "".join(shown)
    assert "loading" not in "".join(shown)
    assert [line.strip() for line in shown if line.strip() in ("good.png", "other.png")] == [
        "good.png",
        "other.png",
    ]


def test_methods(xaimaps):
    rows = json.loads(xaimaps("methods", "--json").out)
    assert [row["name"] for row in rows] == list(METHODS)
    assert rows[0]["options"]["reduce"] == METHODS[rows[0]["name"]].options["reduce"]
    lines = xaimaps("methods").out.splitlines()
    shown = {line.split()[0]: line for line in lines if line.strip()}
    assert all(row["summary"] in shown[row["name"]] for row in rows)
    assert max(map(len, lines)) < 160, "for `xaimaps methods | less`"
    about = xaimaps("methods", "Grad-CAM").out
    assert METHODS["grad_cam"].paper in about
    assert METHODS["grad_cam"].cost in about


def test_a_list_of_methods_in_a_narrow_terminal(monkeypatch, capsys):
    """No name is folded."""
    rich = pytest.importorskip("rich.console")
    narrow = functools.partial(rich.Console, width=60, force_terminal=False)
    monkeypatch.setattr(rich, "Console", lambda **others: narrow(file=sys.stdout))
    listing.print_rows(list(METHODS.values()), "methods", ("name", "summary"), "cost", False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 60
    assert {line.split()[0] for line in lines if line.strip()} >= set(METHODS)


def test_backends(xaimaps, monkeypatch):
    rows = {row["name"]: row for row in json.loads(xaimaps("backends", "--json").out)}
    assert {"jax", "onnxruntime"} <= rows.keys()
    assert (rows["jax"]["status"], rows["onnxruntime"]["status"]) == ("ok", "ok")
    assert rows["jax"]["distribution"].startswith("xaimaps-jax ")
    assert {"forward", "grad"} <= set(rows["jax"]["capabilities"])
    assert "jax" in xaimaps("backends").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(xaimaps, shell):
    ended = xaimaps("completion", shell)
    assert (ended.status, ended.err) == (0, "")
    assert f"_XAIMAPS_COMPLETE={shell}_complete" in ended.out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("xaimaps expl", "explain"),
        ("xaimaps explain -M grad_c", "grad_cam"),
        ("xaimaps layers -b j", "jax"),
        ("xaimaps completion z", "zsh"),
        ("xaimaps explain -p im", "imagenet"),
        ("xaimaps explain -m def", "default"),
        ("xaimaps layers --labels im", "imagenet-1k"),
        ("xaimaps layers def", "default"),
        ("xaimaps explain -t egyptian", "Egyptian cat"),
        ("xaimaps explain -m other.onnx --labels imagenet-1k -t tenc", "tench"),
        ("xaimaps explain -m small.onnx -l co", "conv"),
        ("xaimaps explain --colormap inf", "inferno"),
        ("xaimaps methods grad_cam_", "grad_cam_plusplus"),
        ("xaimaps metrics dele", "deletion"),
        ("xaimaps parity def", "default"),
        ("xaimaps targets def", "default"),
        ("xaimaps convert def", "default"),
        ("xaimaps batch -m cut.onnx -l co", None),
    ],
)
def test_completion_offers(xaimaps, folder, monkeypatch, words, offered):
    monkeypatch.setenv("_XAIMAPS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    lines = xaimaps().out.splitlines()
    assert f"plain,{offered}" in lines if offered else not any(lines)


@pytest.mark.parametrize("option", ["-m", "--labels"])
def test_completion_offers_files(xaimaps, monkeypatch, option):
    monkeypatch.setenv("_XAIMAPS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"xaimaps explain {option} a")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert xaimaps().out.splitlines() == ["file,a"]


def test_version_and_help(xaimaps):
    assert xaimaps("--version").out.startswith("xaimaps, version ")
    assert "Exit status: 0 done" in xaimaps("-h").out


def test_parity_of_a_file_with_itself_and_with_a_changed_copy(xaimaps, folder):
    changed = onnx.load(folder / "small.onnx")
    kernel = next(weight for weight in changed.graph.initializer if weight.name == "kernel")
    values = onnx.numpy_helper.to_array(kernel) * np.float32(1.01)
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, "kernel"))
    onnx.save(changed, folder / "changed.onnx")

    agreed = xaimaps("parity", "small.onnx", "good.png", "-M", "eigen_cam")
    assert agreed.status == 0
    assert "jax agrees with onnxruntime in all" in agreed.out

    options = ("-b", "jax", "--with", "changed.onnx", "--html", "out/page.html", "--json")
    differing = xaimaps("parity", "small.onnx", "good.png", *options)
    assert differing.status == 1
    told = json.loads(differing.out, parse_constant=pytest.fail)  # neither NaN nor infinity
    assert told["first_divergence"]["jax (changed.onnx)"]["name"] == "conv"
    assert "jax (changed.onnx) diverges from jax" in (folder / "out" / "page.html").read_text()

    (folder / "other").mkdir()
    shutil.copy(folder / "small.onnx", folder / "other" / "changed.onnx")
    options = ("-b", "jax", "-M", "cam", "--with", "changed.onnx", "--with", "other/changed.onnx")
    both = xaimaps("parity", "small.onnx", "good.png", *options)
    assert both.status == 1
    assert "jax (other/changed.onnx) agrees" in both.out

    loose = [f"--tolerance={name}=1" for name in ("layer", "logits", "cam", "grad_cam")]
    options = ("-b", "jax", "--with", "changed.onnx", *loose, "--tolerance=saliency=0.5")
    assert xaimaps("parity", "small.onnx", "good.png", *options).status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.onnx", "good.png"), "no model file 'nothing.onnx'"),
        (("small.onnx", "good.png", "-b", "jax"), "at least two backends, got 1 (jax)"),
        (
            ("small.onnx", "good.png", "--tolerance", "grad_cam=much"),
            "NAME=NUMBER, got grad_cam='much'",
        ),
        (("small.onnx", "good.png", "--tolerance", "gradcam=1"), "nearest: 'grad_cam'"),
        (("small.onnx", "good.png", "-b", "torch"), "`backend` must be an installed one"),
        (("small.onnx", "good.png", "--with", "folder"), "no backend takes the model"),
        (("small.onnx", "good.png", *2 * ("--with", "small.onnx")), "must name each file once"),
        (("small.onnx", "good.png", "--load", "backend=jax"), "--load takes no 'backend'"),
        (("small.onnx", "good.png", "-t", "99"), "a class from 0 to 4, got 99"),
        (("small.onnx", "good.png", "--tolerance", "logits=1e999"), "a number from 0, got inf"),
        (("small.onnx", "good.png", "--html", "folder"), "is a directory"),
    ],
)
def test_parity_in_wrong_use(xaimaps, folder, words, message):
    ended = xaimaps("parity", *words)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1


# Exporting


def test_a_model_is_exported_with_its_map(xaimaps, folder):
    words = ("export", "small.onnx", "out.onnx", "-t", "all", "--picture", "good.png")
    ended = xaimaps(*words, "--map", "input", "--output-name", "saliency_map", "--json")
    assert (ended.status, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["outputs"] == {"saliency_map": ["N", 5, 12, 12]}
    assert (found["images"], found["output_difference"]) == ("1 given picture", 0)
    assert [one.name for one in onnx.load("out.onnx").graph.output] == ["logits", "saliency_map"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("small.onnx", "out.onnx", "-M", "saliency", "-t", "all"), "must be that of one class"),
        (("small.onnx", "out.onnx", "-M", "lrp"), "as it needs rules"),
        (("small.onnx", "out.onnx", "-t", "top-2"), "--target of an exported file must be a class"),
        (("small.onnx", "small.onnx"), "must be another than the model"),
        (("small.onnx", "out.onnx", "--output-name", "relu"), "another --output-name"),
        (("text.onnx", "out.onnx"), "is not valid as an ONNX model"),
        (("keras:VGG16", "out.onnx"), "must be an ONNX file"),
        (("folder", "out.onnx"), "must be an ONNX file"),
        (("small.onnx", "out.onnx", "--picture", "cut.png"), "cut.png"),
    ],
)
def test_an_export_that_is_refused(xaimaps, folder, words, expected):
    ended = xaimaps("export", *words)
    assert (ended.status, ended.out) == (2, "")
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert not (folder / "out.onnx").exists()
