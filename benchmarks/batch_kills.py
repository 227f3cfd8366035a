"""A run over 10,000 pictures that is killed 20 times, as benchmarks/results/batch.md.

    uv run python -m benchmarks batch_kills [--pictures 10000] [--kills 20]

The network is tiny, so that what is measured is the pipeline. Its store must have the same bytes as
that of an undisturbed run, no chunk may be stored twice, and the memory may not grow with the
number of pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "batch.md"
FEW = 100
CHUNK = 64


def main() -> None:
    """Make pictures, run, kill and compare, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("net.onnx").write_bytes(network())
        paint("few", FEW)
        paint("many", given.pictures)
        complete("few", "cold-maps")  # reads all modules from the disk, which takes longer once
        begin = time.perf_counter()
        few, _ = complete("few", "few-maps")
        start_up = time.perf_counter() - begin
        many, told = complete("many", "many-maps")
        kills = killed("many", "killed-maps", given.kills, 2 * start_up)
        complete("many", "killed-maps")
        lines = report(given.pictures, few, many, told, kills)
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def network() -> bytes:
    """Return an ONNX file: a convolution, ReLU, pooling and dense weights."""
    draw, node = np.random.default_rng(0).normal, onnx.helper.make_node
    weights = {"kernel": draw(size=(8, 3, 3, 3)), "weights": draw(size=(8, 5))}
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["images", "kernel"], ["conv"]),
            node("Relu", ["conv"], ["relu"]),
            node("GlobalAveragePool", ["relu"], ["pool"]),
            node("Flatten", ["pool"], ["flat"]),
            node("Gemm", ["flat", "weights"], ["logits"]),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("images", 1, ["N", 3, 32, 32])],
        [onnx.helper.make_tensor_value_info("logits", 1, ["N", 5])],
        [onnx.numpy_helper.from_array(w.astype("f4"), name) for name, w in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


def paint(folder: str, count: int) -> None:
    """Write JPEGs of 64 x 48 pixels, a thousand in each subfolder."""
    draw = np.random.default_rng(1)
    for i in range(count):
        place = Path(folder, f"{i // 1000:04}")
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{i:06}.jpg")


def start(pictures: str, output: str) -> subprocess.Popen[str]:
    """Start the command."""
    words = ("-m", "net.onnx", "-p", "unit", "-M", "grad_cam", "--chunk-size", str(CHUNK), "--json")
    command = [sys.executable, "-m", "xaimaps", "batch", pictures, "-o", output, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def complete(pictures: str, output: str) -> tuple[float, dict[str, Any]]:
    """Run to the end, and return the peak memory in MB and the summary."""
    process = start(pictures, output)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, told
    return usage.ru_maxrss / 1024, json.loads(told)


def killed(pictures: str, output: str, count: int, latest: float) -> list[int]:
    """Kill runs at random moments up to `latest`, and return the number of chunks after each."""
    draw, done = random.Random(0), []
    for _ in range(count):
        process = start(pictures, output)
        time.sleep(draw.uniform(0, latest))
        process.kill()
        process.communicate()
        done.append(len(list(Path(output).glob("maps/*.parquet"))))
    return done


def report(
    pictures: int, few: float, many: float, told: dict[str, Any], kills: list[int]
) -> list[str]:
    """Compare the stores, and return the lines of the results."""
    whole, other = stored("many-maps"), stored("killed-maps")
    lines = Path("killed-maps/log.jsonl").read_text().splitlines()
    chunks = [json.loads(line)["chunk"] for line in lines]
    rates = told["rates"]
    return [
        "# A run that is killed",
        "",
        f"{pictures} JPEGs of 64 x 48, a network of one convolution, Grad-CAM, {CHUNK} pictures in",
        f"a chunk, {os.cpu_count()} processors; written by benchmarks/batch_kills.py.",
        "",
        "| what | result |",
        "|---|---|",
        f"| `kill -9` at random moments | {len(kills)} |",
        f"| chunks in the store after each | {', '.join(map(str, kills))} of {len(whole)} |",
        f"| the store has the bytes of an undisturbed run | {whole == other} |",
        f"| chunks that were stored twice | {len(chunks) - len(set(chunks))} |",
        f"| peak memory, {FEW} pictures | {few:.0f} MB |",
        f"| peak memory, {pictures} pictures | {many:.0f} MB, {many / few:.2f} x |",
        *(f"| pictures per second, {name} | {rate:.0f} |" for name, rate in rates.items()),
    ]


def stored(folder: str) -> dict[str, bytes]:
    """Return the content of each file of maps."""
    return {file.name: file.read_bytes() for file in Path(folder, "maps").iterdir()}


if __name__ == "__main__":
    main()
