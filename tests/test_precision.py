"""The choice of a precision: on the command line, in results and manifests, and refused."""

import json

import click
import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._cli import cli
from xaimaps.errors import BackendError, ModelLoadError
from xaimaps.testing import ReferenceBackend, pooled_network

pytest.importorskip("xaimaps_jax")
onnx = pytest.importorskip("onnx")
testing = pytest.importorskip("xaimaps_onnx.testing")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(testing.as_onnx(pooled_network()), "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).save("a.png")


def run(*arguments):
    from click.testing import CliRunner

    return CliRunner().invoke(cli, arguments)


def test_every_command_that_loads_a_model_has_the_option():
    loading = {
        name
        for name, command in cli.commands.items()
        if any(one.name == "window" for one in command.params)
    }
    assert {"explain", "batch", "evaluate", "parity", "bench", "layers"} <= loading
    for name in loading:
        option = next(one for one in cli.commands[name].params if one.name == "precision")
        assert isinstance(option.type, click.Choice)


def test_a_manifest_has_the_precision_and_reproduces_the_map():
    model = xaimaps.load("model.onnx", precision="bfloat16", preprocess="unit")
    result = xaimaps.explain(model, "a.png", "saliency")
    assert result.precision == "bfloat16"
    assert result.maps.dtype == np.float32
    manifest = result.save("out")[-1]
    assert json.loads(manifest.read_text())["precision"] == "bfloat16"
    again = xaimaps.reproduce(manifest)
    assert again.result.precision == "bfloat16"
    assert again.agrees
    exact = xaimaps.explain(xaimaps.load("model.onnx", preprocess="unit"), "a.png", "saliency")
    assert abs(exact.maps - result.maps).max() > 1e-4 * exact.maps.max()  # the choice has an effect


def test_a_manifest_is_not_reproduced_in_another_precision():
    model = xaimaps.load("model.onnx", precision="bfloat16", preprocess="unit")
    manifest = xaimaps.explain(model, "a.png", "cam").save("out")[-1]
    with pytest.raises(
        ModelLoadError, match=r"precision 'bfloat16' of the manifest, got 'float32'"
    ):
        xaimaps.reproduce(manifest, model=xaimaps.load("model.onnx", preprocess="unit"))


def test_manifests_of_before_the_choice_are_float32():
    model = xaimaps.load("model.onnx", preprocess="unit")
    manifest = xaimaps.explain(model, "a.png", "cam").save("out")[-1]
    told = json.loads(manifest.read_text())
    del told["precision"]
    manifest.write_text(json.dumps(told))
    assert xaimaps.reproduce(manifest).agrees


def test_an_unknown_precision():
    with pytest.raises(BackendError, match="must be one of float32, tf32, bfloat16, got 'half'"):
        xaimaps.load("model.onnx", precision="half")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_backend_that_has_float32_alone(precision):
    assert ReferenceBackend(pooled_network()).with_precision("float32").precision == "float32"
    with pytest.raises(BackendError, match="must be float32 for reference"):
        ReferenceBackend(pooled_network()).with_precision(precision)
    pytest.importorskip("xaimaps_onnx.runtime")
    found = run("explain", "a.png", "-m", "model.onnx", "-b", "onnxruntime", "-p", "unit",
                "--precision", precision)  # fmt: skip
    assert isinstance(found.exception, BackendError)
    assert str(found.exception) == (
        f"`precision` must be float32 for onnxruntime, got '{precision}'; use the JAX backend for "
        "others"
    )


def test_parity_compares_the_precision_with_the_reference_in_float32():
    from xaimaps.parity import routes

    found = routes("model.onnx", ["onnxruntime", "jax"], precision="bfloat16")
    assert {name: one.precision for name, one in found.items()} == {
        "onnxruntime": "float32",
        "jax (bfloat16)": "bfloat16",
    }
    with pytest.raises(BackendError, match="must be float32"):
        routes("model.onnx", ["onnxruntime"], precision="bfloat16")


def test_a_data_set_records_the_precision():
    from xaimaps.batch._settings import Settings
    from xaimaps.batch._task import Task

    model = xaimaps.load("model.onnx", precision="tf32", preprocess="unit")
    spec = xaimaps.targets.as_spec(None, 1)
    assert Task(model, (), spec, 1, Settings().max_pixels).record()["precision"] == "tf32"
