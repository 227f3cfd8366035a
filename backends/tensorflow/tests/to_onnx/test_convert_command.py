"""`xaimaps convert`, from the command line to the file."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import xaimaps
from xaimaps._cli import cli
from xaimaps._exporters import find_exporter
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    LayerError,
    ModelLoadError,
    OutputError,
    XaimapsError,
)

pytest.importorskip("tf2onnx")
keras = pytest.importorskip("keras")


def run(*arguments):
    """The output, or the error that `main` makes a sentence of."""
    result = CliRunner().invoke(cli, ["convert", *map(str, arguments)])
    if isinstance(result.exception, XaimapsError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """The embedded network, converted with a layer asked for, and the report."""
    path = tmp_path_factory.mktemp("convert") / "deeper" / "lite.onnx"
    return path, json.loads(run("default", path, "--layer", "stem/conv", "--json"))


def test_the_report(lite):
    path, report = lite
    assert report["file"] == str(path)
    assert report["bytes"] == path.stat().st_size
    assert report["layers"] == report["of"] == 160
    assert report["lost"] == []
    assert 0 < report["difference"] < 1e-4
    assert report["peak_bytes"] > 1e8
    assert report["seconds"] > 0


def test_the_file_is_explained_by_the_layers_name(lite):
    path, _ = lite
    picture = next(iter(xaimaps.zoo.PICTURES.values()))
    models = [xaimaps.load(model, backend="onnxruntime") for model in (path, "default")]
    for layer in ("stem/conv", "head/conv"):
        found, expected = (
            xaimaps.explain(model, picture, "eigen_cam", layer=layer).maps for model in models
        )
        assert abs(found - expected).max() <= 1e-4 * abs(expected).max()
    assert models[0].info.labels[285] == "Egyptian cat"


def test_nothing_else_is_left_in_the_folder(lite):
    path, _ = lite
    assert [file.name for file in path.parent.iterdir()] == ["lite.onnx"]


def test_a_failed_conversion_leaves_the_old_file(tmp_path):
    (tmp_path / "net.keras").write_bytes(b"no zip")
    (tmp_path / "net.onnx").write_bytes(b"old")
    with pytest.raises(ModelLoadError):
        run(tmp_path / "net.keras", tmp_path / "net.onnx")
    assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == [b"no zip", b"old"]


def test_wrong_use_is_told_before_there_is_a_process(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", None)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="exists and is not a folder"):
        run("default", tmp_path / "file" / "net.onnx")
    with pytest.raises(ModelLoadError, match=r"no model file 'absent\.h5'"):
        run("absent.h5", tmp_path / "net.onnx")
    with pytest.raises(ArrayInputError, match="'tfa'"):
        find_exporter(".onnx").export(
            "default", tmp_path / "net.onnx", loud=False, preprocess="tfa"
        )
    with pytest.raises(OutputError, match=r"must end in \.onnx"):
        run("default", tmp_path / "net.pb")
    with pytest.raises(ModelLoadError, match="imagenet-1k"):
        run("default", tmp_path / "net.onnx", "--labels", "mine.txt")


def test_without_the_converter(monkeypatch, tmp_path):
    monkeypatch.setattr("xaimaps_tensorflow.to_onnx._exporter.NEEDED", ("xaimaps_onnx", "abacus"))
    with pytest.raises(BackendError, match=r"needs abacus, .* pip install 'xaimaps\[convert\]'"):
        run("default", tmp_path / "net.onnx")


def test_a_failure_leaves_no_new_folder(tmp_path):
    (tmp_path / "net.keras").write_bytes(b"no zip")
    with pytest.raises(ModelLoadError):
        run(tmp_path / "net.keras", tmp_path / "new" / "newer" / "net.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["net.keras"]


def test_errors_name_the_options_of_the_command(tmp_path):
    path = tmp_path / "net.keras"
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(path)
    with pytest.raises(ModelLoadError, match=r"load it with --allow-unsafe$"):
        run(path, tmp_path / "net.onnx")
    with pytest.raises(LayerError, match=r"^--layer must name layers .* 'conv3' is none of them"):
        run(path, tmp_path / "net.onnx", "--allow-unsafe", "--layer", "conv3")


def test_the_help_imports_no_framework():
    script = (
        "import sys; from xaimaps._cli import cli\n"
        "try: cli(['convert', '--help'])\n"
        "except SystemExit: assert not {'tensorflow', 'onnx', 'jax', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    assert isinstance(cli.commands["convert"], click.Command)
