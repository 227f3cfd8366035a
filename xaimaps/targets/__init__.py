"""Targets: a class, several classes, the top classes, or any score of the outputs.

A target has two forms. A `TargetSpec` is the user's request; it prints as text, and `parse_target`
reads that text back. It resolves to a `Target` once the batch and the labels are known. A `Target`
maps the outputs `(N, ...)` of a model to the score of each image.
"""

from xaimaps.targets._base import (
    Array,
    Classes,
    Labels,
    Target,
    TargetSpec,
    class_scores,
    is_binary,
    one_hot,
)
from xaimaps.targets._classes import Several, Top, class_index
from xaimaps.targets._detect import Detection
from xaimaps.targets._make import (
    as_spec,
    as_target,
    box,
    contrast,
    output,
    predicted,
    region,
    several,
    similarity,
)
from xaimaps.targets._parse import parse_target
from xaimaps.targets._scene import Scene
from xaimaps.targets._scores import (
    Box,
    Contrast,
    EveryTarget,
    Function,
    Output,
    OutputsAt,
    Region,
    Similarity,
)
from xaimaps.targets._spatial import predicted_classes
from xaimaps.targets._spec import ClassSpec, PerImageSpec

__all__ = [
    "Array",
    "Box",
    "ClassSpec",
    "Classes",
    "Contrast",
    "Detection",
    "EveryTarget",
    "Function",
    "Labels",
    "Output",
    "OutputsAt",
    "PerImageSpec",
    "Region",
    "Scene",
    "Several",
    "Similarity",
    "Target",
    "TargetSpec",
    "Top",
    "as_spec",
    "as_target",
    "box",
    "class_index",
    "class_scores",
    "contrast",
    "is_binary",
    "one_hot",
    "output",
    "parse_target",
    "predicted",
    "predicted_classes",
    "region",
    "several",
    "similarity",
]
