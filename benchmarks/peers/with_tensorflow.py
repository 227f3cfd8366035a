"""The calls of libraries of TensorFlow, as a user makes them, from numpy to numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.peers.cases import CLASS, FORWARD, WINDOW, Calls, Length
from benchmarks.peers.networks import Array, Network


def of_keras_vis(network: Network, images: Array, precision: str, length: Length) -> Calls:
    """Return tf-keras-vis's calls."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

    set_tensorflow(precision)
    model, score = network.keras, CategoricalScore([CLASS] * len(images))
    saliency = Saliency(model, clone=False)
    kinds = {
        "grad_cam": Gradcam,
        "grad_cam_plusplus": GradcamPlusPlus,
        "score_cam": Scorecam,
    }

    def call(kind: Any) -> Callable[[], Any]:
        cam = kind(model, clone=False)
        return lambda: cam(score, images, penultimate_layer=network.keras_layer)

    return {
        "saliency": lambda: saliency(score, images),
        "smoothgrad": lambda: saliency(score, images, smooth_samples=length.samples),
    } | {name: call(kind) for name, kind in kinds.items()}


def of_xplique(network: Network, images: Array, precision: str, length: Length) -> Calls:
    """Return Xplique's calls."""
    from xplique import attributions as attr

    set_tensorflow(precision)
    model, layer = network.keras, network.keras_layer
    labels = np.eye(1000, dtype=np.float32)[[CLASS] * len(images)]
    methods = {
        "saliency": attr.Saliency(model),
        "grad_cam": attr.GradCAM(model, conv_layer=layer),
        "grad_cam_plusplus": attr.GradCAMPP(model, conv_layer=layer),
        "integrated_gradients": attr.IntegratedGradients(model, steps=length.steps),
        "smoothgrad": attr.SmoothGrad(model, nb_samples=length.samples),
        "occlusion": attr.Occlusion(model, patch_size=WINDOW, patch_stride=length.stride),
        "rise": attr.Rise(model, nb_samples=length.masks),
    }

    def call(method: Any) -> Callable[[], Any]:
        return lambda: np.asarray(method.explain(images, labels))

    forward = tf.function(lambda x: model(x, training=False))
    alone = {FORWARD: lambda: forward(tf.constant(images)).numpy()}
    return alone | {name: call(method) for name, method in methods.items()}


def set_tensorflow(precision: str) -> None:
    """Set how TensorFlow computes.

    Raises:
        ValueError: it is bfloat16, which these libraries do not offer.
    """
    if precision == "bfloat16":
        raise ValueError("no bfloat16 for a Keras model in float32")
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
