"""The two forms of a target: the user's request, and the function of the outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xaimaps.errors import TargetError

if TYPE_CHECKING:
    from xaimaps.targets._detect import Detection
    from xaimaps.targets._scene import Scene

Array = Any
Labels = Sequence[str] | None
Scoring = Callable[[Array], Array]


class TargetSpec(ABC):
    """The user's request, before the batch and the labels are known.

    `parse_target` reads `str(spec)` back, unless `unrecorded` lists parts that text cannot hold.
    """

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def resolve(self, batch: int, labels: Labels) -> Target:
        """Make the target for a batch of `batch` images.

        Raises:
            TargetError: the target does not match the labels or the batch.
        """

    @property
    def members(self) -> tuple[TargetSpec, ...]:
        """The K targets separately; a single target returns itself."""
        return (self,)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the target names."""
        return ()

    @property
    def unrecorded(self) -> tuple[str, ...]:
        """Descriptions of the parts that text cannot hold."""
        return ()

    @property
    def is_function(self) -> bool:
        """Whether the target needs the backend's own arrays, as a Python function may."""
        return False

    @property
    def is_class(self) -> bool:
        """Whether the target is a class, or several; a class of a detector becomes a box."""
        return False

    def for_image(self, index: int) -> TargetSpec:
        """Return the target of one image of the batch."""
        return self

    def boxes(self, index: int) -> tuple[Detection | None, ...]:
        """Return the box that each of the K targets explains in one image; nothing for classes."""
        return ()

    def settled(self, scene: Scene) -> TargetSpec:
        """Return the same target, with everything decided that depends on the model's outputs.

        Raises:
            TargetError: the outputs have no such target.
        """
        return self


class Target(ABC):
    """A function from outputs to scores that can be an argument of a compiled program.

    `arrays`, whose last axis is the batch, may change from call to call. `key` is fixed at
    compilation.
    """

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """A value that is equal for targets that can share a compiled program."""

    @property
    def is_several(self) -> bool:
        """Whether the scores have a leading axis of K targets."""
        return False

    @property
    def is_binary(self) -> bool:
        """Whether there are two class names, so that a single output is the second class."""
        return False

    @property
    def has_place(self) -> bool:
        """Whether the target refers to a part of the image, which mirroring would move."""
        return any(part.has_place for part in self.parts if part is not self)

    @property
    def parts(self) -> tuple[Target, ...]:
        """The K targets separately; a single target returns itself."""
        return (self,)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arguments of the compiled program."""
        return ()

    def with_arrays(self, arrays: tuple[Array, ...]) -> Target:
        """Return the same target with other arrays."""
        return self

    @abstractmethod
    def indices_in(self, xp: Any, outputs: Array) -> Array | None:
        """Return the class of each score, shaped like the scores; None if it is not a class."""

    def frozen(self, xp: Any, outputs: Array) -> Target:
        """Resolve the target to classes by the outputs of the clean images.

        The top class of a noisy or masked copy may differ from that of the image.
        """
        indices = self.indices_in(xp, outputs)
        return self if indices is None else Classes(indices, self.is_binary)

    def scores(self, xp: Any, outputs: Array) -> Array:
        """Return the scores `(N,)` or `(K, N)` of outputs `(N, ...)`."""
        classes = class_scores(xp, outputs, is_binary=self.is_binary)
        chosen = one_hot(xp, self.indices_in(xp, outputs), classes)
        return xp.sum(xp.where(chosen, classes, xp.zeros_like(classes)), axis=-1)


@dataclass(frozen=True, eq=False)
class Classes(Target):
    """The score of one class, or of K classes, of each image.

    Attributes:
        indices: integers `(N,)` or `(K, N)`.
        is_binary: see `Target.is_binary`.
    """

    indices: Array
    is_binary: bool = False

    @property
    def key(self) -> Hashable:
        return ("classes", self.is_several, self.is_binary)

    @property
    def is_several(self) -> bool:
        return len(self.indices.shape) == 2

    @property
    def parts(self) -> tuple[Target, ...]:
        if not self.is_several:
            return (self,)
        count = self.indices.shape[0]
        return tuple(Classes(self.indices[k, ...], self.is_binary) for k in range(count))

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.indices,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Classes:
        return Classes(arrays[0], self.is_binary)

    def indices_in(self, xp: Any, outputs: Array) -> Array:
        return self.indices


def one_hot(xp: Any, indices: Array, classes: Array) -> Array:
    """Mark class `indices[..., n]` in a row of booleans for each image: `(..., N, classes)`.

    Every array namespace has the operations of a mask, unlike a gather. An index out of range marks
    no class instead of silently marking another.
    """
    return indices[..., None] == xp.arange(classes.shape[-1], dtype=indices.dtype)


def class_scores(xp: Any, outputs: Array, *, is_binary: bool) -> Array:
    """Return the score of each class, `(N, classes)`.

    A single number, `(N,)` or `(N, 1)`, is the score of one class. In a binary model it is the
    logit of the second class, and its negative is that of the first.

    Args:
        xp: the namespace.
        outputs: those of the model.
        is_binary: see `Target.is_binary`.

    Raises:
        TargetError: the outputs have more axes.
    """
    classes = outputs[:, None] if len(outputs.shape) == 1 else outputs
    require_classes(classes)
    if not is_binary or classes.shape[-1] != 1:
        return classes
    return xp.concat([-classes, classes], axis=-1)


def is_binary(labels: Labels) -> bool:
    """Return whether there are two class names; see `Target.is_binary`."""
    return labels is not None and len(labels) == 2


def require_classes(outputs: Array) -> None:
    """Raise a TargetError unless the outputs are `(N, classes)`."""
    if len(outputs.shape) != 2:
        raise TargetError(
            f"outputs must be (N, classes) for a class as the target, got shape "
            f"{tuple(outputs.shape)}; give output:INDEX, class:NAME, region:FILE@CLASS, "
            "text:POSITION or a function as the target"
        )


def split_arrays(targets: Sequence[Target], arrays: tuple[Array, ...]) -> list[Target]:
    """Give each target its share of the arrays."""
    rest = iter(arrays)
    return [target.with_arrays(tuple(next(rest) for _ in target.arrays)) for target in targets]
