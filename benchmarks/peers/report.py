"""The rows of all runs, kept as JSON, and the tables and the figure that are made of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._timing import versions
from benchmarks.peers.cases import FORWARD, FULL, LENGTHS, METHODS, WINDOW, Length
from benchmarks.peers.networks import MAKERS

RESULTS = Path(__file__).parents[1] / "results"
FIGURES = Path(__file__).parents[2] / "docs" / "images"
PACKAGES = (
    *("jax", "onnxruntime", "tensorflow", "tensorflow-cpu", "torch", "captum", "grad-cam"),
    *("torchcam", "tf-keras-vis", "xplique"),
)
OWN = "xaimaps, JAX"
"""The library that the others are compared with."""

CLOSE = 1.03
"""Up to this ratio, two times are equal."""


@dataclass(frozen=True)
class Row:
    """What one case took in every library.

    Attributes:
        network: its name.
        batch: the number of images.
        precision: that of the values and products.
        method: the method, or `FORWARD`.
        seconds: the median, the least and the largest time, and the number of rounds, by library.
        reasons: why a library was not measured, or "all" of them.
        length: how many passes methods of many passes had, a key of `LENGTHS`.
    """

    network: str
    batch: int
    precision: str
    method: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    length: str = FULL

    @property
    def name(self) -> str:
        """The method, and that it had fewer passes than usual."""
        return self.method if self.length == FULL else f"{self.method}, {self.length}"

    @property
    def key(self) -> tuple[str, int, str, str]:
        return self.network, self.batch, self.precision, self.method

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as long as xaimaps in JAX the libraries take."""
        if OWN not in self.seconds:
            return {}
        own = self.seconds[OWN][0]
        return {name: found[0] / own for name, found in self.seconds.items()}


def file_of(device: str) -> Path:
    """Return the file of the rows of a kind of device, `cpu` or `gpu`."""
    return RESULTS / f"peers-{device}.json"


def rows_of(device: str) -> list[Row]:
    """Return the rows of a kind of device."""
    if not file_of(device).exists():
        return []
    return [Row(**row) for row in json.loads(file_of(device).read_text())["rows"]]


def add(row: Row) -> None:
    """Add a row to those of the device that JAX uses, in place of an older one of the same case."""
    import jax

    device = jax.local_devices()[0]
    known = {one.key: one for one in rows_of(device.platform)} | {row.key: row}
    environment = {
        "device": device.device_kind,
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "date": f"{date.today()}",
        **versions(*PACKAGES),
    }
    rows = [asdict(known[key]) for key in sorted(known, key=_place)]
    text = json.dumps({"environment": environment, "rows": rows}, indent=1)
    file_of(device.platform).write_text(text + "\n")


def _place(key: tuple[str, int, str, str]) -> tuple[int, str, int, int]:
    """Return where the row of a key is: by network, precision, batch size and method."""
    network, batch, precision, method = key
    return [*MAKERS].index(network), precision, batch, [FORWARD, *METHODS].index(method)


def write() -> None:
    """Write the page and the figure of every kind of device that has been measured."""
    for device in ("cpu", "gpu"):
        if file_of(device).exists():
            (RESULTS / f"peers-{device}.md").write_text(page(device))
            figure(rows_of(device)).savefig(FIGURES / f"peers-{device}.png", dpi=110)


def page(device: str) -> str:
    """Return the page of results of a kind of device."""
    about = json.loads(file_of(device).read_text())["environment"]
    told = ", ".join(f"{name} {value}" for name, value in about.items())
    return "\n".join(
        [
            "# Beside other libraries\n",
            f"Written by `python -m benchmarks`: {told}.\n",
            "Milliseconds for each image, of a user's call from images in numpy to maps in numpy, "
            "and in brackets the ratio to xaimaps in JAX. The times of a row are of one run, and "
            "different rows may be of different processors. `forward` is the network alone, of "
            "which the columns of Captum and Xplique have that of PyTorch and of TensorFlow. "
            f"Usually, {_told(LENGTHS[FULL])}. Rows with `short` are of fewer passes, for networks "
            f"whose passes take long: {_told(LENGTHS['short'])}. Score-CAM and Ablation-CAM are of "
            "all channels.\n",
            *tables(rows_of(device)),
        ]
    )


def _told(length: Length) -> str:
    """Return how many passes the methods have, as part of a sentence."""
    return (
        f"integrated gradients have {length.steps} steps, SmoothGrad {length.samples} samples, "
        f"occlusion windows of {WINDOW} pixels every {length.stride} pixels, and RISE "
        f"{length.masks} masks"
    )


def tables(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of a table for each network, batch size and precision."""
    for case in dict.fromkeys(row.key[:3] for row in rows):
        own = [row for row in rows if row.key[:3] == case]
        names = list(dict.fromkeys(name for row in own for name in row.seconds))
        network, batch, precision = case
        yield f"## {network}, {batch} image{'s' * (batch > 1)}, {precision}\n"
        yield f"| method | {' | '.join(names)} |\n|---{'|---' * len(names)}|"
        for row in filter(lambda row: row.seconds, own):
            yield f"| `{row.name}` | {' | '.join(cell(row, name) for name in names)} |"
        yield ""
        yield from notes(own)
        yield ""


def notes(rows: list[Row]) -> Iterator[str]:
    """Yield a line for each reason why something was not measured."""
    methods: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for reason in row.reasons.items():
            methods.setdefault(reason, []).append(row.method)
    for (name, why), found in methods.items():
        yield f"- {name}, {', '.join(found)}: {why}"


def cell(row: Row, name: str) -> str:
    """Return the milliseconds of each image, and their ratio to those of xaimaps in JAX."""
    if name not in row.seconds:
        return ""
    ratio = "" if name == OWN or OWN not in row.seconds else f" ({row.ratios[name]:.1f} x)"
    time = 1e3 * row.seconds[name][0] / row.batch
    return f"{time:.3g}{ratio}" if time < 100 else f"{time:,.0f}{ratio}"


def summary(rows: list[Row]) -> str:
    """Return a table of how many times as long as xaimaps in JAX each library takes."""
    lines = ["| library | cases | least | median | most |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(n for row in methods(rows) for n in row.ratios if n != OWN):
        found = sorted(
            (row.ratios[name], row.key, row) for row in methods(rows) if name in row.ratios
        )
        ends = [f"{ratio:.1f} ({case(row)})" for ratio, _, row in (found[0], found[-1])]
        middle = median(ratio for ratio, *_ in found)
        lines.append(f"| {name} | {len(found)} | {ends[0]} | {middle:.1f} | {ends[1]} |")
    return "\n".join(lines)


def losses(rows: list[Row]) -> str:
    """Return a list of the cases in which another library is faster than each backend here."""
    lines = []
    for row in methods(rows):
        ours = min((s[0] for n, s in row.seconds.items() if n.startswith("xaimaps")), default=0)
        for name, (theirs, *_) in row.seconds.items():
            if not name.startswith("xaimaps") and theirs * CLOSE < ours:
                lines.append(f"- {case(row)}: {name} {ours / theirs:.2f} times as fast")
    return "\n".join(lines) or "- none"


def methods(rows: list[Row]) -> list[Row]:
    """Return the rows of methods, without those of networks alone."""
    return [row for row in rows if row.method != FORWARD]


def case(row: Row) -> str:
    """Return a short name of a row's case."""
    return f"{row.name}, {row.network}, {row.batch}"


def figure(rows: list[Row]) -> Any:
    """Draw the ratios of all libraries, a panel for each network."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row.network for row in rows))
    names = [n for n in dict.fromkeys(n for row in rows for n in row.seconds) if n != OWN]
    kinds = list(dict.fromkeys(row.method for row in methods(rows)))
    drawn = Figure(figsize=(2 + 2.6 * len(networks), 4.2), layout="constrained")
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(1, len(networks), sharex=True, sharey=True, squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        for place, name in enumerate(names):
            own = [row for row in methods(rows) if row.network == network and name in row.ratios]
            heights = [kinds.index(row.method) + (place - len(names) / 2) / 12 for row in own]
            axes.plot(
                [row.ratios[name] for row in own], heights, "o", ms=4, label=name, color=f"C{place}"
            )
        axes.axvline(1, color="black", lw=0.8)
        axes.set(title=network, xscale="log", xlabel="time over xaimaps in JAX")
        axes.set_yticks(range(len(kinds)), kinds)
        axes.grid(axis="y", lw=0.3)
    panels[0].invert_yaxis()
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].xaxis.set_minor_formatter("")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn
