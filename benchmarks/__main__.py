"""Run a benchmark: `python -m benchmarks [NAME] [options]`; without a name, `peers`."""

from __future__ import annotations

import argparse
import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
DEFAULT = "peers"


def summaries() -> dict[str, str]:
    """Return the first line of each benchmark's docstring, without importing it."""
    files = {f.stem: f for f in HERE.glob("[!_]*.py")}
    files |= {f.parent.name: f for f in HERE.glob("*/__main__.py")}
    told = {n: ast.get_docstring(ast.parse(f.read_text())) or "" for n, f in files.items()}
    return {name: told[name].partition("\n")[0] for name in sorted(told)}


def main() -> None:
    """Run the benchmark that the first word names, with the other words as its options."""
    known = summaries()
    lines = "\n".join(f"  {name:18}{line}" for name, line in known.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        usage=f"%(prog)s [NAME] [options]; without a name: {DEFAULT}",
        description=f"benchmarks:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = sys.argv[1:]
    if words[:1] in (["-h"], ["--help"]):
        parser.parse_args(words)
    name, options = (
        (DEFAULT, words) if words[:1] == [] or words[0].startswith("-") else (words[0], words[1:])
    )
    if name not in known:
        parser.error(f"NAME must be one of {', '.join(known)}, got {name!r}")
    sys.argv = [f"python -m benchmarks {name}", *options]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
