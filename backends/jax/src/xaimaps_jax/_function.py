"""`function`: a method as a pure function, for the user's own JAX program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xaimaps._arrays import check_shape
from xaimaps._attribute import MethodLike, classes_of, plan
from xaimaps.backend import Array
from xaimaps.errors import MethodError, ModelLoadError
from xaimaps.methods import Maps
from xaimaps.targets import Classes, Target, as_target
from xaimaps_jax._backend import JaxBackend, Params


def function(
    model: JaxBackend,
    method: MethodLike = "grad_cam",
    *,
    layer: str | Sequence[str] | None = None,
    **options: Any,
) -> Callable[..., Maps]:
    """Return a method as a pure function of parameters, images and target.

    The function takes and returns arrays of JAX, and can be called inside of `jit`, `vmap`, `grad`
    and `shard_map`. Its parameters have the form of `model.params`: the variables of a linen
    module, `nnx.state(model)`, `(eqx.filter(model, eqx.is_array), state)` of an Equinox module,
    where the state may be None, the parameters of a Haiku transform, or those that a plain function
    was loaded with.

    Args:
        model: a model from `xaimaps.load`. Its own parameters are only an example.
        method: see `xaimaps.attribute`.
        layer: see `xaimaps.attribute`.
        options: `augment`, `low_pass`, and the method's own options.

    Returns:
        A function `f(params, images, target=None) -> Maps`. The images are `(N, H, W, C)`,
        preprocessed for the model; the maps are `(N, h, w)`, or `(K, N, h, w)` for K targets, and
        the outputs are those of the same forward pass. The target is as in `xaimaps.attribute`, or
        an array of integers, one for all images or one for each. Classes in a JAX array are not
        checked: the map of a class that the model does not have is zero.

    Raises:
        XaimapsError: an argument is invalid.

    Example:
        >>> import jax, jax.numpy as jnp, xaimaps, xaimaps_jax
        >>> scores = lambda params, images: jnp.tanh(images @ params).mean((1, 2))
        >>> model = xaimaps.load(scores, params=jnp.eye(3), input_shape=(8, 8, 3))
        >>> saliency = jax.jit(xaimaps_jax.function(model, "saliency"))
        >>> saliency(model.params, jnp.ones((2, 8, 8, 3)), jnp.array([0, 2])).maps.shape
        (2, 8, 8)
    """
    job = plan(model, method, layer, options)

    def explain(params: Params, images: Array, target: Any = None) -> Maps:
        _check_structure(params, model.params)
        check_shape(images.shape, model.input_shape)
        count = images.shape[0]
        goal = as_target(_for_each(target, count), count, model.info.labels)
        try:
            with jax.default_matmul_precision("highest"):
                found = job.run(model.viewed(params), images, goal, job.arrays(images))
        except jax.errors.JAXTypeError as error:
            raise MethodError(
                f"the method {job.row.name!r} must compute with arrays of JAX alone, got "
                f"{type(error).__name__}; call it by `xaimaps.attribute`, outside of `jit`"
            ) from error
        _check_classes(goal, found.outputs)
        return found

    return explain


def _check_structure(params: Params, example: Params) -> None:
    given, wanted = str(jax.tree.structure(params)), str(jax.tree.structure(example))
    if given != wanted:
        raise ModelLoadError(
            f"`params` must have the structure of `model.params`, {wanted:.200}, got "
            f"{given:.200}; give all variables of the model"
        )


def _for_each(target: Any, count: int) -> Any:
    """Return a class in a JAX array without axes, which may be traced, once for each image."""
    is_one = isinstance(target, jax.Array) and not target.ndim
    return jnp.broadcast_to(target, (count,)) if is_one else target


def _check_classes(goal: Target, outputs: Array) -> None:
    """Check the classes that are known while the program is traced."""
    for part in goal.parts:
        if isinstance(part, Classes) and isinstance(part.indices, np.ndarray):
            classes_of(part, outputs)
