"""Resolve every extra for every platform and Python, for the page on installing.

    uv run python docs/make_platforms.py [--check]

Builds the wheels of this repository and asks uv which distributions each extra would install, from
wheels alone. Writes the table into docs/installing.md; with --check, it exits with 1 if the table
there is another. Nothing is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "installing.md"
BEGIN, END = "<!-- platforms -->\n", "<!-- end -->\n"
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux ARM": "aarch64-manylinux_2_28",
    "Windows": "x86_64-pc-windows-msvc",
    "macOS 14, Apple silicon": "aarch64-apple-darwin",
}
"""The names of platforms, and those that uv has for them."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: Sequence[str] = tuple(PROJECT["optional-dependencies"])
PYTHONS: Sequence[str] = tuple(
    name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name
)


def resolves(extra: str, platform: str, python: str, wheels: Path) -> bool:
    """Return whether wheels exist for all that an extra needs."""
    command = ("uv", "pip", "compile", "--quiet", "--only-binary", ":all:", "--find-links", wheels)
    chosen = ("--python-platform", PLATFORMS[platform], "--python-version", python, "-")
    done = subprocess.run(
        [*map(str, command), *chosen],
        input=f"xaimaps[{extra}]",
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"},
        cwd=wheels,
        capture_output=True,
        text=True,
    )
    if done.returncode and "No solution found" not in done.stderr:
        raise RuntimeError(done.stderr)
    return not done.returncode


def found(wheels: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each extra and platform, with the Pythons for which it resolves."""
    for extra in EXTRAS:
        for platform in PLATFORMS:
            yield extra, platform, [p for p in PYTHONS if resolves(extra, platform, p, wheels)]


def table(cells: Mapping[tuple[str, str], list[str]]) -> str:
    """Return the table of Markdown: extras down, platforms across."""
    head = f"| extra | {' | '.join(PLATFORMS)} |\n{'|---' * (len(PLATFORMS) + 1)}|\n"
    rows = (
        f"| `{extra}` | {' | '.join(_span(cells[extra, one]) for one in PLATFORMS)} |\n"
        for extra in EXTRAS
    )
    return head + "".join(rows)


def _span(pythons: Sequence[str]) -> str:
    return "all" if tuple(pythons) == tuple(PYTHONS) else ", ".join(pythons) or "no"


def main() -> int:
    """Write or check the table."""
    with tempfile.TemporaryDirectory() as folder:
        build = ["uv", "build", "--quiet", "--all-packages", "--wheel", "--out-dir", folder]
        subprocess.run(build, cwd=ROOT, check=True)
        new = table({(extra, one): pythons for extra, one, pythons in found(Path(folder))})
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    if "--check" in sys.argv:
        print(new)
        return int(old != new)
    PAGE.write_text(f"{before}{BEGIN}{new}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
