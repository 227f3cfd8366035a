"""The calls of xaimaps, as a user makes them, from numpy to numpy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import xaimaps
from benchmarks.peers import cases
from benchmarks.peers.cases import CLASS, FORWARD, Calls, Length, Make
from benchmarks.peers.networks import Array, Network
from xaimaps.backend import Precision
from xaimaps.methods import METHODS


@functools.cache
def loaded(network: Network, backend: str, precision: Precision, **options: Any) -> Any:
    """Return a network as a user loads it: a file, or in TensorFlow a Keras model."""
    model = network.keras if backend == "tensorflow" else network.file
    return xaimaps.load(model, backend=backend, precision=precision, **options)


def of_backend(
    backend: str,
    network: Network,
    images: Array,
    precision: Precision,
    length: Length,
    **options: Any,
) -> Calls:
    """Return the calls of a backend."""
    model = loaded(network, backend, precision, **options)
    forward = model.compile(lambda b, x: b.forward(x), model.asarray(images))

    def call(method: str) -> Callable[[], Any]:
        settings = {"target": CLASS, "batch_size": len(images), **length.repeated.get(method, {})}
        return lambda: xaimaps.attribute(model, images, method, **settings).maps

    able = [method for method in cases.METHODS if METHODS[method].fits(model)]
    alone = {FORWARD: lambda: model.to_numpy(forward(model.asarray(images)))}
    return alone | {method: call(method) for method in able}


def in_auto(network: Network, images: Array, precision: Precision, length: Length) -> Calls:
    """Return the calls in JAX with the faster forward pass, of the methods that it makes faster."""
    calls = of_backend("jax", network, images, precision, length, forward="auto")
    of_layers = [name for name, row in METHODS.items() if row.takes_layer and "grad" in row.needs]
    return {name: call for name, call in calls.items() if name in of_layers}


in_jax: Make = functools.partial(of_backend, "jax")
in_onnxruntime: Make = functools.partial(of_backend, "onnxruntime")
in_tensorflow: Make = functools.partial(of_backend, "tensorflow")
