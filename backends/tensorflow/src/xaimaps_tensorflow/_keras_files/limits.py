"""How much a file may declare for what it stores, before it is taken for a trap."""

from __future__ import annotations

RATIO = 100
"""How many bytes may come of a stored one; Keras itself does not compress."""

FREE = 2**20
"""What may be declared of anything in any case: where the ratio begins to matter."""

REMEDY = "save the model again, or copy it again"


def is_inflated(declared: int, stored: int) -> bool:
    """Whether so many bytes cannot come of so many stored ones."""
    return declared > max(RATIO * stored, FREE)
