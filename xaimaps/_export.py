"""`export`: write a model with a method in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from xaimaps._registry import import_extra

if TYPE_CHECKING:
    from xaimaps._attribute import Layers, MethodLike


def export(
    model: str | os.PathLike[str],
    file: str | os.PathLike[str],
    method: MethodLike = "grad_cam",
    *,
    target: Any = None,
    layer: Layers = None,
    pictures: Any = None,
    form: Literal["raw", "input", "normalised"] = "raw",
    heat_map: bool = False,
    overlay: bool = False,
    output_name: str = "map",
    loading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Write an ONNX file with the outputs of a model and, as a further output, the map of a method.

    The file runs in ONNX Runtime without xaimaps. It is written only if its outputs and maps are
    those of the model and of the method on the default backend.

    Args:
        model: the path of an ONNX file, or "default".
        file: the path to write to.
        method: see `attribute`; one of true gradients of a class, or of forward passes.
        target: None for the top class of each image; a class or a label; "input" for a further
            input `target` of the file, int64 `(N,)`; "all" for a map of each class,
            `(N, classes, h, w)`.
        layer: see `attribute`.
        pictures: the pictures to compare on, as `explain` takes them; None for the bundled
            photographs, or for random images if the model's preprocessing is unknown.
        form: "raw"; "input" for the size of the input, bilinear with half-pixel centres; or
            "normalised" for that, with the positive part divided by its maximum.
        heat_map: whether to add the output `heat_map`, uint8 RGB at the size of the input.
        overlay: whether to add the output `overlay`, uint8 RGB: these colours, half transparent,
            over the picture.
        output_name: the name of the output with the maps.
        loading: the arguments of `load`, such as `preprocess`.
        options: `augment`, `low_pass`, and the method's own options.

    Returns:
        The size of the file, its further outputs, and the differences that were measured.

    Raises:
        XaimapsError: an argument is invalid, the method cannot be exported, or the file's results
            differ.

    Example:
        >>> import tempfile, pathlib, xaimaps
        >>> file = pathlib.Path(tempfile.mkdtemp(), "explained.onnx")
        >>> xaimaps.export("default", file, "grad_cam").outputs
        {'map': ['N', 7, 7]}
    """
    writer = import_extra("xaimaps_onnx.export", "onnx", "an export to ONNX")
    return writer.export(
        model,
        file,
        method,
        target=target,
        layer=layer,
        pictures=pictures,
        form=form,
        heat_map=heat_map,
        overlay=overlay,
        output_name=output_name,
        loading=loading,
        **options,
    )
