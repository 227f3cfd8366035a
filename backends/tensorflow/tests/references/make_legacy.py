"""Writes the small files of Keras 2 that the tests read, and what their models answer.

    pip install tf_keras tensorflow-cpu
    python backends/tensorflow/tests/references/make_legacy.py

tf_keras is Keras 2 as it is still published. `keras-2.2.h5` is its file with the configuration
reworded as Keras 2.2 worded it in 2018: a `Model` without modules, build shapes or policies.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src.applications.convnext import LayerScale

FOLDER = Path(__file__).parent
SHAPE = (12, 12, 3)
LATER = ("module", "registered_name", "build_config", "groups", "ragged", "synchronized")

layers = tf_keras.layers
HALF = tf_keras.mixed_precision.Policy("mixed_float16")


def features(x):
    """A base as those of Keras's applications: depthwise blocks with a skip connection."""
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="Conv1")(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.999, name="bn_Conv1")(x)
    skip = layers.ReLU(6.0, name="Conv1_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(skip)
    x = layers.BatchNormalization(name="depthwise_BN")(x)
    return layers.Add(name="block_add")([skip, x])


def head(x):
    """Pooling and a dense layer with a softmax."""
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(5, activation="softmax", name="predictions")(layers.Dropout(0.2)(x))


def functional():
    """One flat graph."""
    x = tf_keras.Input(SHAPE, name="input_1")
    return tf_keras.Model(x, head(features(x)), name="small")


def nested():
    """A base inside a Sequential, as transfer learning makes it."""
    x = tf_keras.Input(SHAPE, name="input_1")
    base = tf_keras.Model(x, features(x), name="base")
    top = [layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax", name="top")]
    return tf_keras.Sequential([base, tf_keras.Sequential(top, name="head")], name="transfer")


def operations():
    """Operators on tensors, which Keras 2 kept as `TFOpLambda` (its MobileNetV3 has them)."""
    x = tf_keras.Input(SHAPE, name="input_1")
    y = layers.Conv2D(8, 3, name="conv")(x / 127.5 - 1.0)
    y = layers.Multiply(name="hard_swish")([y, layers.ReLU(6.0)(y + 3.0) * (1.0 / 6.0)])
    y = tf.concat([tf.nn.relu6(y), 1.0 - y * y], axis=-1)
    return tf_keras.Model(x, head(y), name="operations")


def separable():
    """Separable convolutions as Xception has them, and slashes in names as MobileNetV3."""
    x = tf_keras.Input(SHAPE, name="input_1")
    y = layers.SeparableConv2D(6, 3, strides=2, use_bias=False, name="Conv")(x)
    y = layers.BatchNormalization(name="Conv/BatchNorm")(y)
    z = layers.DepthwiseConv2D(3, padding="same", name="expanded_conv/depthwise")(y)
    y = layers.Add(name="expanded_conv/Add")([y, z + 3.0])
    return tf_keras.Model(x, head(y), name="separable")


def transfer():
    """A base called twice in a graph, augmentation before it, and what ConvNeXt is made of."""
    x = tf_keras.Input(SHAPE, name="input_1")
    y = tf_keras.Input(SHAPE)
    base = tf_keras.Model(y, features(y), name="base")
    flipped = tf_keras.Sequential([layers.RandomFlip("horizontal")], name="augmentation")(x)
    y = layers.Add(name="both")([base(flipped), base(layers.ReLU(name="relu")(x))])
    zeros = tf.constant_initializer(0)
    y = layers.Dense(8, "gelu", bias_initializer=zeros, name="wide")(y)
    y = LayerScale(1e-6, 8, name="scale")(y)
    return tf_keras.Model(x, head(y), name="transfer")


def mixed():
    """Layers that compute in half precision."""
    x = tf_keras.Input(SHAPE, name="input_1")
    y = layers.Conv2D(4, 3, dtype=HALF, name="conv")(x)
    y = layers.SeparableConv2D(4, 3, dtype=HALF, name="separable")(y)
    y = layers.GlobalAveragePooling2D(name="pool")(y)
    return tf_keras.Model(x, layers.Dense(5, activation="softmax", name="top")(y), name="mixed")


def randomise(model, seed=0):
    """Weights, biases and statistics that make every layer count."""
    rng = np.random.default_rng(seed)
    values = [rng.normal(0, 0.3, w.shape) for w in model.get_weights()]
    kinds = [w.name for w in model.weights]
    model.set_weights(
        [np.abs(v) + 0.5 if "variance" in k else v for v, k in zip(values, kinds, strict=True)]
    )
    return model


def older(part):
    """A configuration without what came after Keras 2.2."""
    if isinstance(part, list):
        return [older(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {key: older(value) for key, value in part.items() if key not in LATER}
    renamed = {"Functional": "Model", "GlorotUniform": "VarianceScaling"}.get(
        kept.get("class_name")
    )
    if renamed == "VarianceScaling":
        values = {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None}
        return {"class_name": renamed, "config": values}
    return {**kept, "class_name": renamed} if renamed else kept


def reword(path):
    """Make of a file of tf_keras one of Keras 2.2."""
    with h5py.File(path, "r+") as file:
        config = older(json.loads(file.attrs["model_config"]))
        file.attrs["model_config"] = json.dumps(config).encode()
        for group in (file, file["model_weights"]):
            group.attrs["keras_version"] = b"2.2.4"


def main():
    """Write the files, and the answers to one image."""
    image = np.random.default_rng(1).uniform(0, 1, (1, *SHAPE)).astype(np.float32)
    answers = {"image": image}
    files = {
        "functional.h5": functional,
        "keras-2.2.h5": functional,
        "nested.h5": nested,
        "operations.h5": operations,
        "separable.h5": separable,
        "mixed.h5": mixed,
        "functional.keras": functional,
        "transfer.h5": transfer,
    }
    for name, build in files.items():
        model = randomise(build())
        model.save(FOLDER / name)
        answers[name] = model(image, training=False).numpy()
    reword(FOLDER / "keras-2.2.h5")
    randomise(functional()).save_weights(FOLDER / "functional-weights.h5")
    np.savez_compressed(FOLDER / "legacy.npz", **answers)


if __name__ == "__main__":
    main()
