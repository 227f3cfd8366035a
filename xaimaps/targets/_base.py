"""The two forms of a target: what the user asked for, and the function of the outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xaimaps.errors import TargetError

if TYPE_CHECKING:
    from xaimaps.backend import Backend

Array = Any
Labels = Sequence[str] | None
Scoring = Callable[[Array], Array]


class TargetSpec(ABC):
    """What a user asked for, before the batch and the labels are known.

    Equal specs ask for the same. `str(spec)` is text that `parse_target` reads back, unless
    `unrecorded` says that text cannot hold it.
    """

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def resolve(self, batch: int, labels: Labels) -> Target:
        """Make the target for a batch of this many images.

        Raises:
            TargetError: the labels or the batch do not fit.
        """

    @property
    def members(self) -> tuple[TargetSpec, ...]:
        """The K targets one by one; of a single one, itself."""
        return (self,)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it names."""
        return ()

    @property
    def unrecorded(self) -> tuple[str, ...]:
        """What of it text cannot hold, in words."""
        return ()

    @property
    def is_function(self) -> bool:
        """Whether only the backend's own arrays can be scored, as a Python function may need."""
        return False

    def for_image(self, index: int) -> TargetSpec:
        """Return what is asked for one image of the batch, by itself."""
        return self

    def loaded(self, backend: Backend, size: tuple[int, int]) -> TargetSpec:
        """Return the same with its files read, by the model where it takes one.

        Args:
            backend: the model.
            size: the height and width of the images that are explained.
        """
        return self


class Target(ABC):
    """A function from outputs to scores that can be an argument of a compiled program.

    What changes from call to call is in `arrays`, whose last axis is the batch; what is fixed
    at compilation is in `key`.
    """

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Equal for two targets that the same compiled program serves."""

    @property
    def is_several(self) -> bool:
        """Whether the scores have a leading axis of K targets."""
        return False

    @property
    def has_place(self) -> bool:
        """Whether it names a part of the image, which is elsewhere if the image is mirrored."""
        return any(part.has_place for part in self.parts if part is not self)

    @property
    def parts(self) -> tuple[Target, ...]:
        """The K targets one by one; of a single one, itself."""
        return (self,)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arguments of the compiled program."""
        return ()

    def with_arrays(self, arrays: tuple[Array, ...]) -> Target:
        """Return the same target over other arrays."""
        return self

    @abstractmethod
    def indices_in(self, xp: Any, outputs: Array) -> Array | None:
        """Return the class of each score, shaped like the scores; None for what is no class."""

    def frozen(self, xp: Any, outputs: Array) -> Target:
        """Return the target that these outputs, of the clean images, decide on.

        The top class of a noisy or masked copy of an image may be another than the image's own.
        """
        indices = self.indices_in(xp, outputs)
        return self if indices is None else Classes(indices)

    def scores(self, xp: Any, outputs: Array) -> Array:
        """Return the scores `(N,)` or `(K, N)` of outputs `(N, ...)`."""
        chosen = one_hot(xp, self.indices_in(xp, outputs), outputs)
        return xp.sum(xp.where(chosen, outputs, xp.zeros_like(outputs)), axis=-1)


@dataclass(frozen=True, eq=False)
class Classes(Target):
    """The score of one class of each image, or of K.

    Attributes:
        indices: integers `(N,)` or `(K, N)`.
    """

    indices: Array

    @property
    def key(self) -> Hashable:
        return ("classes", self.is_several)

    @property
    def is_several(self) -> bool:
        return len(self.indices.shape) == 2

    @property
    def parts(self) -> tuple[Target, ...]:
        if not self.is_several:
            return (self,)
        return tuple(Classes(self.indices[k, ...]) for k in range(self.indices.shape[0]))

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.indices,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Classes:
        return Classes(*arrays)

    def indices_in(self, xp: Any, outputs: Array) -> Array:
        return self.indices


def one_hot(xp: Any, indices: Array, outputs: Array) -> Array:
    """Mark class `indices[..., n]` in a row of booleans for each image: `(..., N, classes)`.

    A mask instead of a gather is the same on every array namespace, and an index that is out
    of range marks nothing, instead of silently another class.
    """
    require_classes(outputs)
    return indices[..., None] == xp.arange(outputs.shape[-1], dtype=indices.dtype)


def require_classes(outputs: Array) -> None:
    """Raise a TargetError unless outputs are one row of classes for each image."""
    if len(outputs.shape) != 2:
        raise TargetError(
            f"outputs must be (N, classes) for a class as the target, got shape "
            f"{tuple(outputs.shape)}; give a region, a box, an output or a function as the target"
        )


def split_arrays(targets: Sequence[Target], arrays: tuple[Array, ...]) -> list[Target]:
    """Give each target its own of the arrays of all."""
    rest = iter(arrays)
    return [target.with_arrays(tuple(next(rest) for _ in target.arrays)) for target in targets]
