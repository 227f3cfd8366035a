"""The conversion of Keras's errors and warnings about a file to our own errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from xaimaps.errors import ModelLoadError, XaimapsError
from xaimaps_keras.messages import summary


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Convert any error that Keras raises about a file.

    Args:
        name: the file's name in the message.

    Raises:
        ModelLoadError: instead of any other error, which is kept as its cause.
    """
    try:
        yield
    except XaimapsError:
        raise
    except Exception as error:  # Keras, TensorFlow, h5py and any layer may raise anything
        raise ModelLoadError(
            f"Keras {keras.__version__} cannot load {name} ({summary(error)}); check that the file "
            "is whole and of this model, and pass custom_objects= if it has layers of your own"
        ) from error


@contextmanager
def loading() -> Iterator[None]:
    """Suppress Keras's warnings while it loads a file, but convert one of them to an error.

    Raises:
        ModelLoadError: a layer keeps its random weights; Keras only warns of that.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in (str(entry.message) for entry in caught):
        if "freshly-initialized" in text:
            raise ModelLoadError(
                f"the file lacks weights of the model ({text.partition('. ')[0][:200]}); save it "
                "again with a newer Keras"
            )


def require_finite(model: Any, name: str) -> None:
    """Refuse weights that are not finite, which Keras loads silently.

    Raises:
        ModelLoadError: a weight is NaN or infinite.
    """
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelLoadError(
                f"the weights {getattr(variable, 'path', variable.name)!r} of {name} have NaN or "
                "infinity in them; train or save the model again"
            )
