"""Random numbers that are the same on every backend: numpy's counter-based generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.errors import MethodError

Floats = np.ndarray[Any, np.dtype[np.float32]]


def uniform(seed: int, *shape: int) -> Floats:
    """Numbers from 0 to 1, float32."""
    return _generator(seed).random(shape, np.float32)


def normal(seed: int, *shape: int) -> Floats:
    """Standard normal numbers, float32."""
    return _generator(seed).standard_normal(shape, np.float32)


def _generator(seed: int) -> np.random.Generator:
    check_count("seed", seed, least=0)
    return np.random.Generator(np.random.Philox(seed))


def check_count(option: str, value: object, least: int = 1) -> None:
    """Raise a MethodError unless an option is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MethodError(f"`{option}` must be an integer of at least {least}, got {value!r}")
