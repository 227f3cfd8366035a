"""`xaimaps reproduce`: recompute the maps of a manifest, and compare them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xaimaps._cli.console import print_json, print_table, printable
from xaimaps._cli.headings import Command
from xaimaps._cli.options import WORDS, json_option, unsafe_option
from xaimaps._cli.parsing import in_words

if TYPE_CHECKING:
    from xaimaps._reproduce import Reproduction


@click.command(cls=Command)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("-m", "--model", default=None, help="The model's file, if it has moved.")
@unsafe_option
@click.option("--tolerance", default=1e-4, show_default=True, type=click.FloatRange(0),
              help="The largest difference of a map, relative to its largest value.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None,
              help="A folder to write the new maps to.")  # fmt: skip
@json_option
def reproduce(
    manifest: Path,
    model: str | None,
    allow_unsafe: bool,
    tolerance: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Recompute the maps of MANIFEST, and compare them with the stored ones.

    Exit status 1 means that a map differs by more than the tolerance.
    """
    from xaimaps._reproduce import reproduce as run

    with in_words(WORDS):
        found = run(manifest, model=model, allow_unsafe=allow_unsafe, tolerance=tolerance)
    files = [] if output is None else found.result.save(output)
    _report(found, files, as_json)
    sys.exit(0 if found.agrees else 1)


def _report(found: Reproduction, files: list[Path], as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "agrees": found.agrees,
                "tolerance": found.tolerance,
                "differences": found.differences,
                "files": [str(path) for path in files],
            }
        )
        return
    print_table(
        f"{found.result.method}: {'the same' if found.agrees else 'differs'}",
        ("target", "largest difference, relative", "tolerance"),
        [
            (target, f"{difference:.1e}", f"{found.tolerance:.0e}")
            for target, difference in found.differences.items()
        ],
    )
    for path in files:
        click.echo(printable(str(path)))
