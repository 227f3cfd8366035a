"""The colours of a map, as an output of the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps._results.render import COLORMAP, colour_table
from xaimaps_onnx.export._traced import Traced


def coloured(xp: Any, maps: Traced) -> Traced:
    """Return normalised maps in colours, `(..., 3)` uint8, by a table in the file."""
    table: np.ndarray[Any, Any] = np.asarray(colour_table(COLORMAP), np.uint8)
    return xp.take(table, xp.astype(xp.round(maps * 255), np.int64), axis=0)  # type: ignore[no-any-return]
