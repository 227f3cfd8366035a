"""`Attribution`: raw maps, the settings that reproduce them, and pictures on request."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xaimaps._images.picture import Picture
from xaimaps._results import render
from xaimaps._results.formats import DEFAULT_FORMAT
from xaimaps._results.notes import notes_of
from xaimaps._results.predictions import Prediction, Predictions, probabilities
from xaimaps.backend import ModelInfo, Precision
from xaimaps.errors import ArrayInputError
from xaimaps.methods import Method
from xaimaps.targets import Detection, TargetSpec, class_scores, is_binary

if TYPE_CHECKING:
    from PIL import Image
    from xarray import DataArray

Array = np.ndarray[Any, Any]


class Seconds(NamedTuple):
    """The time of compilation and of computation."""

    compile: float
    run: float


class Display(NamedTuple):
    """How the maps of one image are normalised for a picture; see `render.normalize`."""

    signed: bool
    percentile: float
    relative: bool = False


def displays_of(row: Method, maps: Array) -> tuple[Display, ...]:
    """Return the display of each image, independent of the other images of its batch.

    Negative values of a class activation map only mean a lack of evidence, while a negative
    gradient is evidence against. Gradients have outliers, which would leave the rest dark.
    """
    if row.is_relative:
        return (Display(False, 100, relative=True),) * len(maps)
    if row.family in ("cam", "attention"):
        return (Display(False, 100),) * len(maps)
    return tuple(Display(bool((one < 0).any()), 99) for one in maps)


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """The maps of a method for a batch of images.

    In a notebook, a result is shown as a figure. `result[i]` is the result of one image, and a loop
    over a result yields those of all images.

    Attributes:
        maps: raw values, `(N, *spatial)` float32 at the method's own resolution;
            `(N, K, *spatial)` for K targets; with a channel axis at the end if the option `reduce`
            is None.
        scores: the model's outputs, `(N, classes)`; logits if the model ends in a softmax.
        target: the target, which prints as text.
        classes: the class of each map, `(N,)` or `(N, K)`; None if the target is not a class.
        target_scores: the score that each map explains, `(N,)` or `(N, K)`; None if the target
            is a Python function, or if the method uses none.
        method: the method's name.
        row: the method's row in the table.
        display: how the maps of each image are normalised for pictures.
        layers: the layer's name, or several; empty for a method that explains the input.
        options: the method's options, including defaults.
        backend: the backend's name.
        model: the metadata of the model.
        seconds: the time of compilation and of computation.
        precision: that of the model's values and products; see `load`.
        versions: the versions of the packages that computed the maps.
        details: other results of the method by name, `(N, ...)` or `(N, K, ...)`.
        is_several: whether the maps have an axis of K targets.
        boxes: the boxes that a detector finds in each image, best first; empty for other models.
        explained_boxes: for each image, the box that each of its K maps explains, or None; empty
            for other targets.
        scores_boxes: whether the outputs `(N, A)` are the scores of boxes, and not of classes.
        input_size: the spatial size of the images: height and width, or those of volumes and
            signals.
        pictures: the pictures, if pictures were explained.
        views: the part of each picture that the model saw, `(H, W, 3)` uint8; `(D, H, W, 3)` for
            volumes, of which overlays show the slices through the voxel with the largest magnitude.
        inputs: the values of the model's other inputs for each image, if they differ.
        vectors: the explained values `(N, F)`, if a vector is explained and no image.
        remarks: sentences on how the maps were computed, which are notes of every image.
    """

    maps: Array
    scores: Array
    target: TargetSpec
    classes: Array | None
    target_scores: Array | None
    method: str
    row: Method
    display: tuple[Display, ...]
    layers: tuple[str, ...]
    options: dict[str, Any]
    backend: str
    model: ModelInfo
    seconds: Seconds
    precision: Precision = "float32"
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Array] = field(default_factory=dict)
    is_several: bool = False
    boxes: tuple[tuple[Detection, ...], ...] = ()
    explained_boxes: tuple[tuple[Detection | None, ...], ...] = ()
    scores_boxes: bool = False
    input_size: tuple[int, ...] = (0, 0)
    pictures: tuple[Picture, ...] = ()
    views: tuple[Array, ...] = ()
    inputs: tuple[dict[str, Any], ...] = ()
    vectors: Array | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> Attribution:
        """Return the result of one image, still with a batch axis, of length 1."""
        one = operator.index(index)
        if not -len(self) <= one < len(self):
            raise IndexError(f"an index must be from 0 to {len(self) - 1}, got {index}")
        one %= len(self)
        cut = slice(one, one + 1)
        return replace(
            self,
            maps=self.maps[cut],
            scores=self.scores[cut],
            target=self.target.for_image(one),
            classes=None if self.classes is None else self.classes[cut],
            target_scores=None if self.target_scores is None else self.target_scores[cut],
            display=self.display[cut],
            details={name: values[cut] for name, values in self.details.items()},
            boxes=self.boxes[cut],
            explained_boxes=self.explained_boxes[cut],
            pictures=self.pictures[cut],
            views=self.views[cut],
            inputs=self.inputs[cut],
            vectors=None if self.vectors is None else self.vectors[cut],
        )

    def __iter__(self) -> Iterator[Attribution]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        from xaimaps._results.show import text

        return text(self)

    def _repr_html_(self) -> str:
        from xaimaps._results.show import page

        return page(self)

    def _repr_png_(self) -> bytes | None:
        from xaimaps._results.show import png

        return png(self)

    @property
    def layer(self) -> str | None:
        """The names of the layers; None for a method that explains the input."""
        return " + ".join(self.layers) or None

    @property
    def has_channels(self) -> bool:
        """Whether the maps have a channel axis, or other axes than the images."""
        return self.maps.ndim != 1 + self.is_several + len(self.input_size)

    @property
    def has_classes(self) -> bool:
        """Whether the outputs are the scores of classes."""
        return self.scores.ndim <= 2 and not self.scores_boxes

    @property
    def count(self) -> int:
        """The number of maps of each image: K for K targets, otherwise 1."""
        return self.maps.shape[1] if self.is_several else 1

    def target_name(self, index: int = 0, k: int = 0) -> str:
        """Return the class or box that map k of an image explains, or the target as text."""
        if (box := self.explained_box(index, k)) is not None:
            corners = ",".join(f"{corner:.0f}" for corner in box.corners)
            return f"{self.label(box.category)} {box.score:.2f} at {corners}"
        if self.classes is not None:
            return self._distinct_label(int(np.atleast_1d(self.classes[index])[k]))
        return str(self.target.for_image(index).members[k])

    def notes(self, index: int = 0) -> list[str]:
        """Return what one must know before trusting the maps of one image.

        The notes say how the picture was read and cropped, how the model is run, and which maps
        explain nothing: those that are zero, constant, or below the rounding of the score.
        """
        self._check_index(index, len(self))
        return notes_of(self, index)

    def explained_box(self, index: int = 0, k: int = 0) -> Detection | None:
        """Return the box that map k of an image explains, if the model is a detector."""
        boxes = self.explained_boxes[index] if self.explained_boxes else ()
        return boxes[k] if boxes else None

    def label(self, index: int) -> str:
        """Return the name of a class, or its number if the labels are unknown."""
        labels = self.model.labels
        return labels[index] if labels is not None else f"class {index}"

    def _distinct_label(self, index: int) -> str:
        """Return the name of a class, with its number if other classes have the same name."""
        label, labels = self.label(index), self.model.labels or ()
        return f"{label} {index}" if labels.count(label) > 1 else label

    def top(self, count: int = 5, *, index: int = 0) -> Predictions:
        """Return the classes with the highest scores of one image, best first, as a list.

        Raises:
            ArrayInputError: the outputs are not `(N, classes)`.
        """
        if not self.has_classes:
            kind = "scores of boxes of " if self.scores_boxes else ""
            raise ArrayInputError(
                f"outputs must be (N, classes) for the top classes, got {kind}shape "
                f"{self.scores.shape}; read `scores` instead"
            )
        self._check_index(index, len(self))
        scores = self.scores[[index]].astype(np.float64)
        row = class_scores(np, scores, is_binary=is_binary(self.model.labels))[0]
        shares = probabilities(row, self.model)
        best = np.argsort(-row, kind="stable")[:count].tolist()
        return Predictions(Prediction(i, self.label(i), float(row[i]), shares[i]) for i in best)

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
            size: height and width; None for the size of the view, or of the map without a picture.
            colormap: a matplotlib name; None for inferno, or RdBu_r for signed maps.
        """
        from PIL import Image

        values, view = self._plane(index, target)
        shape = size or (values if view is None else view).shape[:2]
        return Image.fromarray(self._colours(index, values, shape, colormap))

    def overlay(
        self,
        index: int = 0,
        *,
        target: int = 0,
        alpha: float = render.ALPHA,
        colormap: str | None = None,
    ) -> Image.Image:
        """Draw a map over the part of the picture that the model saw.

        Args:
            index: which image.
            target: which of the K targets.
            alpha: the weight of the map, 0 to 1, the same for all pixels.
            colormap: a matplotlib name; None for inferno, or RdBu_r for signed maps.

        Raises:
            ArrayInputError: there is no picture, or the map still has its channels.
        """
        from PIL import Image

        values, view = self._plane(index, target)
        if view is None:
            raise ArrayInputError("an overlay needs a picture, got only an array; use heatmap")
        colours = self._colours(index, values, view.shape[:2], colormap)
        return Image.fromarray(self._over_view(index, target, view, colours, alpha))

    def plot(
        self,
        index: int = 0,
        *,
        ax: Any = None,
        target: int = 0,
        alpha: float = render.ALPHA,
        colormap: str | None = None,
    ) -> Any:
        """Draw the overlay, or without a picture the heat map, into axes of matplotlib.

        Args:
            index: which image.
            ax: the axes; None for pyplot's current ones.
            target: which of the K targets.
            alpha: the weight of the map, 0 to 1.
            colormap: a matplotlib name; None for inferno, or RdBu_r for signed maps.

        Returns:
            The axes.
        """
        from xaimaps._results.show import plot

        return plot(self, index, ax, target=target, alpha=alpha, colormap=colormap)

    def to_xarray(self) -> DataArray:
        """Return the maps as an `xarray.DataArray` with the axes image, target, y and x (and z).

        The coordinate `explained` has the class or target of each map, `picture` the path of each
        picture; the attributes are the method, its options, the layer, the model and the backend.

        Raises:
            BackendError: xarray is not installed.
            ArrayInputError: the maps still have their channels.
        """
        from xaimaps._results.show import data_array

        return data_array(self)

    def drawn(
        self,
        index: int = 0,
        *,
        target: int = 0,
        alpha: float = render.ALPHA,
        colormap: str | None = None,
    ) -> tuple[Image.Image, Image.Image | None]:
        """Render a map once, and return its heat map and, if there is a picture, its overlay."""
        from PIL import Image

        values, view = self._plane(index, target)
        shape = (values if view is None else view).shape[:2]
        colours = self._colours(index, values, shape, colormap)
        heatmap = Image.fromarray(colours)
        if view is None:
            return heatmap, None
        return heatmap, Image.fromarray(self._over_view(index, target, view, colours, alpha))

    def _over_view(
        self, index: int, target: int, view: Array, colours: Array, alpha: float
    ) -> Array:
        """Blend a heat map into the view, and draw the explained box."""
        blended = render.blend(view, colours, alpha)
        box = self.explained_box(index, target)
        return blended if box is None else render.outlined(blended, [box.corners], self.input_size)

    def _colours(
        self, index: int, values: Array, shape: tuple[int, int], colormap: str | None
    ) -> Array:
        return render.heatmap(values, shape, colormap=colormap, **self.display[index]._asdict())

    def _plane(self, index: int, target: int) -> tuple[Array, Array | None]:
        """Return one map `(h, w)`, that of a signal as a strip, and the pixels behind it, if any.

        Of a volume, both are the slices through the voxel with the largest magnitude.
        """
        values, view = self._map(index, target), self.views[index] if self.views else None
        if view is None or values.ndim == 2:
            return render.plane(values), view
        values = self.volume(index, target=target)
        voxel = render.hottest(values)
        return render.slices(values, voxel), render.slices(view, voxel)

    def _map(self, index: int, target: int) -> Array:
        """Return one map with the axes of the images."""
        self._check_index(index, len(self))
        self._check_index(target, self.count)
        values: Array = self.by_target()[index][target]
        if self.has_channels:
            raise ArrayInputError(
                f"a map must have {len(self.input_size)} axes to be drawn, as the images, got "
                f"shape {values.shape}; choose a `reduce` other than None"
            )
        return values

    def volume(self, index: int = 0, *, target: int = 0) -> Array:
        """Return a map of a volume at the size of the volume itself, `(D, H, W)`.

        Args:
            index: which image.
            target: which of the K targets.

        Raises:
            ArrayInputError: no volume from a file or array was explained.
        """
        if not self.views or self.views[index].ndim != 4:
            raise ArrayInputError(
                "only maps of volumes that `explain` read have a size of their own; use `maps`"
            )
        return render.resize_volume(self._map(index, target), self.views[index].shape[:3])

    def by_target(self) -> Array:
        """Return the maps with an axis of targets, of length 1 for one target."""
        return self.maps if self.is_several else self.maps[:, None]

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        format: str = DEFAULT_FORMAT,
        colormap: str | None = None,
        alpha: float = render.ALPHA,
    ) -> list[Path]:
        """Write overlays, heat maps, raw maps and a manifest into a folder.

        Args:
            folder: created if it does not exist.
            format: of the pictures: "png", "jpg" or "webp".
            colormap: a matplotlib name; None for inferno, or RdBu_r for signed maps.
            alpha: the weight of the map in overlays, 0 to 1.

        Returns:
            The files, in the order of writing.

        Raises:
            OutputError: a file cannot be written, or there is no such format.
            ArrayInputError: `alpha` is not from 0 to 1, or the maps have channels.
        """
        from xaimaps._results.save import save

        return save(self, Path(folder), format=format, colormap=colormap, alpha=alpha)
