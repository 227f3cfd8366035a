"""Bad input on the command line: each must end in one sentence, quickly, with the right status.

    uv run --group frameworks python benchmarks/faults.py [WORD ...]

Each case is a command in a process of its own with limits of time and memory. The last line counts
the cases: tried, good and bad. A WORD chooses the cases whose command contains it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from PIL import Image

import xaimaps.zoo

SECONDS = 40
MEMORY = 2**34
LONGEST = 2_100

BASE = "explain cat.png -m ok.onnx -p unit -o out".split()
EIGEN = [*BASE, "-b", "onnxruntime", "-M", "eigen_cam"]


@dataclass(frozen=True)
class Case:
    """A command, its exit status, and a word of its message."""

    words: list[str]
    status: int = 2
    says: str = ""


def cases() -> Iterator[Case]:
    """Yield the cases of all kinds."""
    yield Case(BASE, 0)
    yield from option_cases()
    yield from target_cases()
    yield from loading_cases()
    yield from output_cases()
    yield from picture_cases()
    yield from model_cases()
    yield from keras_cases()


def option_cases() -> Iterator[Case]:
    """Yield options of a wrong type, of each type that a method has."""
    odd = ["maybe", "(" * 3000, "-" * 9000 + "1", "9" * 5000, "b'x'", f"[{'1,' * 60_000}]", "{}"]
    for value in odd:
        yield Case([*BASE, "-O", f"relu={value}"], says="`relu` must be")
        yield Case([*BASE, "-M", "rise", "-O", f"n_masks={value}"], says="`n_masks` must be")
        yield Case([*BASE, "-M", "guided_ig", "-O", f"fraction={value}"], says="`fraction` must be")
    for method, option in (("guided_ig", "fraction=nan"), ("rise", "cells=0"), ("rise", "p=1e999")):
        yield Case([*BASE, "-M", method, "-O", option], says="must be")
    yield Case([*BASE, "-O", "no_such=1"], says="has no option")
    yield Case([*BASE, "-O", "relu"], says="NAME=VALUE")


def target_cases() -> Iterator[Case]:
    """Yield targets that no model has."""
    for text in ("9" * 5000, "5", "-1", "1.0", "nan", "None", "(" * 3000, "box:", "region:", ""):
        yield Case([*BASE, f"--target={text}"])


def loading_cases() -> Iterator[Case]:
    """Yield odd arguments of the loaders, and labels from files that are none."""
    for pair in ("cls=1", "self=1", "output=5", "layout=x", "no_such=1", "inputs=3"):
        yield Case([*BASE, "--load", pair])
    for value in ("5", "[1]", "[]", "{}", "NoSuch"):
        yield Case([*EIGEN, "--load", f"providers={value}"], says="`providers` must be")
    for labels in ("pipe", "/dev/zero", "folder", "missing.txt", "cat.png"):
        yield Case([*BASE, "--labels", labels], says="labels")
    yield Case([*BASE, "--input-size", "0", "0"])
    yield Case([*BASE, "--input-size", "100000", "100000"])


def output_cases() -> Iterator[Case]:
    """Yield outputs that cannot be written."""
    yield Case([*BASE[:-1], "cat.png"], says="cat.png")
    yield Case([*BASE[:-1], "/proc/out"], says="/proc/out")
    yield Case("compare cat.png -m ok.onnx -p unit -o .".split())
    yield Case("compare cat.png -m ok.onnx -p unit -o folder".split())
    yield Case("batch cat.png -m ok.onnx -p unit -o cat.png".split(), says="cat.png")
    yield Case("batch cat.png -m ok.onnx -p unit -o /proc/out".split(), says="/proc/out")
    yield Case("batch cat.png -m ok.onnx -p unit -o run --shard 3/2".split(), says="I/N")
    yield Case("batch cat.png -m ok.onnx -p unit -o run --ray nowhere:1".split(), says="ray")
    yield Case("reproduce cat.png".split())
    yield Case("reproduce missing.json".split())
    yield Case("convert missing.keras /proc/o.onnx".split())


def picture_cases() -> Iterator[Case]:
    """Yield files that are no pictures."""
    for name in (
        "empty.png",
        "text.png",
        "half.png",
        "pipe",
        "folder/none*",
        "missing.png",
        "loop",
    ):
        yield Case(["explain", name, *BASE[2:]], says=name.split("/")[0])
    yield Case(["explain", "bomb.png", *BASE[2:]], says="pixels")


def model_cases() -> Iterator[Case]:
    """Yield damaged and hostile ONNX files, in both backends."""
    names = "empty text half outside functions recursion loop dilation branch ops opset".split()
    for name in names:
        yield Case(["explain", "cat.png", "-m", f"{name}.onnx", *BASE[4:]])
    for name in ("empty", "outside", "functions", "recursion", "opset"):
        yield Case(["explain", "cat.png", "-m", f"{name}.onnx", *EIGEN[4:]])
    yield Case(["explain", "cat.png", "-m", "scalar.onnx", *BASE[4:]], says="outputs must")
    yield Case(["explain", "cat.png", "-m", "scalar.onnx", *EIGEN[4:]], says="outputs must")
    yield Case("parity scalar.onnx cat.png -p unit".split(), says="outputs must")
    yield Case("layers -m missing.onnx".split(), says="missing.onnx")


def keras_cases() -> Iterator[Case]:
    """Yield files that are no Keras models."""
    for name in ("empty.keras", "text.keras", "empty.h5", "text.h5", "missing.keras"):
        yield Case(["explain", "cat.png", "-m", name, *BASE[4:]], says=name)


def make_files() -> None:
    """Write the files of all cases into the current folder."""
    shutil.copy(xaimaps.zoo.PICTURES["chelsea"], "cat.png")
    whole = Path("cat.png").read_bytes()
    for name in ("empty.png", "empty.onnx", "empty.keras", "empty.h5"):
        Path(name).write_bytes(b"")
    for name in ("text.png", "text.onnx", "text.keras", "text.h5"):
        Path(name).write_text("no such file")
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (11_000, 11_000)).save("bomb.png")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    for name, model in models().items():
        Path(f"{name}.onnx").write_bytes(model.SerializeToString())
    Path("half.onnx").write_bytes(Path("ok.onnx").read_bytes()[:300])


def models() -> dict[str, onnx.ModelProto]:
    """Return a good model, and hostile ones."""
    node = helper.make_node
    missing = helper.make_graph([node("Relu", ["c"], ["t"])], "then", [], [value("missing", None)])
    other = helper.make_graph([node("Neg", ["c"], ["o"])], "else", [], [value("o", None)])
    body = helper.make_graph(
        [node("Add", ["s", "one"], ["s2"]), node("Identity", ["on"], ["on2"])],
        "body",
        [value("i", [], 7), value("on", [], 9), value("s", None)],
        [value("on2", [], 9), value("s2", None)],
    )
    branch = node("If", ["yes"], ["l"], then_branch=missing, else_branch=other)
    outside = model(node("Relu", ["c"], ["l"]))
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    opset = model(node("Relu", ["c"], ["l"]))
    opset.opset_import[0].version = 99
    scalar = model(node("Relu", ["c"], ["l"]))
    del scalar.graph.node[2:], scalar.graph.output[:]
    scalar.graph.node.append(node("ReduceMean", ["l"], ["y"], keepdims=0))
    scalar.graph.output.append(value("y", []))
    return {
        "ok": model(node("Relu", ["c"], ["l"])),
        "outside": outside,
        "functions": model(node("F17", ["c"], ["l"], domain="my"), functions(18)),
        "recursion": model(node("F0", ["c"], ["l"], domain="my"), functions(1, "F0")),
        "loop": model(node("Loop", ["many", "yes", "c"], ["l"], body=body)),
        "dilation": model(node("Conv", ["c", "k2"], ["l"], dilations=[0, 0])),
        "branch": model(branch),
        "ops": model(node("NoSuch", ["c"], ["l"])),
        "opset": opset,
        "scalar": scalar,
    }


def value(name: str, shape: list[int] | None, kind: int = 1) -> onnx.ValueInfoProto:
    """Return the description of a value."""
    return helper.make_tensor_value_info(name, kind, shape)


def functions(count: int, first: str = "") -> list[onnx.FunctionProto]:
    """Return functions that call the one before twice; `first` is what the first calls."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    found = []
    for i in range(count):
        called = f"F{i - 1}" if i else first or "Relu"
        domain = "my" if called != "Relu" else ""
        nodes = [
            helper.make_node(called, [a], [b], domain=domain) for a, b in (("a", "c"), ("c", "b"))
        ]
        found.append(helper.make_function("my", f"F{i}", ["a"], ["b"], nodes, imports))
    return found


def model(middle: onnx.NodeProto, calls: list[onnx.FunctionProto] | None = None) -> onnx.ModelProto:
    """Return a classifier with a node between its convolution and its pooling."""
    draw, node = np.random.default_rng(0).normal, helper.make_node
    arrays = {
        "k": draw(size=(4, 3, 3, 3)).astype("f4"),
        "k2": draw(size=(4, 4, 3, 3)).astype("f4"),
        "d": draw(size=(4, 5)).astype("f4"),
        "one": np.float32(1),
        "many": np.int64(10**9),
        "yes": np.array(True),
    }
    graph = helper.make_graph(
        [
            node("Conv", ["x", "k"], ["c"], name="conv"),
            middle,
            node("GlobalAveragePool", ["l"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "d"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("y", 1, ["N", 5])],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    found = helper.make_model(graph, opset_imports=imports, functions=calls or [])
    found.ir_version = 10
    return found


def limit_memory() -> None:
    """Limit the addresses of a child."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def fault_of(case: Case) -> str:
    """Run a case, and return what is wrong with its end; nothing if it is good."""
    command = [sys.executable, "-m", "xaimaps", *case.words]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            preexec_fn=limit_memory,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"more than {SECONDS} s"
    lines = done.stderr.strip().splitlines()
    if "Traceback" in done.stderr:
        return f"traceback: {lines[-1][:200]}"
    if done.returncode != case.status:
        return f"status {done.returncode}, not {case.status}: {lines[-1:]}"[:300]
    if case.status and (len(lines) != 1 or len(lines[0]) > LONGEST):
        return f"{len(lines)} lines of {len(done.stderr)} characters"
    return "" if case.says in done.stderr + done.stdout else f"no {case.says!r} in {lines}"[:300]


def main() -> None:
    """Try all cases, and print the bad ones."""
    bad = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_files()
        for case in cases():
            command = " ".join(case.words)
            if sys.argv[1:] and not any(word in command for word in sys.argv[1:]):
                continue
            begin, tried = time.perf_counter(), tried + 1
            if fault := fault_of(case):
                bad += 1
                print(
                    f"bad, {time.perf_counter() - begin:.0f} s: {command:.120}: {fault}", flush=True
                )
        os.chdir("/")
    print(f"tried {tried}, good {tried - bad}, bad {bad}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
