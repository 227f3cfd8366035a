"""The limit on the declared size of a file's parts, relative to their stored size."""

from __future__ import annotations

RATIO = 100
"""The most declared bytes for each stored byte; Keras itself does not compress."""

FREE = 2**20
"""The declared size that is always allowed; the ratio applies above it."""

REMEDY = "save the model again, or copy it again"


def is_inflated(declared: int, stored: int) -> bool:
    """Return whether a declared size is implausible for a stored size."""
    return declared > max(RATIO * stored, FREE)
