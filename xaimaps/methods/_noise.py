"""Random numbers from numpy's counter-based generator, the same on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.methods._options import check_count

Floats = np.ndarray[Any, np.dtype[np.float32]]


def uniform(seed: int, *shape: int) -> Floats:
    """Sample uniform numbers from 0 to 1, float32."""
    return _generator(seed).random(shape, np.float32)


def normal(seed: int, *shape: int) -> Floats:
    """Sample standard normal numbers, float32."""
    return _generator(seed).standard_normal(shape, np.float32)


def _generator(seed: int) -> np.random.Generator:
    check_count("seed", seed, least=0)
    return np.random.Generator(np.random.Philox(seed))
