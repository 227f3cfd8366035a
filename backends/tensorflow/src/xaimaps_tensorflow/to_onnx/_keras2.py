"""Live models of tf_keras, the package that still publishes Keras 2, converted to Keras 3."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from xaimaps_keras.read import read_model

from xaimaps.errors import UnsupportedModelError, XaimapsError
from xaimaps_tensorflow._inputs import first_images
from xaimaps_tensorflow.to_onnx._compare import require_equal
from xaimaps_tensorflow.to_onnx._model import Subject, subject_of
from xaimaps_tensorflow.to_onnx._probe import probe_inputs


def is_keras_2(model: object) -> bool:
    """Return whether an object is a model of tf_keras, without an import of tf_keras."""
    return any(
        kind.__name__ == "Model" and kind.__module__.partition(".")[0] == "tf_keras"
        for kind in type(model).__mro__
    )


def subject_of_keras_2(
    model: Any,
    *,
    output: str | int | None = None,
    input_shape: Sequence[int | None] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Subject:
    """Return the copy of a tf_keras model in Keras 3, which must give the same outputs.

    Args:
        model: a functional or sequential model.
        output: see `subject_of`.
        input_shape: see `subject_of`.
        custom_objects: the model's own layers, written for Keras 3, by name.

    Raises:
        UnsupportedModelError: the model cannot be copied, or the outputs differ.
    """
    given = first_images(model, input_shape)
    copied = _in_keras_3(model, custom_objects)
    subject = subject_of(copied, output=output, input_shape=input_shape)
    original = dataclasses.replace(subject, model=model, images=given)
    inputs = probe_inputs(subject).values()
    found, expected = (np.asarray(one(*inputs)[1]) for one in (subject, original))
    require_equal(found, expected, subject.tolerance)
    return subject


def _in_keras_3(model: Any, custom_objects: Mapping[str, Any] | None) -> Any:
    with tempfile.TemporaryDirectory(prefix="xaimaps-") as folder:
        file = Path(folder) / "model.h5"
        _save(model, file)
        try:
            # This process has just written the file, so that any code in it is trusted.
            return read_model(file, allow_unsafe=True, custom_objects=custom_objects)
        except XaimapsError as error:
            said = str(error).replace(repr(str(file)), "it").partition("; ")[0]
            raise _unequalled(model, said) from error


def _save(model: Any, file: Path) -> None:
    try:
        with _quiet():
            model.save(file, include_optimizer=False, save_format="h5")
    except NotImplementedError:
        raise UnsupportedModelError(
            "a model of tf_keras must be functional or sequential, with get_config() in each of "
            f"its own layers, but {model.name!r} is not; explain it with the backend 'tensorflow', "
            "or write it for Keras 3"
        ) from None
    except Exception as error:  # the user's own layers may raise anything
        raise _unequalled(model, f"{type(error).__name__}: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Keras's warnings of an old format, and of a model that is not compiled."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def _unequalled(model: Any, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"the model {model.name!r} of tf_keras cannot be converted, for Keras 3 has no equal of it "
        f"({reason}); explain it with the backend 'tensorflow', or give custom_objects= of Keras 3"
    )
