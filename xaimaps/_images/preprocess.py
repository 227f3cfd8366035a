"""`Preprocess`: conversion of pictures to a model's input and back, with presets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np

from xaimaps._images.picture import Array, Picture, Pixels
from xaimaps.errors import ArrayInputError, InputImageError, nearest

Floats = np.ndarray[Any, np.dtype[np.float32]]
Channels = Literal["RGB", "BGR"]
Fit = Literal["crop", "stretch", "pad"]
Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos"]

_MOST_PADDED_PIXELS = 256_000_000


@dataclass(frozen=True)
class Preprocess:
    """The conversion of a picture to a model's input: crop or pad, resize, then `values`.

    Attributes:
        name: the name of the preset.
        scale: factor on the pixels (0 to 255), applied first.
        mean: subtracted after `scale`: one number, or one for each channel in the model's order.
        std: divisor after `mean`: one number, or one for each channel in the model's order.
        channels: the model's channel order; pictures are RGB.
        fit: how to change the aspect ratio: "crop", "stretch", or "pad" with black bars. Volumes
            and clips, whose axes have different units, are always stretched.
        crop_fraction: for "crop", the fraction of the largest centred box to keep (0.875 is
            224/256).
        interpolation: the filter of the resize; all except "nearest" are antialiased.
        window: the values of a picture that become the pixels 0 and 255; others are clipped. None
            for those that the picture says.
        native: take a picture's own values, such as Hounsfield units, instead of pixels; a window
            only clips them.
    """

    name: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: Channels = "RGB"
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bicubic"
    window: tuple[float, float] | None = None
    native: bool = False

    def __post_init__(self) -> None:
        _choice("channels", self.channels, get_args(Channels))
        _choice("fit", self.fit, get_args(Fit))
        _choice("interpolation", self.interpolation, get_args(Interpolation))
        _check_numbers("mean", self.mean)
        _check_numbers("std", self.std)
        if not 0 < self.crop_fraction <= 1:
            raise ArrayInputError(
                f"`crop_fraction` must be above 0 and up to 1, got {self.crop_fraction}; "
                "1 keeps the whole centred box"
            )
        if self.scale == 0 or 0 in self.std:
            raise ArrayInputError(
                f"`scale` and `std` must not be zero, got {self.scale} and {self.std}; "
                "1 leaves the values as they are"
            )
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ArrayInputError(
                f"`window` must be two values, the lower one first, got {self.window}; give those "
                "that become black and white"
            )

    def values(self, pixels: Array) -> Floats:
        """Convert pixels to input values, `(x * scale - mean) / std` in float32.

        Args:
            pixels: `(..., C)`, 0 to 255; three channels are RGB.

        Returns:
            `(..., C)` float32, in the model's channel order.

        Raises:
            ArrayInputError: if the preprocessing is for another number of channels.
        """
        self._check_channels(pixels)
        result: Floats = self._ordered(pixels).astype(np.float32, order="C")
        result *= np.float32(self.scale)
        result -= _in_rows(self.mean, result)
        result /= _in_rows(self.std, result)
        return result

    def inverse(self, array: Array) -> Pixels:
        """Convert a model's input back to pixels, rounded and clipped to 0 to 255.

        Args:
            array: `(..., C)`, as returned by `values`.

        Returns:
            `(..., C)` uint8; three channels are RGB.

        Raises:
            ArrayInputError: if the preprocessing is for another number of channels, or a value is
                not finite.
        """
        self._check_channels(array)
        x = np.asarray(array, np.float64)
        if not np.isfinite(x).all():
            raise ArrayInputError("`array` must be finite, got NaN or infinity; mask those values")
        pixels = (x * np.asarray(self.std) + np.asarray(self.mean)) / self.scale
        shown: Pixels = np.clip(np.rint(self._ordered(pixels)), 0, 255).astype(np.uint8)
        return shown

    def view(self, picture_pixels: Array, size: tuple[int, ...]) -> Array:
        """Return the part of a picture that the model sees, at the picture's own resolution.

        Args:
            picture_pixels: `(H, W, C)`, or `(D, H, W, C)` of a volume.
            size: the model's height and width, or depth, height and width.

        Returns:
            `(h, w, C)`: the crop, the whole picture ("stretch") or the padded one ("pad"); the
            whole volume.

        Raises:
            ArrayInputError: if the pixels are not as above, or a volume is to be padded.
            InputImageError: if the picture is too elongated to be padded.
        """
        _check_picture(picture_pixels, size)
        if len(size) == 3 and self.fit == "pad":
            raise ArrayInputError(
                "`fit` must be stretch for volumes and clips, got 'pad'; pad the file itself"
            )
        if self.fit == "stretch" or len(size) == 3:
            return picture_pixels
        if self.fit == "pad":
            return _padded(picture_pixels, size)
        top, left, height, width = crop_box(picture_pixels.shape[:2], size, self.crop_fraction)
        return picture_pixels[top : top + height, left : left + width]

    def __call__(self, picture_pixels: Array, size: tuple[int, ...]) -> Floats:
        """Convert a picture to one input: `view`, one resize, `values`.

        Args:
            picture_pixels: `(H, W, C)`, 0 to 255; three channels are RGB. Of uint8, the resized
                pixels are rounded to whole numbers, as Pillow does. Or `(D, H, W, C)`, which is
                resized along each axis by itself.
            size: the model's height and width, or depth, height and width.

        Returns:
            `(*size, C)` float32.

        Raises:
            ArrayInputError: see `view` and `values`.
        """
        resize = _resized if len(size) == 2 else _resized_volume
        resized = resize(self.view(picture_pixels, size), size, self.interpolation)
        return self.values(resized if self.native else np.clip(resized, 0, 255))

    def resized(self, picture_pixels: Pixels, size: tuple[int, ...]) -> Pixels:
        """Return the pixels before `values`: `view` and one resize.

        Args:
            picture_pixels: `(H, W, C)` uint8; three channels are RGB.
            size: the model's height and width.

        Returns:
            `(*size, C)` uint8.

        Raises:
            ArrayInputError: see `view`.
        """
        return _resized(self.view(picture_pixels, size), size, self.interpolation)

    def levels(self, pixels: Pixels) -> Pixels:
        """Return the levels of which `table` has the input values, in the model's channel order."""
        return np.ascontiguousarray(self._ordered(pixels))

    def table(self, channels: int) -> Floats:
        """Return the input value of each level and channel, `(256, channels)`.

        Raises:
            ArrayInputError: see `values`.
        """
        return self.values(np.repeat(np.arange(256, dtype=np.uint8)[:, None], channels, axis=1))

    def of_picture(self, picture: Picture, size: tuple[int, ...]) -> Floats:
        """Convert a picture with the model's channels and the window to one input.

        Raises:
            InputImageError: the picture does not say which values are black and white.
        """
        if not self.native:
            return self(picture.levels(), size)
        values = picture.values if self.window is None else np.clip(picture.values, *self.window)
        return self(values.astype(np.float32), size)

    def _ordered(self, pixels: Array) -> Array:
        """Swap RGB and BGR if the model's order is BGR."""
        return pixels[..., ::-1] if self.channels == "BGR" else pixels

    def _check_channels(self, pixels: Array) -> None:
        known = {len(self.mean), len(self.std), 3 if self.channels == "BGR" else 1} - {1}
        got = pixels.shape[-1] if pixels.ndim else 0
        if not got or known - {got}:
            raise ArrayInputError(
                f"the preprocessing {self.name!r} is for {max(known, default=1)} channels on the "
                f"last axis, got {got}; give a `Preprocess` with a mean and a deviation for each, "
                "or one for all"
            )


def seen_notes(whole: tuple[int, ...], view: Array, size: tuple[int, ...]) -> Iterator[str]:
    """Say that a model does not see a whole picture, or a volume of another size.

    Args:
        whole: the spatial size of the picture or volume.
        view: the part of it that the model sees.
        size: the model's own.
    """
    seen = size if len(size) == 3 else view.shape[:2]
    if len(size) == 3 and whole != seen:
        yield f"the volume of {_sizes(whole)} was resized to {_sizes(seen)}, axis by axis"
    elif len(size) == 2 and (seen[0] < whole[0] or seen[1] < whole[1]):
        yield (
            f"the model saw the middle {_sizes(seen)} of {_sizes(whole)} pixels; `fit` pad or "
            "stretch (--fit) shows it the whole picture"
        )


def _sizes(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))


def crop_box(
    shape: tuple[int, ...], size: tuple[int, ...], fraction: float
) -> tuple[int, int, int, int]:
    """Return the largest centred box of the aspect ratio of `size`, scaled by `fraction`.

    Args:
        shape: the picture's height and width.
        size: the model's height and width.
        fraction: the fraction of the box to keep, above 0 and up to 1.

    Returns:
        Top, left, height and width in the picture's pixels; at least 1 x 1.
    """
    unit = fraction * min(shape[0] / size[0], shape[1] / size[1])
    height, width = (max(1, round(side * unit)) for side in size)
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width


def get_preprocess(name: str | Preprocess) -> Preprocess:
    """Return a preset by its name; a `Preprocess` is returned unchanged.

    Raises:
        ArrayInputError: if there is no such preset.
    """
    if isinstance(name, Preprocess):
        return name
    _choice("preprocess", name, tuple(PRESETS))
    return PRESETS[name]


def _choice(what: str, got: object, names: tuple[str, ...]) -> None:
    if isinstance(got, str) and got in names:
        return
    raise ArrayInputError(
        f"`{what}` must be one of {', '.join(names)}, got {got!r}{nearest(str(got), names)}"
    )


def _check_numbers(name: str, values: Any) -> None:
    is_list = isinstance(values, tuple | list) and len(values) > 0
    if not is_list or not all(isinstance(one, Real) for one in values):
        raise ArrayInputError(
            f"`{name}` must be a tuple of numbers, got {values!r}; give one for all channels, such "
            "as (0.5,), or one for each"
        )


def _in_rows(numbers: tuple[float, ...], like: Array) -> Array:
    """Repeat the numbers of the channels for a row: NumPy is slow for a last axis of three."""
    return np.broadcast_to(np.asarray(numbers, np.float32), like.shape[-2:]).copy()


def _check_picture(pixels: Array, size: tuple[int, ...]) -> None:
    is_array = pixels.ndim == len(size) + 1 and pixels.size > 0
    if pixels.dtype not in (np.uint8, np.float32) or not is_array:
        axes = "(H, W, C)" if len(size) == 2 else "(D, H, W, C)"
        raise ArrayInputError(
            f"pixels must be uint8 or float32 {axes}, got {pixels.dtype} {pixels.shape}; "
            "use open_picture(...).levels()"
        )
    if min(size) < 1:
        raise ArrayInputError(
            f"`size` must be a height and a width of at least 1, got {size}; give both"
        )


def _padded(pixels: Array, size: tuple[int, ...]) -> Array:
    """Centre the picture in the smallest one of zeros of the aspect ratio of `size`."""
    unit = max(pixels.shape[0] / size[0], pixels.shape[1] / size[1])
    height, width = (
        max(got, round(side * unit)) for got, side in zip(pixels.shape, size, strict=False)
    )
    if height * width > _MOST_PADDED_PIXELS:
        raise InputImageError(
            f"a padded picture must have at most {_MOST_PADDED_PIXELS / 1e6:g} megapixels, got "
            f"{(height, width)} for one of {pixels.shape[:2]}; use fit='crop' or 'stretch'"
        )
    top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    padded = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
    padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return padded


def _resized_volume(voxels: Array, size: tuple[int, ...], interpolation: Interpolation) -> Array:
    """Resize along one axis after the other, in float32, with the filters of pictures."""
    resized = voxels.astype(np.float32)
    for axis, count in enumerate(size):
        resized = np.moveaxis(
            _resized_rows(np.moveaxis(resized, axis, 0), count, interpolation), 0, axis
        )
    return resized


def _resized_rows(values: Array, count: int, interpolation: Interpolation) -> Array:
    """Resize the first axis, as that of a picture with a row for each of its indices."""
    from PIL import Image

    rows = Image.fromarray(np.ascontiguousarray(values).reshape(len(values), -1))
    method = Image.Resampling[interpolation.upper()]
    resized = np.asarray(rows.resize((rows.width, count), method, reducing_gap=None))
    return resized.reshape(count, *values.shape[1:])


def _resized(pixels: Array, size: tuple[int, ...], interpolation: Interpolation) -> Array:
    """Resize each channel by itself, in whole numbers for uint8 and otherwise in float32."""
    from PIL import Image

    method = Image.Resampling[interpolation.upper()]
    is_rgb = pixels.dtype == np.uint8 and pixels.shape[-1] == 3  # the same values in less time
    images = [pixels] if is_rgb else np.moveaxis(pixels, -1, 0).copy()
    resized = [
        np.asarray(Image.fromarray(one).resize((size[1], size[0]), method, reducing_gap=None))
        for one in images
    ]
    return resized[0] if is_rgb else np.stack(resized, axis=-1)


_ONE, _ZERO = (1.0,), (0.0,)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PRESETS: Mapping[str, Preprocess] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preprocess("unit", 1 / 255, _ZERO, _ONE),
            Preprocess("tf", 1 / 127.5, _ONE, _ONE),
            Preprocess("torch", 1 / 255, *_IMAGENET),
            Preprocess("imagenet", 1 / 255, *_IMAGENET),
            Preprocess("caffe", 1.0, (103.939, 116.779, 123.68), _ONE, channels="BGR"),
            Preprocess("raw", 1.0, _ZERO, _ONE),
            Preprocess("native", 1.0, _ZERO, _ONE, native=True),
        )
    }
)
"""The presets by name: the modes of keras.applications, "imagenet" (the same as
"torch"), "unit" (0 to 1), "raw" (0 to 255), and
"native" (the picture's own values)."""
