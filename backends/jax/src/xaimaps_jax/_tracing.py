"""The error for a function that cannot be traced: why, and where."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xaimaps.errors import UnsupportedModelError, XaimapsError, first_line

LIBRARIES = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib"))
OURS = str(Path(__file__).parent)


@contextmanager
def tracing(shape: Sequence[int]) -> Iterator[None]:
    """Convert any error of the model's own code.

    Args:
        shape: the shape of the images.

    Raises:
        UnsupportedModelError: the model cannot be traced.
    """
    try:
        yield
    except XaimapsError:
        raise
    except Exception as error:  # the model's own code may raise anything
        raise UnsupportedModelError(
            f"the model must be traceable by JAX for images of shape {tuple(shape)}, got "
            f"{type(error).__name__}{_place(error)}: {first_line(error)}; check `params`, "
            "`input_shape` and `inputs`"
        ) from error


def _place(error: Exception) -> str:
    """Return the last line outside of installed libraries, or an empty text."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((*LIBRARIES, OURS, "<")) and f.lineno]
    return f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
