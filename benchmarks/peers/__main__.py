"""xaimaps beside Captum, pytorch-grad-cam, torch-cam, tf-keras-vis and Xplique.

    uv run --group frameworks --with captum --with grad-cam --with torchcam --with tf-keras-vis \
        --with xplique --with onnx2torch python -m benchmarks [--only ResNet50 ...] [--batch 1 8]

Every library explains the same photograph by the same networks, with the same weights and the same
number of passes, on the same processors or GPU: xaimaps from an ONNX file in JAX, with
`forward="auto"` and in ONNX Runtime, and from the Keras model in TensorFlow; the others from that
Keras model or the ONNX file as a PyTorch module. The calls are those of a user, from images in
numpy to maps in numpy. They run one after the other in each round, so that whatever else the
machine does touches all of them. What one run measures is added to
benchmarks/results/peers-cpu.json, or -gpu.json, from which the tables and figures are made. A
library that cannot be imported is left out. A case that needs more than --limit seconds in a
library is not measured, and a run in PyTorch or TensorFlow ends after --stop seconds.
"""

from __future__ import annotations

import argparse
import importlib
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks._timing import interleaved, medians, seconds
from benchmarks.peers.cases import FORWARD, FULL, LENGTHS, METHODS, Calls
from benchmarks.peers.networks import MAKERS, Array, Network, network, photographs
from benchmarks.peers.report import Row, add, case, cell, write
from xaimaps.backend import Precision

LIBRARIES = {
    "xaimaps, JAX": "ours:in_jax",
    "xaimaps, auto": "ours:in_auto",
    "xaimaps, ONNX Runtime": "ours:in_onnxruntime",
    "xaimaps, TensorFlow": "ours:in_tensorflow",
    "Captum": "with_torch:of_captum",
    "pytorch-grad-cam": "with_torch:of_grad_cam",
    "torch-cam": "with_torch:of_torch_cam",
    "tf-keras-vis": "with_tensorflow:of_keras_vis",
    "Xplique": "with_tensorflow:of_xplique",
}
"""Where the calls of each library are made, whose modules import it."""

LONG_S = 5.0
"""The first run in PyTorch counts if it is this long, as it does not compile."""

LONGEST_S = 60.0
"""The first run counts in every library if it is this long, of which compiling is a small part."""

AGREEMENT = 1e-3
"""How far outputs may differ between frameworks, over the largest; more is another network."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[*MAKERS], choices=MAKERS, metavar="NETWORK")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--libraries", nargs="+", default=[*LIBRARIES], choices=LIBRARIES)
    parser.add_argument("--precision", default="float32", choices=get_args(Precision))
    parser.add_argument("--length", default=FULL, choices=LENGTHS, help="of methods of many passes")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of one run, expected")
    parser.add_argument("--stop", type=float, default=3600.0, help="seconds of one run, measured")
    parser.add_argument("--into", type=Path, default=Path("build/peers"), help="of ONNX files")
    parser.add_argument("--write", action="store_true", help="only make the page and the figure")
    args = parser.parse_args()
    if not args.write:
        for name in args.only:
            model = network(name, args.into)
            for size in args.batch:
                for row in measured(model, photographs(size), args):
                    add(row)
                    print(
                        " | ".join([case(row), *(f"{n} {cell(row, n)}" for n in row.seconds)]),
                        flush=True,
                    )
    write()


def measured(model: Network, images: Array, args: Any) -> Iterator[Row]:
    """Yield a row for the network alone, and one for each method."""
    reasons: dict[str, str] = {}
    calls = dict(usable(model, images, args, reasons))
    fields = {"network": model.name, "batch": len(images), "precision": args.precision}
    alone = row_of(calls, FORWARD, reasons, args.stop)
    yield Row(**fields, method=FORWARD, **alone)
    slowest = max(found[0] for found in alone["seconds"].values())
    length = LENGTHS[args.length]
    for method in args.methods:
        own = fields | {"length": args.length if method in length.repeated else FULL}
        expected = slowest * length.passes(method, model.channels)
        if expected < args.limit:
            yield Row(**own, method=method, **row_of(calls, method, reasons, args.stop))
        else:
            yield Row(**own, method=method, reasons={"all": f"about {expected:.0f} s for a run"})


def usable(
    model: Network, images: Array, args: Any, reasons: dict[str, str]
) -> Iterator[tuple[str, Calls]]:
    """Yield the calls of each library that can be used, and add why others cannot.

    Raises:
        SystemExit: the network has other outputs in a library.
    """
    outputs: dict[str, Array] = {}
    for name in args.libraries:
        module, _, make = LIBRARIES[name].partition(":")
        try:
            made = importlib.import_module(f"benchmarks.peers.{module}")
            length = LENGTHS[args.length]
            found: Calls = getattr(made, make)(model, images, args.precision, length)
        except Exception as error:  # of the library
            reasons[name] = told(error)
            continue
        if FORWARD in found:
            outputs[name] = np.asarray(found[FORWARD](), np.float32)
        yield name, found
    first = next(iter(outputs.values()))
    atol = AGREEMENT * np.abs(first).max() * (1 if args.precision == "float32" else 100)
    others = [name for name, other in outputs.items() if not np.allclose(other, first, atol=atol)]
    if others:
        raise SystemExit(f"{model.name} has other outputs in {', '.join(others)}")


def row_of(
    calls: Mapping[str, Calls], method: str, reasons: Mapping[str, str], stop: float
) -> dict[str, Any]:
    """Time a method in every library that has it, and return the fields of its row."""
    first, known = {}, dict(reasons)
    for name, own in calls.items():
        if method in own:
            try:
                with stopped_after(stop):
                    first[name] = seconds(own[method])
            except Exception as error:  # of the library
                known[name] = told(error)
    limits = {name: LONG_S if "torch" in LIBRARIES[name] else LONGEST_S for name in first}
    long = {name: [found] for name, found in first.items() if found > limits[name]}
    times = interleaved({name: calls[name][method] for name in first if name not in long}) | long
    middle = medians(times)
    found = {n: [middle[n], min(times[n]), max(times[n]), len(times[n])] for n in first}
    return {"seconds": found, "reasons": known}


@contextmanager
def stopped_after(limit: float) -> Iterator[None]:
    """End a run after so many seconds, at the next line of Python that it comes to.

    Raises:
        TimeoutError: the time is over.
    """

    def stop(*_: Any) -> None:
        raise TimeoutError(f"stopped after {limit:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def told(error: Exception) -> str:
    """Return an error as one short line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"


if __name__ == "__main__":
    main()
