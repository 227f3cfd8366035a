"""`Scene`: the model and the images, for targets that depend on more than the class names."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import TargetError
from xaimaps.targets._base import Labels
from xaimaps.targets._classes import class_index
from xaimaps.targets._detect import BOX_VALUES, Candidates, Detection, candidates
from xaimaps.targets._text import BLANK, Character, has_text, read_text

if TYPE_CHECKING:
    from xaimaps.backend import Backend

Array = np.ndarray[Any, Any]


class Scene:
    """A model and the clean images that it explains; the outputs are computed when asked for.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed.
        picture_sizes: the height and width of each picture, if they were made from pictures.
    """

    def __init__(
        self, backend: Backend, images: Array, picture_sizes: Sequence[tuple[int, ...]] = ()
    ) -> None:
        self.backend = backend
        self.images = images
        self.picture_sizes = picture_sizes

    @property
    def labels(self) -> Labels:
        """The name of each class, if known."""
        return self.backend.info.labels

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the images."""
        return self.images.shape[1], self.images.shape[2]

    @functools.cached_property
    def outputs(self) -> Array:
        """The model's outputs, `(N, ...)`."""
        if not len(self.images):
            return self.outputs_of(np.zeros((1, *self.images.shape[1:]), np.float32))[:0]
        return np.concatenate([self.outputs_of(one[None]) for one in self.images])

    def outputs_of(self, images: Array) -> Array:
        """Return the model's outputs for any images of the same size."""
        native = self.backend.asarray(images)
        run = self.backend.compiled("forward", lambda b, images: b.forward(images), native)
        return self.backend.to_numpy(run(native))

    @functools.cached_property
    def rank(self) -> int:
        """The number of axes of the outputs, of which many networks know without a run."""
        known = self.backend.network.output_rank
        return self.outputs.ndim if known is None else known

    @property
    def is_detector(self) -> bool:
        """Whether the outputs are boxes with classes."""
        return bool(self.detector)

    @functools.cached_property
    def detector(self) -> tuple[Candidates, ...]:
        """The candidates of each image; empty if the model is no detector."""
        if self.images.ndim != 4 or self.rank != 3 or self.is_text:
            return ()
        found = [self._candidates(index) for index in range(len(self.images))]
        decoded = tuple(one for one in found if one is not None)
        return decoded if len(decoded) == len(found) else ()

    @functools.cached_property
    def boxes(self) -> tuple[tuple[Detection, ...], ...]:
        """The boxes of each image after suppression, best first."""
        return tuple(tuple(one.found()) for one in self.detector)

    @functools.cached_property
    def box_values(self) -> int | None:
        """The number of values of each box in an output beside the scores, if there is one.

        Detectors with suppression inside have outputs `(N, A)` and, beside them, boxes `(N, A, 4)`.
        Those that leave the anchors to the program have more values: offsets, and those of points.
        """
        network = self.backend.network
        if self.images.ndim != 4 or self.rank not in (2, 3) or not len(self.images):
            return None
        named = self.backend.named_outputs(self.images[:1])
        own = named.pop(network.output_name, None)
        rows = 0 if own is None else own.shape[1]
        sizes = [value.shape[1:] for value in named.values()]
        found = (size[1] for size in sizes if len(size) == 2 and size[0] == rows > 1)
        return next((values for values in found if values in BOX_VALUES), None)

    @property
    def has_classes(self) -> bool:
        """Whether the values of each image may be classes, and not the scores of its boxes."""
        return self.box_values is None

    def require_classes(self) -> None:
        """Raise a TargetError if the values of each image are the scores of its boxes."""
        if self.has_classes:
            return
        if self.box_values == 4 and self.outputs.ndim == 2 == self.rank:
            raise TargetError(
                f"`target` must not be a class, as the outputs {self.outputs.shape} are the scores "
                "of boxes; give output:INDEX for the score of one box, or a value before the boxes "
                "are sorted, with output=NAME (--load output=NAME)"
            )
        raise TargetError(
            f"the outputs {self.outputs.shape} are scores of boxes relative to anchors, which the "
            "file does not hold, so that no box and no class can be named; give output:INDEX for "
            "the score of one anchor"
        )

    def _candidates(self, index: int) -> Candidates | None:
        def others() -> Mapping[str, Array]:
            named = self.backend.named_outputs(self.images[index : index + 1])
            own = self.backend.network.output_name
            return {name: value[0] for name, value in named.items() if name != own}

        info = self.backend.info
        return candidates(self.outputs[index], others, self.size, info.labels, info.ending)

    def category(self, name: int | str) -> int:
        """Return the index of a class of a detector.

        Raises:
            TargetError: there is no such class.
        """
        index, count = class_index(name, self.labels), self.detector[0].scores.shape[1]
        if index >= count:
            raise TargetError(f"`target` must be a class from 0 to {count - 1}, got {index}")
        return index

    @property
    def is_text(self) -> bool:
        """Whether the outputs have a character, or none, for each step along a line."""
        return has_text(self.outputs, self.labels)

    @functools.cached_property
    def text(self) -> tuple[tuple[Character, ...], ...]:
        """The characters that a recogniser reads in each image."""
        blank = list(self.labels or ()).index(BLANK)
        return tuple(read_text(one, blank) for one in self.outputs)

    @functools.cached_property
    def class_axis(self) -> int:
        """The axis of the classes of a segmentation: 1, or -1 if it is the last.

        It is the axis of as many sizes as there are class names, or that which leaves positions of
        the images' aspect ratio.

        Raises:
            TargetError: the outputs are no segmentation, or both axes may be that of the classes.
        """
        shape = self.planes.shape
        if len(shape) != 4:
            raise TargetError(
                f"a region needs outputs of four axes, or one value for each position, got shape "
                f"{shape}; give an output or a function as the target"
            )
        if len(self._class_axes) != 1:
            raise TargetError(
                f"outputs of shape {shape} may have their classes on axis 1 or -1; add ',axis=1' "
                "or ',axis=-1' to the target"
            )
        return self._class_axes[0]

    @property
    def is_segmentation(self) -> bool:
        """Whether the outputs have a class for each position, on a known axis."""
        return self.planes.ndim == 4 == self.images.ndim and len(self._class_axes) == 1

    @property
    def planes(self) -> Array:
        """The outputs, with an axis of one class for those of one value for each position.

        They must have the images' exact aspect ratio: boxes `(N, 5, 4)` are no positions.
        """
        (height, width), shape = self.size, self.outputs.shape
        is_plane = len(shape) == 3 and shape[1] * width == shape[2] * height
        return self.outputs[..., None] if is_plane else self.outputs

    @property
    def _class_axes(self) -> list[int]:
        """The axes that may be that of the classes."""
        shape = self.planes.shape
        if shape != self.outputs.shape:
            return [-1]
        named = [axis for axis in (1, -1) if shape[axis] == len(self.labels or ())]
        return [axis for axis in named or (1, -1) if self._is_picture(shape, axis)]

    def _is_picture(self, shape: tuple[int, ...], axis: int) -> bool:
        """Whether the axes other than that of the classes have the images' aspect ratio."""
        height, width = shape[2:] if axis == 1 else shape[1:3]
        return abs(width * self.size[0] - height * self.size[1]) <= max(self.size)
