"""Models as JAX functions whose inner values have names.

One mechanism serves both kinds: a named value can be kept, and a tap can be added to it. The
gradient with respect to a tap of zeros is the gradient at the value, and nothing before it
is differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from xaimaps.backend import Array, Classifier, Layer
from xaimaps_jax.onnx.analysis import Analysis, Shaped

Params = Any


class Program(Protocol):
    """What the backend needs of a model."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """`(height, width, channels)`, None where any size will do."""

    def layers(self) -> tuple[Layer, ...]:
        """The useful layers in order of computation."""

    def default_layer(self) -> Layer:
        """The last layer with a spatial extent."""

    def classifier(self, params: Params) -> Classifier:
        """The pooling and dense head."""

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], taps: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """The outputs and the kept values, channels last; taps are added to named values."""


class OnnxProgram:
    """An ONNX graph over batches of images with channels last."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        declared = self._analysis.input.shape or ()
        sizes = dict(zip(self._analysis.input_layout, declared, strict=True))
        return sizes["H"], sizes["W"], sizes["C"]

    def layers(self) -> tuple[Layer, ...]:
        return self._analysis.layers()

    def default_layer(self) -> Layer:
        return self._analysis.default_layer()

    def classifier(self, params: Params) -> Classifier:
        layer, name, is_transposed = self._analysis.head()
        return Classifier(layer, params[name].T if is_transposed else params[name])

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], taps: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        if self._analysis.fixed_batch != 1:
            return self._apply(params, images, keep, taps)

        def single(image: Array, taps: Mapping[str, Array]) -> Any:
            batch_of_one = jax.tree.map(lambda a: a[None], (image, taps))
            return jax.tree.map(
                lambda a: a[0], self._apply(params, batch_of_one[0], keep, batch_of_one[1])
            )

        result: tuple[Array, dict[str, Array]] = jax.vmap(single)(images, dict(taps))
        return result

    def _apply(
        self, params: Params, images: Array, keep: Sequence[str], taps: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        found = self._analysis
        softmax = found.activation
        logits, *kept = found.model.apply(
            params,
            jnp.transpose(images, _inverse(Shaped((), found.input_layout).to_channels_last)),
            outputs=[found.output, *keep],
            taps={name: jnp.transpose(t, _inverse(self._axes(name))) for name, t in taps.items()},
            bypass=frozenset(softmax.outputs) if softmax else frozenset(),
        )
        values = {
            name: jnp.transpose(value, self._axes(name))
            for name, value in zip(keep, kept, strict=True)
        }
        return logits, values

    def _axes(self, name: str) -> tuple[int, ...]:
        return self._analysis.shapes[name].to_channels_last


def _inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    return tuple(permutation.index(axis) for axis in range(len(permutation)))
