"""A framework-independent description of a network, and the analyses of it.

An adapter converts a framework's own graph to operations. Each operation has a kind, the values
that it reads and makes, and a flow, which defines where the axes of its result come from. All
analyses of a network are here, once for all frameworks: the logits before a softmax, the pooling
head, the default layer, tokens as maps, layers with a bias, rectifiers, and the operations that
stop gradients.
"""

from xaimaps.graph._attention import Attention
from xaimaps.graph._axes import SIDES, Axes, Axis, Grid, Part, Shape, axis_of, kind_of
from xaimaps.graph._description import (
    INPUT,
    Description,
    Layer,
    no_default_layer,
    no_spatial_layer,
)
from xaimaps.graph._flow import (
    Aligned,
    Broadcast,
    Concatenated,
    Flow,
    Picked,
    Planar,
    Region,
    Regrouped,
    Resized,
    gathered,
)
from xaimaps.graph._graph import UNLISTED, Graph, groups_of, smooth_values
from xaimaps.graph._head import ASSEMBLING, Ending, Head, find_ending, no_head
from xaimaps.graph._layer_groups import Group, degree, is_affine, layer_groups
from xaimaps.graph._layout import Layout, as_scores, layout_of, require_rows, with_rows
from xaimaps.graph._network import Network
from xaimaps.graph._operation import Dense, Kind, Operation, Value
from xaimaps.graph._sizes import PROBE_BATCH, fixed_size, other_size, usual_size, with_size

__all__ = [
    "ASSEMBLING",
    "INPUT",
    "PROBE_BATCH",
    "SIDES",
    "UNLISTED",
    "Aligned",
    "Attention",
    "Axes",
    "Axis",
    "Broadcast",
    "Concatenated",
    "Dense",
    "Description",
    "Ending",
    "Flow",
    "Graph",
    "Grid",
    "Group",
    "Head",
    "Kind",
    "Layer",
    "Layout",
    "Network",
    "Operation",
    "Part",
    "Picked",
    "Planar",
    "Region",
    "Regrouped",
    "Resized",
    "Shape",
    "Value",
    "as_scores",
    "axis_of",
    "degree",
    "find_ending",
    "fixed_size",
    "gathered",
    "groups_of",
    "is_affine",
    "kind_of",
    "layer_groups",
    "layout_of",
    "no_default_layer",
    "no_head",
    "no_spatial_layer",
    "other_size",
    "require_rows",
    "smooth_values",
    "usual_size",
    "with_rows",
    "with_size",
]
