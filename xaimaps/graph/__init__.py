"""What a network is, in words that no framework owns, and every question asked of it.

An adapter writes a framework's own graph as operations: of a kind, with values that they read and
make, and with a flow that says where the axes of the result come from. All that a method needs to
know of a network is answered here, once: the logits behind a softmax, the pooling head, the layer
that is explained by default, tokens as maps, layers with a bias, rectifiers, and where gradients
end.
"""

from xaimaps.graph._axes import Axes, Axis, Grid, Part, Shape, axis_of, kind_of
from xaimaps.graph._flow import (
    Aligned,
    Broadcast,
    Concatenated,
    Flow,
    Picked,
    Planar,
    Regrouped,
    Resized,
)
from xaimaps.graph._graph import Graph, groups_of, smooth_values
from xaimaps.graph._head import Ending, Head, no_head
from xaimaps.graph._layer_groups import Group, Linearity, layer_groups, linearity
from xaimaps.graph._layout import Layout, as_scores, layout_of
from xaimaps.graph._network import Network
from xaimaps.graph._operation import Dense, Kind, Operation, Value

__all__ = [
    "Aligned",
    "Axes",
    "Axis",
    "Broadcast",
    "Concatenated",
    "Dense",
    "Ending",
    "Flow",
    "Graph",
    "Grid",
    "Group",
    "Head",
    "Kind",
    "Layout",
    "Linearity",
    "Network",
    "Operation",
    "Part",
    "Picked",
    "Planar",
    "Regrouped",
    "Resized",
    "Shape",
    "Value",
    "as_scores",
    "axis_of",
    "groups_of",
    "kind_of",
    "layer_groups",
    "layout_of",
    "linearity",
    "no_head",
    "smooth_values",
]
