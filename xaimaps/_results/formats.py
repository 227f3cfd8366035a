"""The file formats of pictures and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xaimaps._results.atomic import write_atomic
from xaimaps.errors import OutputError, nearest

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Format:
    """Pillow's name of a format, and the settings for writing it."""

    pillow: str
    settings: dict[str, Any] = field(default_factory=dict)


_JPEG = Format("JPEG", {"quality": 95, "subsampling": 0})

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "png": Format("PNG"),
        "jpg": _JPEG,
        "jpeg": _JPEG,
        "webp": Format("WEBP", {"lossless": True}),
        "pdf": Format("PDF", {"resolution": 150, "quality": 95}),
    }
)
"""The formats by suffix; a figure may have any of them."""

PICTURE_FORMATS = ("png", "jpg", "webp")
"""The formats of overlays and heat maps."""

DEFAULT_FORMAT = "png"


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture atomically, in the format of the path's suffix.

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
    """
    chosen = format_of(path)
    write_atomic(path, lambda file: picture.save(file, chosen.pillow, **chosen.settings))


def format_of(path: Path) -> Format:
    """Return the format of a path's suffix.

    Raises:
        OutputError: the suffix is unknown.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise OutputError(
            f"a picture's name must end in one of {', '.join(f'.{name}' for name in FORMATS)}, got "
            f"{str(path)!r}{nearest(suffix, FORMATS)}"
        )
    return FORMATS[suffix]


def checked_format(name: str) -> str:
    """Return the name of a format for overlays, or raise an OutputError."""
    if name not in PICTURE_FORMATS:
        raise OutputError(
            f"`format` must be one of {', '.join(PICTURE_FORMATS)}, got {name!r}"
            f"{nearest(name, PICTURE_FORMATS)}"
        )
    return name
