"""`Scene`: the model and the images, for targets that depend on more than the class names."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import TargetError
from xaimaps.targets._base import Labels

if TYPE_CHECKING:
    from xaimaps.backend import Backend

Array = np.ndarray[Any, Any]


class Scene:
    """A model and the clean images that it explains; the outputs are computed when asked for.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed.
    """

    def __init__(self, backend: Backend, images: Array) -> None:
        self.backend = backend
        self.images = images

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
    def class_axis(self) -> int:
        """The axis of the classes of a segmentation: 1, or -1 if it is the last.

        It is the axis of as many sizes as there are class names, or that which leaves positions of
        the images' aspect ratio.

        Raises:
            TargetError: the outputs are no segmentation, or both axes may be that of the classes.
        """
        shape = self.outputs.shape
        if len(shape) != 4:
            raise TargetError(
                f"a region needs outputs of four axes, got shape {shape}; give an output or a "
                "function as the target"
            )
        named = [axis for axis in (1, -1) if shape[axis] == len(self.labels or ())]
        fitting = [axis for axis in named or (1, -1) if self._is_picture(shape, axis)]
        if len(fitting) != 1:
            raise TargetError(
                f"outputs of shape {shape} may have their classes on axis 1 or -1; add ',axis=1' "
                "or ',axis=-1' to the target"
            )
        return fitting[0]

    def _is_picture(self, shape: tuple[int, ...], axis: int) -> bool:
        """Whether the axes beside that of the classes have the images' aspect ratio."""
        height, width = shape[2:] if axis == 1 else shape[1:3]
        return abs(width * self.size[0] - height * self.size[1]) <= max(self.size)
