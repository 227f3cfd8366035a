"""The benchmarks' command, and the pages that are made of their results."""

import importlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEVICES = [file.stem.rpartition("-")[2] for file in ROOT.glob("benchmarks/results/peers-*.json")]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.peers.report")


def run(*words):
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_lists_every_benchmark():
    told = run("--help").stdout
    names = {file.stem for file in ROOT.glob("benchmarks/[a-z]*.py")} | {"faults", "peers"}
    listed = [line.split() for line in told.splitlines() if line.startswith("  ")]
    assert names <= {words[0] for words in listed if len(words) > 1}


def test_an_unknown_benchmark_is_refused():
    done = run("nope")
    assert done.returncode == 2
    assert "NAME must be one of batch_kills" in done.stderr
    assert "got 'nope'" in done.stderr


def test_without_a_gpu_its_script_ends_with_a_sentence(tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    script = ["bash", str(ROOT / "benchmarks" / "gpu.sh")]
    done = subprocess.run(
        script, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "needs a machine with an NVIDIA GPU" in done.stderr


@pytest.fixture
def on_a_gpu(tmp_path):
    """Run a copy of the GPU's script with programs that only record their arguments."""
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    script = shutil.copy(ROOT / "benchmarks" / "gpu.sh", tmp_path / "benchmarks")
    programs = tmp_path / "programs"
    programs.mkdir()
    log = tmp_path / "log"

    def run(failing="nothing"):
        for name in ("nvidia-smi", "pip", "uv"):
            said = (
                f'#!/bin/sh\necho "{name} $*" >> {log}\ncase "$*" in *"{failing}"*) exit 3; esac\n'
            )
            (programs / name).write_text(said)
            (programs / name).chmod(0o755)
        done = subprocess.run(
            ["bash", script],
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        prefix = "uv run --no-sync --group frameworks "
        words = [line.removeprefix(prefix) for line in log.read_text().splitlines()]
        return done, [line for line in words if line.startswith(("python -m", "xaimaps"))]

    return run


def test_every_option_in_the_gpu_script_exists(on_a_gpu):
    done, lines = on_a_gpu()
    assert (done.returncode, done.stderr) == (0, "")
    asked: dict[str, set[str]] = {}
    for line in lines:
        words = line.removeprefix("python -m benchmarks").split()
        name = words[0] if not words[0].startswith("-") else "peers"
        asked.setdefault(name, set()).update(word for word in words if word.startswith("--"))
    names = {"peers", "feeding", "lowerings", "over_forward", "cold_start", "precision_errors"}
    assert {*asked} == {*names, "xaimaps"}
    for name, options in asked.items():
        program = ["xaimaps", "bench"] if name == "xaimaps" else ["benchmarks", name]
        command = [sys.executable, "-m", *program, "--help"]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert {option for option in options if option not in told} == set(), name


def test_a_step_that_fails_on_a_gpu_does_not_end_the_others(on_a_gpu):
    done, lines = on_a_gpu("over_forward")
    assert done.returncode == 1
    assert "failed: see build/gpu/over_forward.log" in done.stdout
    assert lines[-1].startswith("xaimaps bench")


@pytest.mark.parametrize("device", DEVICES)
def test_the_page_of_peers_is_that_of_the_committed_numbers(report, device):
    written = (ROOT / "benchmarks" / "results" / f"peers-{device}.md").read_text()
    assert written == report.page(device)


def row(report, method="saliency", length="full", **seconds):
    times = {name: [found, found, found, 1] for name, found in seconds.items()}
    return report.Row("Net", 8, "float32", method, times, length=length)


def test_losses_are_the_cases_in_which_another_library_is_the_fastest(report):
    ours, theirs = report.OWN, "Captum"
    rows = [
        row(report, **{ours: 2.0, theirs: 1.0}),
        row(report, "grad_cam", **{ours: 1.0, theirs: 0.99}),
        row(report, "rise", **{ours: 2.0, "xaimaps, ONNX Runtime": 0.5, theirs: 1.0}),
        row(report, report.FORWARD, **{ours: 2.0, theirs: 1.0}),
    ]
    assert report.losses(rows) == "- saliency, Net, 8: Captum 2.00 times as fast"
    assert report.losses(rows[1:]) == "- none"


def test_ratios_are_over_the_same_case_in_jax(report):
    rows = [
        row(report, **{report.OWN: 2.0, "Captum": 3.0}),
        row(report, "grad_cam", **{report.OWN: 1.0, "Captum": 4.0}),
    ]
    line = report.summary(rows).splitlines()[-1]
    assert line == "| Captum | 2 | 1.5 (saliency, Net, 8) | 2.8 | 4.0 (grad_cam, Net, 8) |"


def test_rows_of_fewer_passes_say_so(report):
    rows = [row(report, "rise", "short", **{report.OWN: 2.0, "Xplique": 1.0})]
    assert "| `rise, short` | 250 | 125 (0.5 x) |" in list(report.tables(rows))
    assert report.losses(rows) == "- rise, short, Net, 8: Xplique 2.00 times as fast"


def test_passes_are_those_of_the_methods(report):
    lengths = report.LENGTHS
    known = ("integrated_gradients", "occlusion", "rise", "score_cam", "grad_cam")
    assert [lengths["full"].passes(name, 1280) for name in known] == [150, 170, 513, 1281, 1]
    assert [lengths["short"].passes(name, 1280) for name in known] == [30, 50, 65, 1281, 1]


def test_programs_are_measured_in_turns(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    timing = importlib.import_module("benchmarks._timing")
    monkeypatch.setattr(timing, "SETTLING_S", 0.0)
    order = []
    times = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert [name for name, _ in itertools.groupby(order)] == ["a", "b"] * 3
    assert [len(found) for found in times.values()] == [3, 3]


def test_a_run_that_takes_too_long_is_stopped_and_told(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    peers = importlib.import_module("benchmarks.peers.__main__")

    def forever():
        while True:
            time.sleep(0.001)

    calls = {"Captum": {"rise": forever}, "Xplique": {"rise": int}}
    row = peers.row_of(calls, "rise", {}, 0.05)
    assert row["reasons"] == {"Captum": "TimeoutError: stopped after 0.05 s"}
    assert list(row["seconds"]) == ["Xplique"]
