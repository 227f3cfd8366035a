"""A target whose scores are made from those of another one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Self

from xaimaps.backend import Array
from xaimaps.targets import Target


@dataclass(frozen=True, eq=False)
class DerivedTarget(Target):
    """A target that a subclass derives from another one; no class of its own.

    Attributes:
        target: the other target.
    """

    target: Target

    @property
    def key(self) -> Hashable:
        return (type(self).__name__, self.target.key)

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.target.arrays

    def with_arrays(self, arrays: tuple[Array, ...]) -> Self:
        return replace(self, target=self.target.with_arrays(arrays))

    def indices_in(self, xp: Any, outputs: Array) -> None:
        return None
