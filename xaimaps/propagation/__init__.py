"""Propagation rules: other derivatives for some operations of a network.

A backward pass carries a value c from the outputs to the images. With ordinary derivatives, c is
the gradient. Methods such as layer-wise relevance propagation replace the derivative of some
operations, by their kind. The relevance of a value a is then R = a c. Additions, average and max
pooling, concatenations and reshapes keep their ordinary derivative, since that is the rule for
them in this form.

`Rules` says which rule an operation of each kind has. `Rules.changes` finds the operations in the
graph of a network, and a backend replaces their derivatives.
"""

from xaimaps.propagation._change import Change, Local, Rule
from xaimaps.propagation._elementwise import Deconvnet, Guided, Keep, Pass, Weighted
from xaimaps.propagation._linear import AlphaBeta, Box, Epsilon, Flat, Gamma, WSquare
from xaimaps.propagation._rescale import Midpoint, Rescale, Share, Winner
from xaimaps.propagation._rules import Rules

__all__ = [
    "AlphaBeta",
    "Box",
    "Change",
    "Deconvnet",
    "Epsilon",
    "Flat",
    "Gamma",
    "Guided",
    "Keep",
    "Local",
    "Midpoint",
    "Pass",
    "Rescale",
    "Rule",
    "Rules",
    "Share",
    "WSquare",
    "Weighted",
    "Winner",
]
