"""Keras models of every kind, with drawn weights that tell pictures apart.

Untouched initial weights prove nothing: with them two pictures give outputs that are 1e-7 apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SIZE = 96
"""The side of the applications' images: the least that all of them take."""

APPLICATIONS = (
    *("VGG16", "ResNet50", "InceptionV3", "Xception", "MobileNetV2", "MobileNetV3Small"),
    *("EfficientNetB0", "DenseNet121", "ConvNeXtTiny", "NASNetMobile"),
)


def pictures(count: int, size: int, seed: int = 0) -> Array:
    """Smooth patterns from -1 to 1, `(N, size, size, 3)`, rather than noise, which averages out."""
    draw = np.random.default_rng(seed)
    waves = draw.normal(size=(count, 3, 3, 6, 1, 1))
    place = np.linspace(0, 2 * np.pi, size)
    angles = waves[:, :, :, :1] * place[:, None] * 2 + waves[:, :, :, 1:2] * place * 2
    patterns = (np.sin(angles + 6 * waves[:, :, :, 2:3]) * waves[:, :, :, 3:4]).sum((2, 3))
    patterns = np.moveaxis(patterns, 1, -1)
    size_of_each = np.abs(patterns).max(axis=(1, 2, 3), keepdims=True)
    return np.asarray(patterns / size_of_each, np.float32)


def seeded(model: Any, images: Array | None = None, seed: int = 0) -> Any:
    """Draw all weights of a model: He-normal kernels, and normalisations that are not neutral.

    Args:
        model: whose weights are set.
        images: what moving statistics are taken from, before they are disturbed by up to a
            quarter; None to draw them too.
        seed: of the draws.
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
    """Let each batch normalisation see what reaches it, and then a little off."""
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
    """A functional base inside a `Sequential`, as one is put on top of a pretrained network."""
    import keras
    from keras import layers

    return keras.Sequential(
        [keras.Input((24, 24, 3)), layers.Rescaling(0.5, offset=0.1), _base("base"), *_head()],
        name="nested",
    )


def subclassed() -> Any:
    """A model with a `call` of its own, with a skip connection."""
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
    """A submodel that is called twice."""
    import keras
    from keras import layers

    images = keras.Input((24, 24, 3))
    base = _base("base")
    mirrored = layers.Lambda(lambda x: x[:, :, ::-1], name="mirrored")(images)
    joined = layers.Concatenate(name="joined")([base(images), base(mirrored)])
    pool, dense = _head()
    return keras.Model(images, dense(pool(joined)), name="shared")


def joined() -> Any:
    """Layers that other frameworks write as other operations: normalisations and activations."""
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
    """One of Keras's applications for small images."""
    import keras

    build = getattr(keras.applications, name)
    options = (
        {"include_preprocessing": False} if name.startswith(("MobileNetV3", "ConvNeXt")) else {}
    )
    return build(weights=None, input_shape=(SIZE, SIZE, 3), **options)


def images_for(name: str, count: int, seed: int = 0) -> Array:
    """Images as the model of that name takes them: EfficientNet scales pixels by itself."""
    images = pictures(count, 24 if name in SMALL else SIZE, seed)
    return (images + 1) * np.float32(127.5) if name.startswith("EfficientNet") else images


def preset_for(name: str) -> str:
    """The preset by which pictures become `images_for` a model."""
    return "raw" if name.startswith("EfficientNet") else "tf"


def _made(name: str, build: Callable[[], Any]) -> Any:
    return seeded(build(), _calibrating(name))


def _calibrating(name: str) -> Array:
    """Images of which moving statistics are taken.

    Where black is the end of the range, channels that are alike on all patterns would be blown up
    on the way there, layer by layer: some of the patterns are faint, down to black. So would those
    be that answer to noise alone, and SmoothGrad's copies have it: with patterns only, their
    gradients are up to two million times the picture's, and a change by a millionth turns them over
    in double precision too. So the other patterns have noise on them.
    """
    images = images_for(name, 16, seed=7)
    if name.startswith("EfficientNet"):
        images[::2] *= np.linspace(0, 1, 8, dtype=np.float32)[:, None, None, None]
        images[1::2] = _noisy(images[1::2])
    return images


def _noisy(images: Array) -> Array:
    """Each with noise that is as strong as SmoothGrad's, unless it is told otherwise."""
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
"""Quick ones, each a kind that is put together in another way."""

LARGE: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        name: functools.partial(_made, name, functools.partial(application, name))
        for name in APPLICATIONS
    }
)
"""Keras's applications."""
