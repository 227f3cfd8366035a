"""Messages of Keras and TensorFlow, shortened to one sentence."""

from __future__ import annotations

import re

_INJECTED = re.compile(r"Exception encountered when calling .*?\x1b\[1m(.*?)\x1b\[0m", re.DOTALL)
"""A layer's own message inside the text that Keras adds."""

_COLOUR = re.compile(r"\x1b\[\d*m")


def own_words(error: Exception) -> str:
    """Return the message as it was raised, without the text that Keras adds."""
    found = _INJECTED.search(str(error))
    return _COLOUR.sub("", found[1] if found else str(error))


def summary(error: Exception) -> str:
    """Return the first line of a message; in Keras, the model's configuration follows it."""
    lines = [line.strip() for line in own_words(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    return f"{type(error).__name__}: {first[:240].rstrip('. :')}"
