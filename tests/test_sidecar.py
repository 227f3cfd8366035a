"""The file beside a model: what it says, what goes before it, and the command that writes it."""

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import xaimaps
from xaimaps._cli import cli
from xaimaps._images.preprocess import Preprocess
from xaimaps._sidecar import Sidecar, read_sidecar, sidecar_text
from xaimaps.errors import ArrayInputError, LayerError, ModelLoadError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model of images of any size, labels and a picture."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    draw = np.random.default_rng(0).normal
    kernels = {"k1": draw(size=(4, 3, 3, 3)), "k2": draw(size=(2, 4, 3, 3))}
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["images", "k1"], ["first"]),
            node("Conv", ["first", "k2"], ["second"]),
            node("GlobalAveragePool", ["second"], ["pool"]),
            node("Flatten", ["pool"], ["scores"]),
        ],
        "two",
        [info("images", 1, ["N", 3, "H", "W"])],
        [info("scores", 1, ["N", 2])],
        [onnx.numpy_helper.from_array(v.astype("f4"), n) for n, v in kernels.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "model.onnx"
    )
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    np.save(tmp_path / "x.npy", np.full((9, 11, 3), 7, np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(**options):
    return xaimaps.load("model.onnx", backend="onnxruntime", **options)


def write(text):
    Path("model.xaimaps.toml").write_text(text)


WHOLE = """
preprocess = "tf"
fit = "stretch"
window = [3, 9]
labels = "names.txt"
input_size = [8, 10]
layer = "first"
"""


def test_all_that_a_model_needs_is_read(folder):
    write(WHOLE)
    info = load().info
    wanted = dataclasses.replace(xaimaps.PRESETS["tf"], fit="stretch", window=(3, 9))
    assert info.preprocess == wanted
    assert info.labels == ("cat", "dog")
    result = xaimaps.explain(load(), "x.npy", "eigen_cam")
    assert result.layer == "first"
    assert result.maps.shape == (1, 6, 8)
    level = np.float32((7 - 3) * 255 / 6) * np.float32(1 / 127.5) - np.float32(1)
    images = np.full((1, 8, 10, 3), level)
    np.testing.assert_array_equal(result.scores, xaimaps.attribute(load(), images, "rise").scores)


def test_the_labels_are_found_from_another_folder(folder, monkeypatch, tmp_path_factory):
    write(WHOLE)
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    loaded = xaimaps.load(folder / "model.onnx", backend="onnxruntime")
    assert loaded.info.labels == ("cat", "dog")


def test_arguments_go_before_the_file(folder):
    write(WHOLE)
    assert load(labels=["a", "b"]).info.labels == ("a", "b")
    assert load(fit="pad").info.preprocess.fit == "pad"
    assert load(preprocess="unit").info.preprocess == xaimaps.PRESETS["unit"], "also fit and window"
    own = xaimaps.explain(load(input_size=(6, 6)), "x.npy", "eigen_cam", layer="second")
    assert (own.layer, own.maps.shape) == ("second", (1, 2, 2))


def test_a_preprocessing_of_ones_own(folder):
    mine = Preprocess("mine", 0.5, (1.0, 2.0, 3.0), (4.0,), "BGR", "pad", window=(-1.5, 9))
    write(sidecar_text(Sidecar(preprocess=mine, labels=["a", 'b "c"'])))
    assert load().info.preprocess == mine
    assert load().info.labels == ("a", 'b "c"')


def test_the_manifest_reproduces_without_the_file(folder):
    write(WHOLE)
    path = xaimaps.explain(load(), "x.npy", "eigen_cam").save("out")[-1]
    assert json.loads(path.read_text())["model"]["load"]["labels"] == "names.txt"
    write('preprocess = "unit"\nfit = "pad"\nlayer = "second"\n')
    assert xaimaps.reproduce(path).agrees


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("preprocess = ", "TOML"),
        ('preproces = "tf"', "unknown name 'preproces'; nearest: 'preprocess'"),
        ("input_size = 9", "`input_size` must be whole numbers of at least 1"),
        ("input_size = [0, 9]", "`input_size`"),
        ('preprocess = {name = "mine"}', "missing"),
        ('preprocess = {name = "mine", scale = 0, mean = [0], std = [1]}', "must not be zero"),
        ("window = 5", "`window`"),
        ("layer = 5", "`layer`"),
    ],
)
def test_a_wrong_file_gets_one_sentence(folder, text, word):
    write(text)
    with pytest.raises(ModelLoadError, match=r"'model\.xaimaps\.toml' must describe") as caught:
        load()
    assert word in str(caught.value)
    assert "xaimaps describe" in str(caught.value)


def test_values_are_checked_like_arguments(folder):
    write('preprocess = "torhc"')
    with pytest.raises(ArrayInputError, match="got 'torhc'; nearest: 'torch'"):
        load()
    write('preprocess = "tf"\nlayer = "third"')
    with pytest.raises(LayerError, match="got 'third'"):
        xaimaps.explain(load(), "x.npy", "eigen_cam", input_size=(8, 8))


def test_the_example_of_the_page_says_all_there_is(folder):
    page = Path(__file__).parents[1] / "docs" / "explaining.md"
    write(page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0])
    said = read_sidecar(Path("model.onnx"))
    assert all(getattr(said, field.name) is not None for field in dataclasses.fields(said))
    assert load().info.preprocess.window == (0, 4095)


def describe(*words):
    return CliRunner().invoke(cli, ["describe", "model.onnx", "-b", "onnxruntime", *words])


def test_describe_writes_what_it_is_told(folder):
    done = describe("-p", "imagenet", "--labels", "names.txt", "--input-size", "8", "10")
    assert done.exit_code == 0, done.output
    wanted = {"preprocess": "imagenet", "labels": "names.txt", "input_size": [8, 10]}
    text = (folder / "model.xaimaps.toml").read_text()
    assert tomllib.loads(text) == wanted
    assert done.output == f"model.xaimaps.toml\n{text}"
    assert load().info.preprocess.mean == (0.485, 0.456, 0.406)


def test_describe_keeps_what_was_said(folder):
    write(WHOLE)
    assert describe("--fit", "pad", "-l", "second").exit_code == 0
    told = tomllib.loads((folder / "model.xaimaps.toml").read_text())
    assert told == tomllib.loads(WHOLE) | {"fit": "pad", "layer": "second"}


def test_describe_from_another_folder(folder, monkeypatch):
    (folder / "other").mkdir()
    monkeypatch.chdir(folder / "other")
    words = "describe ../model.onnx -b onnxruntime -p tf --labels ../names.txt"
    assert CliRunner().invoke(cli, words.split()).exit_code == 0
    told = tomllib.loads((folder / "model.xaimaps.toml").read_text())
    assert told["labels"] == "names.txt"


@pytest.mark.parametrize(
    "words", [["-l", "third"], ["--labels", "gone.txt"], ["--fit", "pad"], ["-p", "torhc"]]
)
def test_describe_writes_nothing_wrong(folder, words):
    assert describe(*words).exit_code != 0
    assert not (folder / "model.xaimaps.toml").exists()


def test_the_presets_of_the_command_line_are_those_of_python():
    (option,) = (one for one in cli.commands["explain"].params if one.name == "preprocess")
    assert list(option.type.choices) == list(xaimaps.PRESETS)
