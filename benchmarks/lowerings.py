"""What each choice of onnxjax's table of lowerings gains on this machine.

    uv run --group frameworks python -m benchmarks lowerings [--only NETWORK ...] [--batch 1 8]

Saliency of each network is compiled with the lowering of this platform, with each of its choices
switched, with none and with all of them. Attention as a product, a softmax and a product, which is
how ONNX files have it, is compared with `jax.nn.dot_product_attention`. Written to
benchmarks/results/lowerings-cpu.md, or -gpu.md.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from onnxjax._ops.platforms import BY_PLATFORM, XLA, Lowering

import xaimaps
from benchmarks._timing import Call, interleaved, machine, medians
from benchmarks.peers.cases import CLASS
from benchmarks.peers.networks import MAKERS, network, photographs

RESULTS = Path(__file__).parent / "results"
FEW = 32
"""The products for each output of the choice that is a number, where it is switched on."""

EXACT = ("plain_doubles",)
"""The choices that are not made for speed."""

TOKENS, HEADS, WIDTH = 197, 12, 64
"""The attention of a ViT-B/16."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[*MAKERS], choices=MAKERS, metavar="NETWORK")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    args = parser.parse_args()
    platform = jax.default_backend()
    lines = [
        "# What each lowering gains\n",
        f"On {machine('jax', 'jaxlib')}; written by `python -m benchmarks lowerings`.",
        "Milliseconds, and in brackets the ratio to the first column. The first is as",
        "`onnxjax/_ops/platforms.py` chooses; each of the others switches one choice, or all.\n",
    ]
    for size in args.batch:
        rows = [(name, saliency(name, size, platform)) for name in args.only]
        lines += table(f"Saliency, {size} image{'s' * (size > 1)}", "network", rows)
    forms = [(f"{size}, {dtype}", attention(size, dtype)) for size in args.batch for dtype in TYPES]
    lines += table("Attention, values and gradients", "images, type", forms)
    (RESULTS / f"lowerings-{platform}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def table(title: str, of: str, rows: Sequence[tuple[str, Mapping[str, float]]]) -> Iterator[str]:
    """Yield the lines of a table of seconds."""
    columns = list(rows[0][1])
    yield f"## {title}\n"
    yield f"| {of} | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for name, found in rows:
        first = found[columns[0]]
        cells = (f"{found[one] * 1e3:.3g} ({found[one] / first:.2f} x)" for one in columns)
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def variants(own: Lowering) -> dict[str, Lowering]:
    """Return a lowering, those with one of its choices switched, and those with none and all."""
    on: dict[str, Any] = {one.name: True for one in fields(Lowering) if one.name not in EXACT}
    on["few_products"] = FEW
    found = {"as chosen": own}
    for name, value in on.items():
        is_on = bool(getattr(own, name))
        switched: Any = {name: type(value)() if is_on else value}
        found[f"{name}: {'off' if is_on else 'on'}"] = replace(own, **switched)
    return {**found, "none": XLA, "all": replace(own, **on)}


def saliency(name: str, size: int, platform: str) -> dict[str, float]:
    """Return the median seconds of saliency with each lowering."""
    file, images = network(name).file, photographs(size)
    own = BY_PLATFORM.get(platform, XLA)
    runs: dict[str, Call] = {}
    for told, other in variants(own).items():
        BY_PLATFORM[platform] = other
        jax.clear_caches()  # of functions traced with the choice before
        model = xaimaps.load(file, backend="jax", preprocess="tf")
        run = functools.partial(
            xaimaps.attribute, model, images, "saliency", target=CLASS, batch_size=size
        )
        run()  # which compiles it
        runs[told] = run
    BY_PLATFORM[platform] = own
    return medians(interleaved(runs))


TYPES = ("float32", "bfloat16")


def attention(size: int, dtype: str) -> dict[str, float]:
    """Return the median seconds of each form of attention with its gradient."""
    shape = (3, size, TOKENS, HEADS, WIDTH)
    parts = [*jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)]
    forms: dict[str, Callable[..., Any]] = {
        "products and softmax": by_products,
        "dot_product_attention": jax.nn.dot_product_attention,
    }
    if jax.default_backend() == "gpu" and dtype == "bfloat16":  # cuDNN takes no float32
        forms["cuDNN"] = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    runs = {name: with_gradient(form, parts) for name, form in forms.items()}
    return medians(interleaved(runs))


def by_products(q: Any, k: Any, v: Any) -> Any:
    """Return attention as ONNX files have it, with its softmax in float32."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * WIDTH**-0.5
    weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(q.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def with_gradient(form: Callable[..., Any], parts: list[Any]) -> Call:
    """Return a call that computes a form of attention and its gradients, compiled."""

    def total(*parts: Any) -> Any:
        return form(*parts).astype(jnp.float32).sum()

    compiled = jax.jit(jax.value_and_grad(total, (0, 1, 2))).lower(*parts).compile()
    run = functools.partial(compiled, *parts)
    return lambda: jax.block_until_ready(run())


if __name__ == "__main__":
    main()
