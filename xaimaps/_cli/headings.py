"""Options that the help of a command lists under headings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

HEADINGS = ("Model", "Pictures", "Explanation", "Output", "Other options")
"""The headings in the order of the help."""


class Option(click.Option):
    """An option with the heading under which the help lists it."""

    def __init__(self, *names: Any, heading: str, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.heading = heading


class Command(click.Command):
    """A command whose help lists options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for one in self.get_params(ctx):
            if isinstance(one, click.Option) and (record := one.get_help_record(ctx)):
                sections[getattr(one, "heading", HEADINGS[-1])].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def option(heading: str, *names: str, **attributes: Any) -> Callable[[Function], Function]:
    """Return `click.option` with a heading."""
    return click.option(*names, cls=Option, heading=heading, **attributes)
