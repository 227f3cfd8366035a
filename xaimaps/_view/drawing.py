"""A result for the page: its colours, and its raw values, which the page shows at the pointer."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from xaimaps._results.attribution import Attribution
from xaimaps._results.render import Pixels, plane

LONGEST = 768
"""The longest side of a picture on the page, in pixels."""


def drawn(found: Attribution) -> dict[str, Any]:
    """Return the colours of the map of one image, its raw values, and the explained box."""
    values = plane(found.by_target()[0, 0]).astype("<f4")
    height, width = shrunk(found.views[0]).shape[:2]
    box = found.explained_box()
    return {
        "heatmap": data_url(np.asarray(found.heatmap(size=(height, width)))),
        "values": base64.b64encode(values.tobytes()).decode(),
        "rows": values.shape[0],
        "columns": values.shape[1],
        "range": [float(values.min()), float(values.max())],
        "box": box
        and [x / n for x, n in zip(box.corners, found.input_size[::-1] * 2, strict=True)],
    }


def shrunk(view: Pixels) -> Pixels:
    """Return a picture of at most `LONGEST` pixels a side."""
    picture = Image.fromarray(view)
    picture.thumbnail((LONGEST, LONGEST))
    return np.asarray(picture)


def data_url(pixels: Pixels) -> str:
    """Return a picture as the address of its own bytes, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
