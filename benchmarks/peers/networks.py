"""The networks, each as a Keras model and an ONNX file of the same weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import xaimaps
from xaimaps._prepare import prepare

Array = np.ndarray[Any, Any]

SIZE = (224, 224, 3)
EMBEDDED, TRANSFORMER = "EfficientNet-Lite0", "ViT-B/16"
OPSET = 17
"""The newest that onnx2torch reads."""


def photographs(count: int) -> Array:
    """Return the embedded photograph of a cat, `(count, 224, 224, 3)` from -1 to 1."""
    picture = prepare(xaimaps.load("default"), xaimaps.zoo.PICTURES["chelsea"])
    return np.repeat(picture.images, count, axis=0)


def embedded() -> Any:
    """Return the embedded network, which is trained."""
    from xaimaps_tensorflow._zoo import efficientnet_lite0

    return efficientnet_lite0()[0]


def application(name: str, **options: Any) -> Callable[[], Any]:
    """Return what makes a network of keras.applications, with random weights."""

    def make() -> Any:
        import keras

        network = getattr(keras.applications, name)
        return network(weights=None, input_shape=SIZE, classifier_activation=None, **options)

    return make


def vit_b16() -> Any:
    """Return a ViT-B/16 of Keras's layers, with random weights."""
    import keras
    from keras import layers

    class Tokens(layers.Layer):  # type: ignore[misc]
        """The class token before those of the patches, and the embedding of positions."""

        def build(self, shape: Any) -> None:
            self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")
            self.positions = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), name="positions")

        def call(self, patches: Any) -> Any:
            first = keras.ops.repeat(self.token, keras.ops.shape(patches)[0], 0)
            return keras.ops.concatenate([first, patches], 1) + self.positions

    def residual(values: Any, *inner: Any) -> Any:
        found = layers.LayerNormalization(epsilon=1e-6)(values)
        for layer in inner:
            found = layer(found)
        return values + found

    images = keras.Input(SIZE)
    values = Tokens()(layers.Reshape((-1, 768))(layers.Conv2D(768, 16, 16)(images)))
    for _ in range(12):
        attention = layers.MultiHeadAttention(12, 64)
        values = residual(values, lambda x, attend=attention: attend(x, x))
        values = residual(values, layers.Dense(3072, "gelu"), layers.Dense(768))
    first = layers.LayerNormalization(epsilon=1e-6)(values)[:, 0]
    return keras.Model(images, layers.Dense(1000)(first))


MAKERS: dict[str, Callable[[], Any]] = {
    EMBEDDED: embedded,
    "MobileNetV3-Large": application("MobileNetV3Large", include_preprocessing=False),
    "ResNet50": application("ResNet50"),
    "VGG16": application("VGG16"),
    TRANSFORMER: vit_b16,
}
"""What makes each network in Keras."""


@dataclass(frozen=True)
class Network:
    """A network, and its feature maps of class activation maps.

    Attributes:
        name: a key of `MAKERS`.
        file: the ONNX file.
        keras: the Keras model.
    """

    name: str
    file: Path
    keras: Any

    @property
    def is_planar(self) -> bool:
        """Whether the ONNX file takes images with channels first; Keras's networks do not."""
        return self.name == EMBEDDED

    @functools.cached_property
    def onnx(self) -> Any:
        """The ONNX file in JAX, which knows the layer of the class activation maps."""
        return xaimaps.load(self.file, backend="jax", preprocess="tf")

    @functools.cached_property
    def channels(self) -> int:
        """The number of feature maps at that layer."""
        return int(self.features.shape[-1])

    @functools.cached_property
    def features(self) -> Array:
        """The feature maps of the photograph at that layer, `(1, H, W, channels)`."""
        images = photographs(1)
        run = self.onnx.compile(
            lambda b, x: b.forward_with_activations(x, (b.default_layer().name,))[1], images
        )
        (found,) = run(images).values()
        return np.asarray(found)

    @functools.cached_property
    def keras_layer(self) -> str:
        """The name of that layer in the Keras model, or of the model inside that it ends."""
        if self.name == EMBEDDED:
            return "head"
        return str(xaimaps.load(self.keras, backend="tensorflow").default_layer().name)


def network(name: str, folder: Path = Path("build/peers")) -> Network:
    """Return a network; a folder keeps the ONNX files of those that are not embedded."""
    from xaimaps_tensorflow import convert
    from xaimaps_tensorflow.testing.models import pictures, seeded

    if name == EMBEDDED:
        return Network(name, xaimaps.zoo.MODELS["default"], embedded())
    made = seeded(MAKERS[name](), pictures(4, SIZE[0]))
    file = folder / f"{name.replace('/', '')}.onnx"
    if not file.exists():
        import onnx

        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(convert(made, opset=OPSET, allow_unsafe=True), file)
    return Network(name, file, made)
