"""xaimaps: the same model, any framework, one map.

    import xaimaps
    xaimaps.explain("default", "cat.jpg", "grad_cam").overlay().save("cat-grad-cam.png")

Names are imported on first use, so that `import xaimaps` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaimaps import batch, bench, errors, methods, metrics, parity, targets, zoo
    from xaimaps._attribute import attribute, explain
    from xaimaps._compare import compare
    from xaimaps._export import export
    from xaimaps._images.preprocess import PRESETS, Preprocess
    from xaimaps._load import load
    from xaimaps._memory import keep_memory
    from xaimaps._read import read
    from xaimaps._reproduce import reproduce
    from xaimaps._results.attribution import Attribution
    from xaimaps._viewer import view
    from xaimaps.backend import Backend, Layer
    from xaimaps.methods import METHODS, register_method
    from xaimaps.targets import several

__all__ = [
    "METHODS",
    "PRESETS",
    "Attribution",
    "Backend",
    "Layer",
    "Preprocess",
    "attribute",
    "batch",
    "bench",
    "compare",
    "errors",
    "explain",
    "export",
    "keep_memory",
    "load",
    "methods",
    "metrics",
    "parity",
    "read",
    "register_method",
    "reproduce",
    "several",
    "targets",
    "view",
    "zoo",
]

_HOMES = {
    "METHODS": "methods",
    "PRESETS": "_images.preprocess",
    "Attribution": "_results.attribution",
    "Backend": "backend",
    "Layer": "backend",
    "Preprocess": "_images.preprocess",
    "attribute": "_attribute",
    "compare": "_compare",
    "explain": "_attribute",
    "export": "_export",
    "load": "_load",
    "keep_memory": "_memory",
    "read": "_read",
    "register_method": "methods",
    "reproduce": "_reproduce",
    "several": "targets",
    "view": "_viewer",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'xaimaps' has no attribute {name!r}")
    module = import_module(f"xaimaps.{_HOMES.get(name, name)}")
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return __all__
