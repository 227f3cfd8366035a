"""Models of JAX's libraries as functions of parameters and images, with their modules named.

One module for each library. It is imported only for a model of that library.
"""

from xaimaps_jax._models._adapters import adapt, is_keras_file, is_model
from xaimaps_jax._models._find import found
from xaimaps_jax._models._given import Given
from xaimaps_jax._models._model import LAYOUTS, Model

__all__ = ["LAYOUTS", "Given", "Model", "adapt", "found", "is_keras_file", "is_model"]
