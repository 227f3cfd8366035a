"""Whether the converter of Keras models is installed, which is a distribution of its own."""

from __future__ import annotations

import importlib.util

from xaimaps.errors import BackendError

NEEDED = ("xaimaps_onnx", "xaimaps_tensorflow", "tf2onnx", "tensorflow")


def require_converter() -> None:
    """See that all is there that converting needs, without importing it.

    Raises:
        BackendError: something is missing.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendError(
            f"converting a Keras model needs {missing[0].replace('_', '-')}, which is not "
            "installed; pip install 'xaimaps[convert]'"
        )
