"""What Keras and TensorFlow say, in one sentence."""

from __future__ import annotations

import re

_INJECTED = re.compile(r"Exception encountered when calling .*?\x1b\[1m(.*?)\x1b\[0m", re.DOTALL)
"""What a layer raised, between what Keras writes around it."""

_COLOUR = re.compile(r"\x1b\[\d*m")


def own_words(error: Exception) -> str:
    """The message as it was raised, without what Keras writes around it."""
    found = _INJECTED.search(str(error))
    return _COLOUR.sub("", found[1] if found else str(error))


def summary(error: Exception) -> str:
    """The first sentence of a message, which in Keras goes on with the whole configuration."""
    lines = [line.strip() for line in own_words(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    return f"{type(error).__name__}: {first[:240].rstrip('. :')}"
