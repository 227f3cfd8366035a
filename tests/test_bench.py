"""`xaimaps bench`: what is measured, and what happens to a process that ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import xaimaps
from xaimaps import bench
from xaimaps._cli import cli
from xaimaps.bench._memory import peak_bytes, reset_peak
from xaimaps.errors import ArrayInputError, BackendError, MethodError, ModelLoadError, OutputError
from xaimaps.testing import pooled_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("xaimaps_jax")

CRASHING = """
import os, pathlib, signal
def model():
    print("a framework's banner on the standard output")
    if not pathlib.Path("ended").exists():
        pathlib.Path("ended").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    import onnx
    return onnx.load("model.onnx")
"""

SLOW = """
import os, pathlib, time
def model():
    pathlib.Path("pid.part").write_text(str(os.getpid()))
    pathlib.Path("pid.part").rename("pid")
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    from xaimaps_onnx.testing import as_onnx

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    onnx.save(as_onnx(pooled_network()), "model.onnx")


def run(*arguments):
    from click.testing import CliRunner

    return CliRunner().invoke(cli, ["bench", *arguments])


def test_a_table_json_and_a_figure():
    found = run(
        *("model.onnx", "-b", "jax", "-b", "onnxruntime", "-M", "cam,saliency"),
        *("--batch-size", "2", "--rounds", "3"),
        *("--json", "out/rates.json", "--figure", "out/rates.png"),
    )
    assert found.exit_code == 0, found.output
    report = json.loads(Path("out/rates.json").read_text())
    cases = {(r["backend"], r["method"], r["batch_size"]): r for r in report["rows"]}
    assert len(cases) == 4
    for (backend, method, size), row in cases.items():
        if (backend, method) == ("onnxruntime", "saliency"):
            assert "needs a backend that can do grad" in row["reason"]
            assert row.keys() & {"seconds", "images_per_second"} == set()
            continue
        low, high = row["quartiles"]
        assert 0 < low <= row["seconds"] <= high
        assert row["images_per_second"] == pytest.approx(size / row["seconds"])
        assert row["host_bytes"] > 20e6
    assert cases["jax", "cam", 2]["compile_seconds"] > cases["jax", "cam", 2]["seconds"]
    about = report["environment"]["backends"]
    assert about["jax"]["device"] == "cpu"
    assert about["onnxruntime"]["versions"]
    assert found.output.count("onnxruntime: the method 'saliency' needs") == 1
    with Image.open("out/rates.png") as figure:
        assert figure.size == (1350, 600)


def test_a_process_that_ends_is_a_row_and_the_next_cases_are_measured():
    Path("crashing.py").write_text(CRASHING)
    report = bench.run("crashing:model", backends=["onnxruntime"], methods=["cam"],
                       batch_sizes=[1, 2], rounds=1, allow_unsafe=True)  # fmt: skip
    first, second = report.rows
    assert first.reason.startswith("the process was ended by SIGKILL")
    assert second.reason == ""
    assert second.batch_size == 2
    assert report.measured == [second]


def test_an_interrupt_ends_all_processes_and_writes_nothing():
    Path("slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "xaimaps", "bench", "slow:model", "--allow-unsafe"]
    command += ["-b", "onnxruntime", "--json", "rates.json"]
    # a shell starts its jobs in the background with SIGINT ignored, and they pass that on
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        signal.signal(signal.SIGINT, before)
        until = time.monotonic() + 60
        while not Path("pid").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)
    assert not Path("rates.json").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["model.onnx", "-b", "torch"], BackendError, "`backend` must be an installed one"),
        (["model.onnx", "-M", "gradcamm"], MethodError, "gradcamm"),
        (["missing.onnx"], ModelLoadError, "no model file 'missing.onnx'"),
        (["model.onnx", "--figure", "rates.txt"], OutputError, "rates.txt"),
        (["model.onnx", "--custom", "collections:Counter"], ModelLoadError, "must be JSON values"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(arguments, error, message):
    found = run(*arguments)
    assert isinstance(found.exception, error)
    assert message in str(found.exception)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"batch_sizes": [0]}, ArrayInputError),
        ({"batch_sizes": []}, ArrayInputError),
        ({"rounds": 0}, ArrayInputError),
        ({"precisions": ["half"]}, BackendError),
        ({"labels": object()}, ModelLoadError),
    ],
)
def test_wrong_arguments(wrong, error):
    with pytest.raises(error, match="must be"):
        bench.run("model.onnx", **wrong)


def test_a_live_model_is_refused():
    model = xaimaps.load("model.onnx")
    with pytest.raises(ModelLoadError, match="must be files or names"):
        bench.run([model])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux resets peaks")
def test_a_peak_is_that_of_the_case():
    bytearray(200 << 20)
    before = peak_bytes()
    reset_peak()
    assert peak_bytes() < before - (100 << 20)
