"""Speed of the same Keras model by every route, and by peers, in one run.

    uv run --group frameworks python benchmarks/bench_backends.py [--batch 1 8] [--rounds 15]
    uv run --group frameworks --with tf-keras-vis --with xplique python benchmarks/bench_backends.py

The model is ResNet50 for 224 x 224 with drawn weights, or --model another of Keras's
applications. Each program is measured right after an untimed run of its own, all of them in
turn in every round, and the table shows medians and their ratio to a `tf.function` written by
hand. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from bench_onnx import interleaved
from xaimaps_tensorflow.testing.models import pictures, seeded

from xaimaps.backend import Backend
from xaimaps.methods import METHODS
from xaimaps.parity import routes

Timed = Callable[[], Any]
TARGET = 285


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="ResNet50")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    model = seeded(getattr(keras.applications, args.model)(weights=None), pictures(8, 224))
    backends = routes(model)
    layer = backends["tensorflow"].default_layer().name
    print("| batch | what | by | ms | over by hand |\n|---|---|---|---|---|")
    for batch in args.batch:
        images = pictures(batch, 224, seed=1)
        for what in ("forward", "grad_cam", "saliency"):
            programs = dict(contestants(what, model, layer, backends, images))
            for row in rows(batch, what, interleaved(programs, args.rounds)):
                print(row, flush=True)


def rows(batch: int, what: str, medians: dict[str, float]) -> Iterator[str]:
    for name, seconds in medians.items():
        ratio = seconds / medians["by hand"]
        yield f"| {batch} | {what} | {name} | {1e3 * seconds:.1f} | {ratio:.2f} |"


def contestants(
    what: str, model: Any, layer: str, backends: dict[str, Backend], images: Any
) -> Iterator[tuple[str, Timed]]:
    tensor = tf.constant(images)
    by_hand = {"forward": forward, "grad_cam": grad_cam, "saliency": saliency}[what](model, layer)
    yield "by hand", lambda: by_hand(tensor).numpy()
    for name, backend in backends.items():
        if what == "forward" or METHODS[what].needs <= backend.capabilities:
            yield name, ours(what, backend, images)
    if what != "forward":
        yield from peers(what, model, layer, images)


def ours(what: str, backend: Backend, images: Any) -> Timed:
    def program(backend: Backend, images: Any) -> Any:
        return (
            backend.forward(images)
            if what == "forward"
            else METHODS[what].fn(backend, images, TARGET).maps
        )

    native = backend.asarray(images)
    compiled = backend.compile(program, native)
    return lambda: backend.to_numpy(compiled(native))


def forward(model: Any, layer: str) -> Any:
    return tf.function(lambda images: model(images, training=False))


def grad_cam(model: Any, layer: str) -> Any:
    """As one writes it with care: the tape begins at the layer."""
    dense = model.layers[-1]
    inner = keras.Model(model.inputs, [model.get_layer(layer).output])

    @tf.function
    def run(images: Any) -> Any:
        values = inner(images, training=False)
        with tf.GradientTape() as tape:
            tape.watch(values)
            logits = tf.reduce_mean(values, (1, 2)) @ dense.kernel + dense.bias
            scores = logits[:, TARGET]
        weights = tf.reduce_mean(tape.gradient(scores, values), (1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * values, -1))

    return run


def saliency(model: Any, layer: str) -> Any:
    dense = model.layers[-1]
    body = keras.Model(model.inputs, [model.layers[-2].output])

    @tf.function
    def run(images: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = body(images, training=False) @ dense.kernel + dense.bias
            scores = logits[:, TARGET]
        return tf.reduce_max(tf.abs(tape.gradient(scores, images)), -1)

    return run


def peers(what: str, model: Any, layer: str, images: Any) -> Iterator[tuple[str, Timed]]:
    for name, make in (("tf-keras-vis", tf_keras_vis), ("Xplique", xplique)):
        try:
            run = make(what, model, layer, images)
            run()
        except ImportError:
            continue
        except Exception as error:  # a peer that does not work here is no contestant, but is told
            print(f"<!-- {name} {what}: {type(error).__name__}: {error} -->"[:300])
            continue
        yield name, run


def tf_keras_vis(what: str, model: Any, layer: str, images: Any) -> Timed:
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    score = CategoricalScore([TARGET] * len(images))
    kind = Gradcam if what == "grad_cam" else Saliency
    explainer = kind(model, model_modifier=ReplaceToLinear(), clone=True)
    options = {"penultimate_layer": layer} if what == "grad_cam" else {}
    return lambda: explainer(score, images, **options)


def xplique(what: str, model: Any, layer: str, images: Any) -> Timed:
    from xplique.attributions import GradCAM, Saliency

    goal = np.eye(model.output_shape[-1], dtype=np.float32)[[TARGET] * len(images)]
    options = {"conv_layer": layer} if what == "grad_cam" else {}
    kind = GradCAM if what == "grad_cam" else Saliency
    explainer = kind(model, output_layer=-2, batch_size=len(images), **options)
    return lambda: explainer(images, goal)


if __name__ == "__main__":
    main()
