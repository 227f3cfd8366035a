"""What Keras says when it cannot load a file, and what it does not say, as errors of ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from xaimaps.errors import ModelLoadError, XaimapsError
from xaimaps_tensorflow._messages import summary


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """The boundary: whatever Keras finds wrong with a file is an error of ours.

    Args:
        name: what the message calls the file.

    Raises:
        ModelLoadError: in place of any other error, which remains as its cause.
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
    """Let Keras load something, with its warnings kept quiet and one of them taken seriously.

    Raises:
        ModelLoadError: a layer has kept its random weights, of which Keras only warns.
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
    """Refuse weights that are not numbers, which Keras loads without a word.

    Raises:
        ModelLoadError: there is one.
    """
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelLoadError(
                f"the weights {getattr(variable, 'path', variable.name)!r} of {name} have NaN or "
                "infinity in them; train or save the model again"
            )
