"""`KerasNetwork`: the description of a Keras model, from its traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xaimaps.graph import Description, Head, Layer
from xaimaps_tensorflow._inspection import head_of

if TYPE_CHECKING:
    from xaimaps_tensorflow._program import KerasProgram


class KerasNetwork(Description):
    """The description of a Keras model.

    Args:
        program: the model.
    """

    def __init__(self, program: KerasProgram) -> None:
        self._program = program

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._program.input.shape

    def layers(self) -> tuple[Layer, ...]:
        return self._program.layers.listed()

    def unlisted(self, name: str) -> Layer | None:
        return self._program.layers.unlisted(name)

    def default_layer(self) -> Layer:
        return self._program.layers.default()

    @property
    def has_rectifiers(self) -> bool:
        return self._program.usual.graph.has_rectifiers

    def head(self) -> Head:
        return head_of(self._program.usual, self._program.layers)
