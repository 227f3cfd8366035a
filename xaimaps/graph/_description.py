"""`Description`: what methods and users can ask of any network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from xaimaps.errors import LayerError, UnsupportedModelError
from xaimaps.graph._attention import Attention
from xaimaps.graph._head import Head, no_head
from xaimaps.graph._operation import Operation

INPUT = "<input>"
"""The name of the images as a layer."""


@dataclass(frozen=True)
class Layer:
    """A named value inside a model.

    Attributes:
        name: the name in results.
        shape: `(batch, *spatial, channels)`, None for a size that varies.
        operator: the framework's name of the operator that computes the value.
        aliases: other names of the value that a user may know.
    """

    name: str
    shape: tuple[int | None, ...]
    operator: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def is_spatial(self) -> bool:
        """Whether the value has, or may have, more than one spatial position."""
        spatial = self.shape[1:-1]
        return bool(spatial) and any(size is None or size > 1 for size in spatial)


class Description(ABC):
    """The properties of a network that are known without any image."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int | None, ...]:
        """`(*spatial, channels)` of an image, None for a size that varies."""

    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers that a user can name, in the order of computation."""

    def all_layers(self) -> tuple[Layer, ...]:
        """Return every value with a name, also those that `layers` omits."""
        return self.layers()

    def unlisted(self, name: str) -> Layer | None:
        """Return the layer with this name that `layers` omits, if there is one."""
        return None

    def default_layer(self) -> Layer:
        """Return the last layer with more than one spatial position.

        Raises:
            LayerError: no layer has several spatial positions.
        """
        spatial = [layer for layer in self.layers() if layer.is_spatial]
        if not spatial:
            raise no_spatial_layer()
        return spatial[-1]

    @property
    def output_name(self) -> str:
        """The name of the output to explain, if the model has several."""
        return ""

    @property
    def output_rank(self) -> int | None:
        """The number of axes of the outputs, if it is known."""
        return None

    @property
    def has_rectifiers(self) -> bool:
        """Whether a rectifier rule changes any derivative."""
        return True

    @property
    def rescaling(self) -> Operation | None:
        """The operation with which the network itself rescales its images, if it does."""
        return None

    def head(self) -> Head:
        """Return the pooled layer and the dense weights after it.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
        """
        raise no_head("neither is known")

    @property
    def attention(self) -> Attention:
        """The attention matrices of a transformer.

        Raises:
            UnsupportedModelError: there are none over a grid of tokens.
        """
        raise UnsupportedModelError("the attention of this network is not known; use grad_cam")

    def require_gradient(self, wrt: str) -> None:  # noqa: B027, this default refuses nothing
        """Refuse a network in which no gradient passes from the output to a layer.

        Raises:
            UnsupportedModelError: every path has an operation whose derivative is zero.
        """


def no_spatial_layer() -> LayerError:
    """Return the error for a model whose values are all vectors."""
    return LayerError("no layer of this model has a spatial extent; use a gradient method")


def no_default_layer() -> LayerError:
    """Return the error for a model with layers of which none explains the whole output."""
    return LayerError(
        "no layer with known positions explains all of the output; name one, or several to fuse, "
        "with `layer` or -l (`xaimaps layers` lists them)"
    )
