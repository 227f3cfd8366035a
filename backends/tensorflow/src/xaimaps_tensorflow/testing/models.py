"""Keras models of every kind, with random weights whose outputs differ between pictures.

Keras's initial weights would test nothing: with them, the outputs for two pictures differ by 1e-7.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SIZE = 96
"""The size of the applications' images: the smallest that all of them accept."""

APPLICATIONS = (
    *("VGG16", "ResNet50", "InceptionV3", "Xception", "MobileNetV2", "MobileNetV3Small"),
    *("EfficientNetB0", "DenseNet121", "ConvNeXtTiny", "NASNetMobile"),
)


def pictures(count: int, size: int, seed: int = 0) -> Array:
    """Return smooth patterns from -1 to 1, `(N, size, size, 3)`; noise would average out."""
    draw = np.random.default_rng(seed)
    waves = draw.normal(size=(count, 3, 3, 6, 1, 1))
    place = np.linspace(0, 2 * np.pi, size)
    angles = waves[:, :, :, :1] * place[:, None] * 2 + waves[:, :, :, 1:2] * place * 2
    patterns = (np.sin(angles + 6 * waves[:, :, :, 2:3]) * waves[:, :, :, 3:4]).sum((2, 3))
    patterns = np.moveaxis(patterns, 1, -1)
    size_of_each = np.abs(patterns).max(axis=(1, 2, 3), keepdims=True)
    return np.asarray(patterns / size_of_each, np.float32)


def seeded(model: Any, images: Array | None = None, seed: int = 0) -> Any:
    """Set all weights of a model at random: He-normal kernels, and non-trivial normalisations.

    Args:
        model: the model, which is modified.
        images: the images of which moving statistics are taken, before these are multiplied by
            random factors from 0.8 to 1.25; None for random statistics.
        seed: the seed of the random numbers.
    """
    draw = np.random.default_rng(seed)
    for weight in model.variables:
        if "float" in str(weight.dtype):
            weight.assign(_drawn(draw, weight.path.rpartition("/")[2], tuple(weight.shape)))
    if images is not None:
        _calibrate(model, images, draw)
    return model


def _drawn(draw: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if "variance" in name or "gamma" in name:
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    values = draw.standard_normal(shape, dtype=np.float32)
    fans = np.prod(shape[:-2]) if "depthwise" in name else np.prod(shape[:-1])
    return np.asarray(values * (0.2 if len(shape) < 2 else np.sqrt(2 / fans)), np.float32)


def _calibrate(model: Any, images: Array, draw: np.random.Generator) -> None:
    """Set each batch normalisation to the statistics of its inputs, randomly perturbed."""
    normalisations = [
        layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"
    ]
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum
        for statistic in (layer.moving_mean, layer.moving_variance):
            off = draw.uniform(0.8, 1.25, statistic.shape)
            statistic.assign((np.asarray(statistic) * off).astype(np.float32))


def nested() -> Any:
    """Return a functional base inside a `Sequential`, as in transfer learning."""
    import keras
    from keras import layers

    return keras.Sequential(
        [keras.Input((24, 24, 3)), layers.Rescaling(0.5, offset=0.1), _base("base"), *_head()],
        name="nested",
    )


def subclassed() -> Any:
    """Return a model with its own `call` and a skip connection."""
    import keras
    from keras import layers

    class Subclassed(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="subclassed")
            self.conv1 = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")
            self.conv2 = layers.Conv2D(8, 3, padding="same", name="conv2")
            self.norm = layers.BatchNormalization(name="norm")
            self.pool, self.dense = _head()

        def call(self, images: Any, training: bool = False) -> Any:
            x = self.conv1(images)
            x = keras.ops.relu(x + self.norm(self.conv2(x), training=training))
            return self.dense(self.pool(x))

    model = Subclassed()
    model(np.zeros((1, 24, 24, 3), np.float32))
    return model


def shared() -> Any:
    """Return a model that calls a submodel twice."""
    import keras
    from keras import layers

    images = keras.Input((24, 24, 3))
    base = _base("base")
    mirrored = layers.Lambda(lambda x: x[:, :, ::-1], name="mirrored")(images)
    joined = layers.Concatenate(name="joined")([base(images), base(mirrored)])
    pool, dense = _head()
    return keras.Model(images, dense(pool(joined)), name="shared")


def joined() -> Any:
    """Return a model with normalisations and activations that frameworks write differently."""
    import keras
    from keras import layers

    images = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 4, strides=4, name="stem")(images)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    for activation in ("gelu", "silu", "relu"):
        y = layers.DepthwiseConv2D(3, padding="same", name=f"{activation}_conv")(x)
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{activation}_norm")(y)
        y = layers.Dense(12, name=f"{activation}_wide")(y)
        y = layers.Activation(activation, name=activation)(y)
        x = layers.Add(name=f"{activation}_add")([x, layers.Dense(8, name=f"{activation}_out")(y)])
    pool, dense = _head()
    return keras.Model(images, dense(pool(x)), name="joined")


def _base(name: str) -> Any:
    import keras
    from keras import layers

    images = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv")(images)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("relu", name="relu")(x)
    y = layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)
    return keras.Model(
        images, layers.ReLU(6, name="relu6")(layers.Add(name="add")([x, y])), name=name
    )


def _head() -> tuple[Any, Any]:
    from keras import layers

    pool = layers.GlobalAveragePooling2D(name="pool")
    return pool, layers.Dense(7, activation="softmax", name="predictions")


def application(name: str) -> Any:
    """Return one of Keras's applications for small images."""
    import keras

    build = getattr(keras.applications, name)
    options = (
        {"include_preprocessing": False} if name.startswith(("MobileNetV3", "ConvNeXt")) else {}
    )
    return build(weights=None, input_shape=(SIZE, SIZE, 3), **options)


def images_for(name: str, count: int, seed: int = 0) -> Array:
    """Return images for the model of that name; EfficientNet itself rescales pixels."""
    images = pictures(count, 24 if name in SMALL else SIZE, seed)
    return (images + 1) * np.float32(127.5) if name.startswith("EfficientNet") else images


def preset_for(name: str) -> str:
    """Return the preset that converts pictures to `images_for` a model."""
    return "raw" if name.startswith("EfficientNet") else "tf"


def _made(name: str, build: Callable[[], Any]) -> Any:
    return seeded(build(), _calibrating(name))


def _calibrating(name: str) -> Array:
    """Return the images of which moving statistics are taken.

    A channel that is nearly constant on these images has a tiny variance, so that its normalisation
    amplifies any other image. EfficientNet takes pixels, whose range ends at black. Therefore half
    of its patterns are faded, down to black. The other half have noise, for channels that only
    react to noise. Without it, SmoothGrad's noisy copies have gradients up to two million times
    those of the picture, and a relative change by a millionth reverses them even in double
    precision.
    """
    images = images_for(name, 16, seed=7)
    if name.startswith("EfficientNet"):
        images[::2] *= np.linspace(0, 1, 8, dtype=np.float32)[:, None, None, None]
        images[1::2] = _noisy(images[1::2])
    return images


def _noisy(images: Array) -> Array:
    """Add noise of the strength of SmoothGrad's default to each image."""
    draw = np.random.default_rng(0)
    strength = 0.15 * np.ptp(images, axis=(1, 2, 3), keepdims=True)
    noise = draw.standard_normal(images.shape, dtype=np.float32)
    return np.asarray(images + strength * noise, np.float32)


SMALL: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        build.__name__: functools.partial(_made, build.__name__, build)
        for build in (nested, subclassed, shared, joined)
    }
)
"""Small models, each of another kind."""

LARGE: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        name: functools.partial(_made, name, functools.partial(application, name))
        for name in APPLICATIONS
    }
)
"""Keras's applications."""
