"""`Attribution`: raw maps, all that it takes to reproduce them, and pictures on request."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xaimaps._images.open import Picture
from xaimaps._results import render
from xaimaps.backend import ModelInfo
from xaimaps.errors import ArrayInputError
from xaimaps.methods import METHODS

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, Any]


class Seconds(NamedTuple):
    """How long it took, compilation apart."""

    compile: float
    run: float


@dataclass(frozen=True)
class Prediction:
    """One class of the model's answer; the probability is a softmax or sigmoid of the scores."""

    index: int
    label: str
    score: float
    probability: float


@dataclass(frozen=True, eq=False)
class Attribution:
    """What a method found for a batch of images.

    Attributes:
        maps: raw values, `(N, h, w)` float32 at the method's own resolution; `(N, K, h, w)` for
            K targets; a channel axis at the end where the method was told to keep it.
        scores: the model's outputs, `(N, classes)`: logits where it ends in a softmax.
        target: the class of each map, `(N,)` or `(N, K)`; None for a function of the outputs.
        method: the method's name.
        layer: the layer's name, None for a method that looks at the input.
        options: the method's options, defaults included.
        backend: the backend's name.
        model: what is known of the model.
        seconds: how long compilation and computation took.
        versions: of the packages that computed.
        details: what else the method found, by name, `(N, ...)` or `(N, K, ...)`.
        is_several: whether the maps have an axis of K targets.
        pictures: what was explained, if it came as pictures.
        views: the part of each picture that the model saw, `(H, W, 3)` uint8.
    """

    maps: Array
    scores: Array
    target: Array | None
    method: str
    layer: str | None
    options: dict[str, Any]
    backend: str
    model: ModelInfo
    seconds: Seconds
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Array] = field(default_factory=dict)
    is_several: bool = False
    pictures: tuple[Picture, ...] = ()
    views: tuple[Array, ...] = ()

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def display(self) -> dict[str, Any]:
        """How a map is normalised for a picture, as keywords of `render.normalize`.

        A class activation map below zero only lacks evidence, while a negative gradient is
        evidence against; and gradients have outliers that would leave the rest dark.
        """
        row = METHODS.get(self.method)
        if row is not None and row.is_relative:
            return {"signed": False, "percentile": 100, "relative": True}
        if row is not None and row.family == "cam":
            return {"signed": False, "percentile": 100}
        return {"signed": bool((self.maps < 0).any()), "percentile": 99}

    def label(self, index: int) -> str:
        """The name of a class; its number where the labels are not known."""
        labels = self.model.labels
        return labels[index] if labels is not None else f"class {index}"

    def top(self, count: int = 5, *, index: int = 0) -> list[Prediction]:
        """The classes with the highest scores of one image, best first.

        Raises:
            ArrayInputError: the outputs are not one row of classes for each image.
        """
        if self.scores.ndim != 2:
            raise ArrayInputError(
                f"the top classes need outputs (N, classes), but these have shape "
                f"{self.scores.shape}; read `scores` instead"
            )
        self._check_index(index, len(self))
        row = self.scores[index].astype(np.float64)
        probabilities = self._probabilities(row)
        best = np.argsort(-row, kind="stable")[:count].tolist()
        return [Prediction(i, self.label(i), float(row[i]), float(probabilities[i])) for i in best]

    def _probabilities(self, row: Array) -> Array:
        """What the model's own ending makes of a row of scores; of one alone, a sigmoid."""
        if self.model.ending == "sigmoid" or row.size == 1:
            return np.asarray(0.5 * (1 + np.tanh(row / 2)))
        powers = np.exp(row - row.max())
        return np.asarray(powers / powers.sum())

    @staticmethod
    def _check_index(index: int, count: int) -> None:
        if not -count <= index < count:
            raise ArrayInputError(f"an index must be from 0 to {count - 1}, got {index}")

    def heatmap(
        self,
        index: int = 0,
        *,
        target: int = 0,
        size: tuple[int, int] | None = None,
        colormap: str | None = None,
    ) -> Image.Image:
        """Draw a map alone, scaled to its own maximum.

        Args:
            index: which image.
            target: which of the K targets.
            size: height and width; None for the view's, or the map's own where there is none.
            colormap: a name of matplotlib's; None for inferno, or RdBu_r for signed maps.
        """
        from PIL import Image

        values = self._map(index, target)
        shape = size or (self.views[index].shape[:2] if self.views else values.shape)
        return Image.fromarray(render.heatmap(values, shape, colormap=colormap, **self.display))

    def overlay(
        self, index: int = 0, *, target: int = 0, alpha: float = 0.5, colormap: str | None = None
    ) -> Image.Image:
        """Draw a map over the part of the picture that the model saw.

        Args:
            index: which image.
            target: which of the K targets.
            alpha: how much of the map shows, 0 to 1, the same everywhere.
            colormap: a name of matplotlib's; None for inferno, or RdBu_r for signed maps.

        Raises:
            ArrayInputError: there is no picture, or the map still has its channels.
        """
        from PIL import Image

        values = self._map(index, target)
        if not self.views:
            raise ArrayInputError(
                "an overlay needs a picture, but arrays were explained; use heatmap"
            )
        return Image.fromarray(
            render.overlay(
                self.views[index], values, alpha=alpha, colormap=colormap, **self.display
            )
        )

    def _map(self, index: int, target: int) -> Array:
        """One map as `(h, w)`."""
        self._check_index(index, len(self))
        self._check_index(target, self._by_target().shape[1])
        values: Array = self._by_target()[index][target]
        if values.ndim != 2:
            raise ArrayInputError(
                f"a picture needs a map (h, w), but this one has shape {values.shape}; choose "
                "another `reduce` than None"
            )
        return values

    def _by_target(self) -> Array:
        """The maps with an axis of targets, of length 1 where there is one target."""
        return self.maps if self.is_several else self.maps[:, None]

    def save(self, folder: str | os.PathLike[str], *, colormap: str | None = None) -> list[Path]:
        """Write overlays, heat maps, raw maps and a manifest; see `xaimaps._results.save.save`."""
        from xaimaps._results.save import save

        return save(self, Path(folder), colormap=colormap)
