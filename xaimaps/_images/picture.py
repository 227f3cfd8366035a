"""`Picture`: the values of one picture, in their own type and range, and their conversions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from xaimaps.errors import InputImageError

Array = np.ndarray[Any, Any]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

STRETCH = (2, 98)
"""The percentiles that become black and white where a picture does not say which values do."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture in the displayed orientation.

    Attributes:
        values: `(H, W, C)`, or `(D, H, W, C)` of a volume or clip, in the file's own type, channels
            and order (RGB).
        range: the values that are black and white; None if the file does not say.
        source: the path as given; "<array>" or "<image>" without a path.
        sha256: of the file's bytes; empty without a file.
        mode: the file's own mode, such as "RGB", "I;16" or "CMYK"; an array's dtype.
        notes: conversions and omissions, such as "frame 1 of 12".
        has_alpha: whether the last channel is alpha.
        affine: the matrix from voxels to coordinates of a NIfTI file, `(4, 4)`.
        duration: the milliseconds of a frame of an animation.
    """

    values: Array
    range: tuple[float, float] | None
    source: str
    sha256: str
    mode: str
    notes: tuple[str, ...] = ()
    has_alpha: bool = False
    affine: Array | None = None
    duration: float | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """The height and width; of a volume the depth before them."""
        return tuple(self.values.shape[:-1])

    @cached_property
    def pixels(self) -> Pixels:
        """The picture as it is shown, `(H, W, 3)` uint8; of a volume `(D, H, W, 3)`.

        A picture of three channels is RGB, one of more is shown by its first three, and one of one
        or two by its first, in grey. Alpha is composited on white. The values are scaled by the
        range. Without a range, and for other than one or three channels, the 2nd percentile of each
        channel becomes black, and the 98th white.
        """
        if self.has_alpha:
            return self._on_white().pixels
        count = self.values.shape[-1]
        shown = replace(self, values=self.values[..., : 3 if count >= 3 else 1])
        if self.range is None or count not in (1, 3):
            shown = replace(shown, values=_stretched(shown.values), range=(0, 255))
        levels = shown.levels()
        pixels = levels if levels.dtype == np.uint8 else np.rint(levels).astype(np.uint8)
        return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels

    @property
    def used(self) -> float:
        """The part of the range that the values take, 0 to 1; 1 without a range."""
        if self.range is None:
            return 1.0
        low, high = sorted(self.range)
        least, most = np.clip([float(self.values.min()), float(self.values.max())], low, high)
        return float(most - least) / (high - low)

    def windowed(self, window: tuple[float, float] | None) -> Picture:
        """Replace the range, if a window is given; white stays the lower end if it was."""
        if window is None:
            return self
        low, high = window
        is_inverted = self.range is not None and self.range[0] > self.range[1]
        return replace(self, range=(high, low) if is_inverted else (low, high))

    def with_channels(self, count: int | None) -> Picture:
        """Convert the picture for a model of `count` channels; None for any, which gets three.

        Equal numbers of channels are kept as they are. Otherwise alpha is composited on white, one
        channel is repeated for three, and three become 0.299 R + 0.587 G + 0.114 B for one.

        Raises:
            InputImageError: the numbers of channels are others.
        """
        wanted = 3 if count is None else count
        got = self.values.shape[-1]
        if got == wanted:
            return replace(self, has_alpha=False)
        if self.has_alpha:
            return self._on_white().with_channels(wanted)
        if (got, wanted) == (1, 3):
            return replace(self, values=np.repeat(self.values, 3, axis=-1))
        if (got, wanted) == (3, 1):
            return replace(self, values=_grey(self.values))
        raise InputImageError(
            f"{self.source!r} must be a picture of {wanted} channels, as the model takes, got "
            f"{got}; give one of {wanted}, with its channels last"
        )

    def levels(self) -> Array:
        """Return the values scaled from black and white to 0 and 255, and clipped.

        Returns:
            Of the shape of the values: uint8 if the values are levels of 8 bits, otherwise float32.

        Raises:
            InputImageError: the range is unknown.
        """
        if self.range is None:
            raise InputImageError(
                f"{self.source!r} must say which of its values are black and white, got "
                f"{self.values.dtype} from {self.values.min():g} to {self.values.max():g}; give "
                "the preprocessing a window (--window LOW HIGH), or use 'native'"
            )
        if self.values.dtype.name == "uint8" and self.range == (0.0, 255.0):
            return self.values
        black, white = self.range
        scaled = (self.values.astype(np.float64) - black) * 255 / (white - black)
        return np.clip(scaled, 0, 255).astype(np.float32)

    def _on_white(self) -> Picture:
        """Composite on white; whole numbers are rounded."""
        colour, alpha = self.values[..., :-1], self.values[..., -1:]
        top = top_of(self.values)
        if alpha.min() == top:
            return replace(self, values=colour.copy(), has_alpha=False)
        weight = alpha.astype(np.float64)
        mixed = (colour * weight + top * (top - weight)) / top
        whole = np.rint(mixed) if self.values.dtype.kind in "ui" else mixed
        return replace(
            self,
            values=whole.astype(self.values.dtype),
            notes=(*self.notes, "alpha composited on white"),
            has_alpha=False,
        )


def top_of(values: Array) -> float:
    """Return the largest value of a type of integers; 1 for floating point."""
    return int(np.iinfo(values.dtype).max) if values.dtype.kind in "ui" else 1


def range_of(values: Array) -> tuple[float, float] | None:
    """Return the values that are black and white by the type, if it is clear.

    They are the full range of 8 and 16 bits without a sign, and 0 and 1 for floating point between.
    """
    if values.dtype.name in ("uint8", "uint16"):
        return 0, top_of(values)
    is_unit = values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1
    return (0, 1) if is_unit else None


def _grey(values: Array) -> Array:
    """Return the grey levels `(..., 1)` of RGB, by Pillow's whole numbers for 8 bits."""
    if values.dtype == np.uint8:
        from PIL import Image

        rows = np.ascontiguousarray(values).reshape(-1, *values.shape[-2:])
        return np.asarray(Image.fromarray(rows).convert("L")).reshape(*values.shape[:-1], 1)
    red, green, blue = np.split(values.astype(np.float64), 3, axis=-1)
    grey: Array = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey


def _stretched(values: Array) -> Pixels:
    """Scale each channel by its percentiles to 0 to 255."""
    low, high = np.percentile(values, STRETCH, axis=tuple(range(values.ndim - 1)))
    scaled = (values - low) * 255 / np.where(high > low, high - low, 1)
    pixels: Pixels = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return pixels
