"""Explain a Keras model in a process of its own, since Keras has one framework: JAX by default.

    python keras_on_jax.py FILE [METHOD ...]

The model is also stored in the file. A method may be followed by a layer.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import resnets
from keras import layers

import xaimaps


def network(p):
    """Return the ResNet of `resnets` in Keras, with the same weights."""

    def conv(x, name, kernel, stride=1):
        size, _, _, outs = kernel.shape
        x = layers.Conv2D(outs, size, stride, "same", use_bias=False, name=name)(x)
        weights[name] = [kernel]
        return x

    def norm(x, name, values):
        weights[name] = values
        return layers.BatchNormalization(epsilon=resnets.EPSILON, name=name)(x)

    weights = {}
    inputs = keras.Input(resnets.SHAPE)
    x = norm(conv(inputs, "stem", p["stem"]), "norm", p["norm"])
    x = layers.ReLU(name="relu")(x)
    for name, _, _, stride in resnets.BLOCKS:
        q = p[name]
        y = norm(conv(x, f"{name}_conv1", q["conv1"], stride), f"{name}_norm1", q["norm1"])
        y = conv(layers.ReLU(name=f"{name}_relu1")(y), f"{name}_conv2", q["conv2"])
        y = norm(y, f"{name}_norm2", q["norm2"])
        x = conv(x, f"{name}_conv3", q["conv3"], stride) if "conv3" in q else x
        x = layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))
    x = layers.Dropout(0.5, name="dropout")(layers.GlobalAveragePooling2D(name="pool")(x))
    outputs = layers.Dense(resnets.CLASSES, activation="softmax", name="head")(x)
    weights["head"] = [p["kernel"], p["bias"]]
    model = keras.Model(inputs, outputs, name="resnet")
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return model


METHODS = ("saliency", "guided_backprop", "cam", "fullgrad", "grad_cam blocks_2")


def main(file, *methods):
    p = resnets.weights()
    images = np.random.default_rng(1).normal(size=(2, *resnets.SHAPE)).astype(np.float32)
    keras_model = network(p)
    state = [dict(vars(layer)) for layer in keras_model._flatten_layers()]
    model = xaimaps.load(keras_model)
    linen = xaimaps.load(resnets.LinenResNet(), resnets.linen_variables(p))
    errors = {"logits": np.abs(np.asarray(model.forward(images)) - resnets.plain(p, images)).max()}
    for method in methods or METHODS:
        name, _, layer = method.partition(" ")
        expected, found = (
            xaimaps.attribute(one, images, name, target=1, layer=layer or None).maps
            for one in (linen, model)
        )
        errors[method] = np.abs(found - expected).max() / np.abs(expected).max()
    for name, *_ in resnets.BLOCKS:
        value, rest = model.split(model.asarray(images), name)
        errors[name] = np.abs(np.asarray(value) - resnets.features(p, images, name)).max()
        errors[f"rest of {name}"] = np.abs(np.asarray(rest(value)) - resnets.plain(p, images)).max()
    is_unchanged = state == [dict(vars(layer)) for layer in keras_model._flatten_layers()]
    keras_model.save(file)
    stored = xaimaps.load(file)
    errors["file"] = np.abs(np.asarray(stored.forward(images)) - resnets.plain(p, images)).max()
    found = {
        "backend": model.name,
        "backend of the file": stored.name,
        "name of the file": stored.info.name,
        "name": model.info.name,
        "input_shape": model.input_shape,
        "ending": model.info.ending,
        "default": model.default_layer().name,
        "layers": [layer.name for layer in model.layers()],
        "unchanged": is_unchanged,
        "errors": {name: float(error) for name, error in errors.items()},
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
