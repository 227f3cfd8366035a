"""Bad input on the command line, by kind; each case has its number in numbers.txt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BASE = "explain cat.png -m ok.onnx -p unit -o out".split()
EIGEN = [*BASE, "-b", "onnxruntime", "-M", "eigen_cam"]


@dataclass(frozen=True)
class Case:
    """A command, the number of its kind, its exit status, and a word of its message."""

    number: str
    words: list[str]
    status: int = 2
    says: str = ""


def cases() -> Iterator[Case]:
    """Yield the cases of all kinds."""
    yield Case("R10", BASE, 0)  # a sound command, without which the others would prove nothing
    yield from option_cases()
    yield from target_cases()
    yield from loading_cases()
    yield from output_cases()
    yield from picture_cases()
    yield from model_cases()
    yield from keras_cases()


def option_cases() -> Iterator[Case]:
    """Yield options of a wrong type, of each type that a method has."""
    options = (("grad_cam", "relu"), ("rise", "n_masks"), ("guided_ig", "fraction"))
    odd = ["maybe", "(" * 3000, "-" * 9000 + "1", "9" * 5000, "b'x'", f"[{'1,' * 60_000}]"]
    for value in (*odd, "{}"):
        for method, option in options:
            words = [*BASE, "-M", method, "-O", f"{option}={value}"]
            yield Case("R10", words, says=f"`{option}` must be")
    for method, option in (("guided_ig", "fraction=nan"), ("rise", "cells=0"), ("rise", "p=1e999")):
        yield Case("R11", [*BASE, "-M", method, "-O", option], says="must be")
    yield Case("R10", [*BASE, "-O", "no_such=1"], says="has no option")
    yield Case("R10", [*BASE, "-O", "relu"], says="NAME=VALUE")


def target_cases() -> Iterator[Case]:
    """Yield targets and layers that no model has."""
    numbers = {"9" * 5000: "R09", "5": "T01", "-1": "T02"}
    odd = ("1.0", "nan", "None", "(" * 3000, "box:", "region:", "")
    for text in (*numbers, *odd):
        yield Case(numbers.get(text, "T03"), [*BASE, f"--target={text}"])
    yield Case("L01", [*BASE, "-l", "conw"], says="nearest: 'conv'")
    yield Case("L02", [*BASE, "-l", "y"], says="spatial extent")
    yield Case("L03", [*BASE, "-l", "p"], says="spatial extent")
    yield Case("L05", ["explain", "cat.png", "-m", "infinite.onnx", *BASE[4:], "-M", "cam"])


def loading_cases() -> Iterator[Case]:
    """Yield odd arguments of the loaders, and labels from files that are none."""
    for pair in ("cls=1", "self=1", "output=5", "layout=x", "no_such=1", "inputs=3"):
        yield Case("R12", [*BASE, "--load", pair])
    for value in ("5", "[1]", "[]", "{}", "NoSuch"):
        yield Case("R12", [*EIGEN, "--load", f"providers={value}"], says="`providers` must be")
    for labels in ("pipe", "/dev/zero", "folder", "missing.txt", "cat.png"):
        yield Case("R14", [*BASE, "--labels", labels], says="labels")
    for labels in ("bom.txt", "feeds.txt"):
        yield Case("R13", [*BASE, "--labels", labels, "-t", "d"], 0, "d")
    yield Case("R07", [*BASE, "--input-size", "0", "0"])
    yield Case("R07", [*BASE, "--input-size", "100000", "100000"])
    yield Case("R15", "parity ok.onnx cat.png -p unit --input-size 16 16".split(), says="32")


def output_cases() -> Iterator[Case]:
    """Yield outputs that cannot be written."""
    yield Case("O01", [*BASE[:-1], "cat.png"], says="cat.png")
    yield Case("O01", [*BASE[:-1], "/proc/out"], says="/proc/out")
    yield Case("R08", "compare cat.png -m ok.onnx -p unit -o .".split())
    yield Case("R08", "compare cat.png -m ok.onnx -p unit -o folder".split())
    yield Case("O01", "batch cat.png -m ok.onnx -p unit -o cat.png".split(), says="cat.png")
    yield Case("O01", "batch cat.png -m ok.onnx -p unit -o /proc/out".split(), says="/proc/out")
    yield Case("F07", "batch cat.png -m ok.onnx -p unit -o run --shard 3/2".split(), says="I/N")
    yield Case("F12", "batch cat.png -m ok.onnx -p unit -o run --ray nowhere:1".split(), says="ray")
    yield Case("F15", "reproduce cat.png".split())
    yield Case("F15", "reproduce missing.json".split())
    yield Case("R08", "convert missing.keras /proc/o.onnx".split())
    yield Case("R08", "convert sound.keras /proc/o.onnx".split(), says="/proc")


def picture_cases() -> Iterator[Case]:
    """Yield files that are no pictures, and pictures at the edges of what is one."""
    refused = {
        "empty.png": "I01",
        "text.png": "I02",
        "half.png": "I03",
        "half.jpg": "I04",
        "bomb.png": "I11",
        "loop": "I36",
        "dangling.png": "I37",
        "named.png": "I38",
        "pipe": "I39",
        "/dev/zero": "I39",
        "folder/none*": "I45",
        "missing.png": "I37",
    }
    for name, number in refused.items():
        says = "pixels" if name == "bomb.png" else name.split("/")[0]
        yield Case(number, ["explain", name, *BASE[2:]], says=says)
    for name, number in {"one.png": "I33", "long.png": "I34", "black.png": "I46"}.items():
        yield Case(number, ["explain", name, *BASE[2:]], 0)


def model_cases() -> Iterator[Case]:
    """Yield damaged and hostile ONNX files, in both backends."""
    refused = {
        "empty": "M01",
        "half": "M02",
        "text": "M03",
        "outside": "M06",
        "ops": "M15",
        "opset": "M18",
        "branch": "M19",
        "dilation": "M19",
        "functions": "M20",
        "recursion": "M20",
        "loop": "R02",
        "bfloat16": "R01",
        "half_kernel": "R01",
    }
    for name, number in refused.items():
        yield Case(number, ["explain", "cat.png", "-m", f"{name}.onnx", *BASE[4:]])
    for name in ("empty", "outside", "functions", "recursion", "opset", "loop"):
        yield Case(refused[name], ["explain", "cat.png", "-m", f"{name}.onnx", *EIGEN[4:]])
    for words in (BASE[4:], EIGEN[4:]):
        yield Case("R05", ["explain", "cat.png", "-m", "scalar.onnx", *words], says="outputs must")
    yield Case("R05", "parity scalar.onnx cat.png -p unit".split(), says="outputs must")
    for name, number in {"nan": "R03", "infinite": "R04"}.items():
        for method in ("grad_cam", "saliency"):
            words = ["explain", "cat.png", "-m", f"{name}.onnx", *BASE[4:], "-M", method, "-t", "0"]
            yield Case(number, words, says="NaN")
    # The map of a method that has no target does not depend on the outputs; a note names them.
    yield Case("R03", ["explain", "cat.png", "-m", "nan.onnx", *EIGEN[4:]], 0, "outputs are NaN")
    yield Case("M00", "layers -m missing.onnx".split(), says="missing.onnx")


def keras_cases() -> Iterator[Case]:
    """Yield files that are no Keras models, and one of two outputs."""
    for name in ("empty.keras", "text.keras", "empty.h5", "text.h5", "missing.keras"):
        yield Case("K01", ["explain", "cat.png", "-m", name, *BASE[4:]], says=name)
    words = ["explain", "cat.png", "-m", "two.keras", *BASE[4:], "-M", "grad_cam", "--json"]
    yield Case("R06", words, 0, "the model has 2 outputs")
    words = ["explain", "cat.png", "-m", "any.keras", *BASE[4:], "--input-size", "100000", "100000"]
    yield Case("R07", words)
