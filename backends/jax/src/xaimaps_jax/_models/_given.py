"""`Given`: what a user gives with a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xaimaps_jax._checkpoint import Checkpoint

Params = Any


@dataclass(frozen=True)
class Given:
    """What a user gives with a model.

    Attributes:
        params: the parameters; None for a model that holds its own.
        call: keyword arguments of the model's call.
        weights: a checkpoint, whose values replace those of the parameters.
    """

    params: Params = None
    call: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None

    def parameters(
        self, own: Params = None, tree: Callable[[Checkpoint], Params] = Checkpoint.tree
    ) -> Params:
        """Return the parameters to use, or None if there are none.

        Args:
            own: those that the model holds.
            tree: makes the library's form of a checkpoint when neither model nor user has any.
        """
        held = own if self.params is None else self.params
        if self.weights is None:
            return held
        stored = Checkpoint.read(self.weights)
        return tree(stored) if held is None else stored.filled(held)
