"""JPEG files of the size that photographs of ImageNet have."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

import xaimaps

SIZE = (500, 375)


def photographs(folder: Path, count: int) -> list[str]:
    """Write parts of the bundled photograph, each another one, and return the files."""
    with Image.open(xaimaps.zoo.PICTURES["chelsea"]) as picture:
        whole = picture.convert("RGB").resize((700, 525))
    files = [os.fspath(folder / f"{i:06}.jpg") for i in range(count)]
    for i, file in enumerate(files):
        x, y = i % 16 * 12, i // 16 % 12 * 12
        whole.crop((x, y, x + SIZE[0], y + SIZE[1])).save(file)
    return files
