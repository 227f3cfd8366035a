"""Plan the methods that `explain` and `compare` run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xaimaps._cli.options import able_methods

if TYPE_CHECKING:
    from xaimaps._run import Job
    from xaimaps.backend import Backend


def plan_all(
    model: Backend,
    names: Sequence[str],
    layer: str | tuple[str, ...] | None,
    options: dict[str, Any],
) -> list[Job]:
    """Check every method with the layer and the options that it takes.

    An option that no method takes is passed on, so that the first method refuses it.
    """
    from xaimaps._attribute import plan
    from xaimaps.methods import METHODS, get_method

    chosen = able_methods(model, METHODS) if "all" in names else names
    rows = [get_method(name) for name in chosen]
    anyone_layered = any(row.takes_layer for row in rows)
    general = {"augment", "low_pass"}
    useful = general.union(*(row.options for row in rows))
    return [
        plan(
            model,
            row,
            layer if row.takes_layer or not anyone_layered else None,
            {
                name: value
                for name, value in options.items()
                if name in row.options or name in general or name not in useful
            },
        )
        for row in rows
    ]
