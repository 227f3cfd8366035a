"""The option `--with`: other models than MODEL, which are loaded by the same options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from xaimaps._cli.completions import complete_files
from xaimaps._cli.headings import option


def with_option(help: str) -> Callable[[Any], Any]:
    """Make the option, with a command's own help."""
    return option(
        "Model", "--with", "others", multiple=True, metavar="MODEL", help=help,
        shell_complete=complete_files("MODELS"),
    )  # fmt: skip


def shared(loading: dict[str, Any]) -> dict[str, Any]:
    """Return the loading options that do not apply to MODEL only."""
    own = {"weights", "allow_unsafe", "custom_objects"}
    return {name: value for name, value in loading.items() if name not in own}


def distinct_names(files: Sequence[str]) -> list[str]:
    """Return the name of each file, or its path if the name is not unique."""
    if len(set(files)) < len(files):
        raise click.UsageError("--with must name each file once, got one twice")
    names = [Path(file).name for file in files]
    return [
        name if names.count(name) == 1 else file for name, file in zip(names, files, strict=True)
    ]
