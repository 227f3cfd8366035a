"""xaimaps: the same model, any framework, one map.

    import xaimaps
    result = xaimaps.explain("default", "cat.jpg", method="grad_cam")
    result.overlay().save("cat-grad-cam.png")

Names are imported when they are first used, so that `import xaimaps` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaimaps import errors, goals, methods, parity, zoo
    from xaimaps.backend import Backend, Layer
    from xaimaps.explaining import attribute, explain
    from xaimaps.loading import load
    from xaimaps.methods import METHODS
    from xaimaps.preprocess import PRESETS, Preprocess
    from xaimaps.result import Attribution
    from xaimaps.targets import several

__all__ = [
    "METHODS",
    "PRESETS",
    "Attribution",
    "Backend",
    "Layer",
    "Preprocess",
    "attribute",
    "errors",
    "explain",
    "goals",
    "load",
    "methods",
    "parity",
    "several",
    "zoo",
]

_HOMES = {
    "METHODS": "methods",
    "PRESETS": "preprocess",
    "Attribution": "result",
    "Backend": "backend",
    "Layer": "backend",
    "Preprocess": "preprocess",
    "attribute": "explaining",
    "explain": "explaining",
    "load": "loading",
    "several": "targets",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'xaimaps' has no attribute {name!r}")
    module = import_module(f"xaimaps.{_HOMES.get(name, name)}")
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return __all__
