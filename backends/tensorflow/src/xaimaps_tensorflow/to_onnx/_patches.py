"""Patches that make Keras, TensorFlow and tf2onnx fit together, for the duration of one trace.

The patches change state of the process, so that a lock excludes other conversions.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tf2onnx
from onnx import helper
from tf2onnx.optimizer.merge_duplicated_nodes_optimizer import MergeDuplicatedNodesOptimizer

LOCK = threading.Lock()

RECTIFIERS = frozenset("Relu Clip LeakyRelu PRelu ThresholdedRelu Elu Selu".split())
"""The operators to which rectifiers of Keras are converted."""


@contextmanager
def repaired() -> Iterator[None]:
    """Hold the lock, apply the patches, and undo them afterwards."""
    with LOCK, _inlined_functions(), _quiet(), _counted_from_one(), _rectifiers_apart():
        yield


@contextmanager
def _inlined_functions() -> Iterator[None]:
    """Do not compile grouped convolutions as functions, which freezing cannot inline."""
    original = tf.function

    def plain(func: Any = None, *args: Any, jit_compile: Any = None, **options: Any) -> Any:
        if not jit_compile:
            return original(func, *args, jit_compile=jit_compile, **options)
        return func if func is not None else lambda function: function

    tf.function = plain
    try:
        yield
    finally:
        tf.function = original


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress tf2onnx's log of errors that it ignores, because `require_known` raises them."""
    logger = logging.getLogger("tf2onnx")
    level, disabled = logger.level, logging.root.manager.disable
    logger.setLevel(logging.CRITICAL + 1)
    logging.disable(max(disabled, logging.ERROR))  # some of it goes to the root
    try:
        yield
    finally:
        logging.disable(disabled)
        logger.setLevel(level)


@contextmanager
def _counted_from_one() -> Iterator[None]:
    """Generate the same names for the same model, whatever was converted before."""
    before = tf2onnx.utils.INTERNAL_NAME
    tf2onnx.utils.INTERNAL_NAME = 1
    try:
        yield
    finally:
        tf2onnx.utils.INTERNAL_NAME = before


@contextmanager
def _rectifiers_apart() -> Iterator[None]:
    """Do not merge two rectifiers of one value: guided backpropagation treats each alone."""
    original = MergeDuplicatedNodesOptimizer._skip_node_type

    def skip(node: Any) -> bool:
        return node.type in RECTIFIERS or original(node)

    MergeDuplicatedNodesOptimizer._skip_node_type = staticmethod(skip)
    try:
        yield
    finally:
        MergeDuplicatedNodesOptimizer._skip_node_type = staticmethod(original)


def _write_erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """Write erfc(x), of TensorFlow's exact GELU, as 1 - erf(x); ONNX only has Erf."""
    (source,) = node.input
    kind, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    output = node.output[0]
    one = context.make_const(tf2onnx.utils.make_name(name), _one(kind)).output[0]
    context.remove_node(name)
    erf = context.make_node("Erf", [source], name=tf2onnx.utils.make_name(name))
    context.make_node(
        "Sub", [one, erf.output[0]], name=name, outputs=[output], shapes=[shape], dtypes=[kind]
    )


def _one(kind: int) -> Any:
    return np.ones((), helper.tensor_dtype_to_np_dtype(kind))


HANDLERS: dict[str, tuple[Callable[..., Any], list[Any]]] = {"Erfc": (_write_erfc, [])}
"""Handlers for operators that tf2onnx does not know."""
