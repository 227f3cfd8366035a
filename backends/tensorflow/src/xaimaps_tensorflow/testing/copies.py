"""Networks as Keras models."""

from __future__ import annotations

from typing import Any

from xaimaps.testing.networks import (
    Cells,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    Network,
    Operation,
    ReLU,
)


def as_keras(network: Network, *end: Any) -> Any:
    """Write a network as a Keras `Sequential` whose layers have the same names.

    Vectors are flattened channel by channel, as in the network. Therefore a `Permute` before the
    flattening, named NAME_planar, moves the channels first.

    Args:
        network: the layers.
        end: Keras layers to append.
    """
    import keras

    layers = [keras.Input(network.input_shape)]
    for name, layer in network.layers.items():
        layers += _copies(name, layer)
    model = keras.Sequential([*layers, *end])
    for name, layer in network.layers.items():
        if isinstance(layer, Conv):
            model.get_layer(name).set_weights([layer.kernel, layer.bias])
        elif isinstance(layer, Dense):
            model.get_layer(name).set_weights([layer.weights, layer.bias])
    return model


def _copies(name: str, layer: Operation) -> list[Any]:
    from keras import layers

    match layer:
        case Conv():
            return [layers.Conv2D(layer.kernel.shape[3], layer.kernel.shape[:2], name=name)]
        case ReLU():
            return [layers.ReLU(name=name)]
        case GlobalAveragePool():
            return [layers.GlobalAveragePooling2D(name=name)]
        case Flatten():
            return [layers.Permute((3, 1, 2), name=f"{name}_planar"), layers.Flatten(name=name)]
        case Cells():
            return [layers.Reshape((-1, layer.channels), name=name)]
        case Dense():
            return [layers.Dense(layer.weights.shape[1], name=name)]
    raise TypeError(f"a network has no layer of type {type(layer).__name__}")
