"""A conversion in another process: what it is told, what it tells, and how it dies."""

import importlib
import subprocess
import sys

import pytest

import xaimaps
from xaimaps.errors import ModelLoadError, UnsupportedModelError, XaimapsError

pytest.importorskip("tf2onnx")
keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
apart = pytest.importorskip("xaimaps_tensorflow.to_onnx._subprocess")
seeded = pytest.importorskip("xaimaps_tensorflow.testing.models").seeded
child = importlib.import_module("xaimaps_tensorflow.to_onnx.__main__")
Job = apart.Job
QUIET = "ignore:__array__ implementation:DeprecationWarning"  # when Keras saves a model


def two_outputs(first=None):
    x = images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(x if first is None else first(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = [keras.layers.Dense(n, name=name)(x) for n, name in ((5, "kind"), (2, "colour"))]
    return seeded(keras.Model(images, outputs, name="two"))


@pytest.mark.filterwarnings(QUIET)
def test_all_that_a_job_says(tmp_path):
    """A layer that runs code, one of two outputs, notes; all in a folder with a trap in it."""
    two_outputs(keras.layers.Lambda(lambda x: x * 2)).save(tmp_path / "net.keras")
    (tmp_path / "onnx.py").write_text("raise SystemExit('not the library')")
    job = {
        "source": tmp_path / "net.keras",
        "file": tmp_path / "net.onnx",
        "output": "colour",
        "layers": ["conv"],
        "opset": 15,
        "labels": "imagenet-1k",
        "preprocess": "caffe",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(ModelLoadError, match="allow_unsafe=True"):
            apart.convert_apart(Job(**job))
        outcome = apart.convert_apart(Job(**job, allow_unsafe=True))
    assert outcome.bytes == (tmp_path / "net.onnx").stat().st_size
    assert outcome.peak_bytes > 1e8
    assert "conv" not in outcome.lost
    loaded = xaimaps.load(tmp_path / "net.onnx", backend="onnxruntime")
    assert loaded.find_layer("conv").shape == (None, 14, 14, 4)
    assert loaded.info.preprocess == xaimaps.PRESETS["caffe"]
    assert loaded.info.labels[0] == "tench"


WRONG = [
    ({"opset": 12}, UnsupportedModelError, "from 13 to 18, .* got 12"),
    ({"labels": "mine.txt"}, ModelLoadError, "imagenet-1k"),
    ({"preprocess": "tfa"}, XaimapsError, "'tfa'"),
    ({"source": "missing.keras"}, ModelLoadError, "no model file 'missing.keras'"),
    ({"source": xaimaps.zoo.MODELS["default"]}, ModelLoadError, "is ONNX already"),
]


@pytest.mark.parametrize(("settings", "error", "message"), WRONG)
def test_what_is_wrong_is_told_before_there_is_a_process(settings, error, message):
    with pytest.raises(error, match=message):
        Job(**{"source": "default", "file": "net.onnx", **settings})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9, as happens where memory runs"),
        ("raise SystemExit('no such luck')", "ended with status 1 .no such luck."),
        ("print('[1]')", "ended with status 0"),
    ],
)
def test_a_child_that_dies(monkeypatch, script, message):
    real = subprocess.run

    def dying(command, **options):
        return real([sys.executable, "-c", script], **options)

    monkeypatch.setattr(apart.subprocess, "run", dying)
    with pytest.raises(XaimapsError, match=message) as caught:
        apart.convert_apart(Job(source="default", file="net.onnx"))
    assert "\n" not in str(caught.value)


def test_the_peak_of_memory_is_the_childs_own(monkeypatch, tmp_path):
    status = tmp_path / "status"
    monkeypatch.setattr(child, "STATUS", status)
    assert child.peak_bytes() > 1e7
    status.write_text("VmPeak:\t  99 kB\nVmHWM:\t    12 kB\n")
    assert child.peak_bytes() == 12 * 1024
    status.unlink()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert child.peak_bytes() is None


@pytest.mark.parametrize(
    ("model", "options", "alike"),
    [
        ("keras:VGG16", {}, True),
        ("keras:VGG16", {"weights": "vgg16.h5", "output": 0}, True),
        ("keras:VGG16", {"weights": None}, False),  # which are random
        ("net.keras", {"custom_objects": {"Mine": object}}, False),
        (object(), {}, False),
    ],
)
def test_what_another_process_can_load(model, options, alike):
    assert apart.is_alike_apart(model, options) is alike


def test_a_registered_layer_is_of_this_process_only(monkeypatch):
    monkeypatch.setitem(keras.saving.get_custom_objects(), "Mine", object)
    assert not apart.is_alike_apart("net.keras", {})
