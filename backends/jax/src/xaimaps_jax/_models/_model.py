"""`Model`: a model of any of JAX's libraries, as a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xaimaps.errors import ModelLoadError

Array = Any
Params = Any

Layout = str

BATCHES: Sequence[Layout] = ("NHWC", "NCHW")
"""The axes of a batch of images, most usual first."""

LAYOUTS: Sequence[Layout] = (*BATCHES, "HWC", "CHW")
"""The axes of a batch of images, or of one."""

MODES: Mapping[str, Any] = {
    "train": False,
    "training": False,
    "is_training": False,
    "inference": True,
    "deterministic": True,
    "use_running_average": True,
}
"""The arguments and attributes by which models tell training from inference, for inference."""

KEYS = frozenset({"key", "rng", "rngs"})
"""The arguments that take random keys, which nothing draws from in inference."""


@dataclass(frozen=True)
class Model:
    """A model as a function of its parameters and images.

    Attributes:
        name: its name.
        fn: the function; its images are as `layouts` says.
        params: the parameters, a pytree of arrays.
        layouts: the axes of images that models of the library take, most usual first.
        notes: what the user should know about the way the model is called.
        root: the named scope of the whole model, which names of layers leave out.
        input_shape: `(height, width, channels)` as the model declares it, or None.
        inputs: the values of its other arguments for one image, by name.
    """

    name: str
    fn: Callable[..., Any]
    params: Params
    layouts: Sequence[Layout]
    notes: Sequence[str] = ()
    root: str = ""
    input_shape: Sequence[int | None] | None = None
    inputs: Mapping[str, Array] = field(default_factory=dict)


def arguments(
    call: Callable[..., Any], given: Mapping[str, Any], known: Sequence[str]
) -> dict[str, Any]:
    """Return the keyword arguments that call a model for inference.

    Args:
        call: the model's call, with the images as its first argument.
        given: the arguments that the user gave.
        known: the names of arguments that the adapter passes itself.

    Raises:
        ModelLoadError: an argument without a default is left.
    """
    _, *others = inspect.signature(call).parameters.values()
    chosen = dict(given)
    for one in others:
        is_left = one.name not in chosen and one.name not in known
        if is_left and one.name in MODES:
            chosen[one.name] = MODES[one.name]
        elif is_left and one.name in KEYS and one.default is one.empty:
            chosen[one.name] = None
    named = (one for one in others if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY))
    left = [one.name for one in named if one.default is one.empty and one.name not in known]
    if missing := [name for name in left if name not in chosen]:
        raise ModelLoadError(
            f"the model must be callable with images alone, but its call also needs "
            f"{', '.join(map(repr, missing))}; give it by `call=dict({missing[0]}=...)`"
        )
    return chosen


def said(chosen: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return a note on the arguments that were chosen for the user."""
    own = [f"{name}={value!r}" for name, value in chosen.items() if name not in given]
    return [f"the model is called with {', '.join(own)}"] if own else []
