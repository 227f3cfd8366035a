"""What the shell completes after an option."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from click.shell_completion import CompletionItem

from xaimaps._cli.parsing import parse_pairs


def complete_backend(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps._registry import installed

    return [name for name in installed() if name.startswith(incomplete)]


def complete_method(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


def complete_colormap(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from matplotlib import colormaps

    return [name for name in colormaps if name.startswith(incomplete)]


def complete_target(context: Any, parameter: Any, incomplete: str) -> list[str]:
    """Complete class names, as far as they are known without loading a model."""
    from xaimaps import zoo
    from xaimaps._labels import read_labels
    from xaimaps._sidecar import read_sidecar
    from xaimaps.errors import ModelLoadError

    model = context.params.get("model") or "default"
    embedded = "imagenet-1k" if model in zoo.MODELS else ()
    try:
        labels = context.params.get("labels") or read_sidecar(Path(model)).labels or embedded
        names = read_labels(labels)
    except ModelLoadError:
        return []
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def complete_layer(context: Any, parameter: Any, incomplete: str) -> list[str]:
    """Complete the spatial layers of an ONNX file, which ONNX Runtime reads in a second or two.

    They have the same names in JAX, which takes longer to import, as TensorFlow does.
    """
    from xaimaps._load import load
    from xaimaps.errors import XaimapsError

    model = context.params.get("model") or "default"
    with suppress(XaimapsError):
        given = parse_pairs(context.params.get("inputs") or ())
        loaded = load(model, backend="onnxruntime", inputs=given or None)
        names = [layer.name for layer in loaded.layers() if layer.is_spatial]
        return [name for name in names if name.startswith(incomplete)]
    return []


def complete_files(table: str) -> Callable[..., list[CompletionItem]]:
    """Complete files, and the names in a table of the embedded models or labels."""

    def complete(context: Any, parameter: Any, incomplete: str) -> list[CompletionItem]:
        from xaimaps import zoo

        names = [name for name in getattr(zoo, table) if name.startswith(incomplete)]
        return [*map(CompletionItem, names), CompletionItem(incomplete, type="file")]

    return complete
