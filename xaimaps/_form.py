"""What all exports share: the forms of maps, example images, and the comparison with a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps._arrays import Floats, as_batch
from xaimaps._attribute import attribute
from xaimaps._results.attribution import Attribution
from xaimaps._run import Job
from xaimaps.backend import Array, Backend
from xaimaps.errors import ArrayInputError, MethodError, UnsupportedModelError
from xaimaps.methods import Maps, Method
from xaimaps.methods._resize import resized
from xaimaps.parity._measures import measure, tolerance_of

Form = Literal["raw", "input", "normalised"]

SCORE_ROUNDING = 2e-6
"""How far two scores that two runtimes round differently may be apart, over the scores: 16 ulp.

What a window changes can be a small part of the score, as in a network with random weights. Then
the map, a difference or a mean of scores, is less exact than its tolerance, in any runtime.
"""

BY_INPUT = "input"
"""The target that is a further argument of the exported program."""


def require_form(form: object) -> None:
    """Refuse what is no form.

    Raises:
        MethodError: it is another value.
    """
    if form not in get_args(Form):
        raise MethodError(f"`form` must be 'raw', 'input' or 'normalised', got {form!r}")


def formed(backend: Backend, maps: Array, form: Form, size: tuple[int, ...]) -> Array:
    """Return maps raw, at the size of the input, or that with values from 0 to 1.

    Args:
        backend: of the maps.
        maps: `(..., *spatial)`.
        form: which of these.
        size: that of the input.
    """
    if form == "raw":
        return maps
    xp, maps = backend.xp, resized(backend, maps, size)
    if form == "input":
        return maps
    positive, axes = xp.maximum(maps, xp.zeros_like(maps)), tuple(range(-len(size), 0))
    return divided(xp, positive, xp.max(positive, axis=axes, keepdims=True))


def named(backend: Backend, found: Maps, form: Form, size: tuple[int, ...]) -> dict[str, Array]:
    """Return the maps of a method in a form, images first, and the outputs, by name."""
    maps = formed(backend, found.maps, form, size)
    is_several = found.maps.ndim == len(size) + 2
    return {
        "map": backend.xp.moveaxis(maps, 0, 1) if is_several else maps,
        "outputs": found.outputs,
    }


def example_images(model: Backend, images: Any, count: int | None) -> Floats:
    """Return the images to compare on, by default random ones.

    Args:
        model: the model.
        images: `(N, *spatial, C)`, or None.
        count: how many the program takes; None for any number.

    Raises:
        ArrayInputError: the images do not fit the model, or it takes images of any size.
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ArrayInputError(f"`batch` must be a whole number from 1, got {count!r}")
    shape = model.input_shape
    known = [side for side in shape if side is not None]
    if images is None and len(known) < len(shape):
        raise ArrayInputError(
            f"`images` must be given, as the model takes images of any size {shape}; the program "
            "takes their size"
        )
    if images is None:
        images = np.random.default_rng(0).normal(size=(3, *known))
    found = as_batch(images, shape)
    return found if count is None else np.resize(found, (count, *found.shape[1:]))


def difference_from(
    model: Backend,
    call: Callable[..., Mapping[str, Any]],
    sample: Floats,
    job: Job,
    form: Form,
    **settings: Any,
) -> float:
    """Return the relative difference of the maps of an exported program from those of its model.

    Args:
        model: the model.
        call: the program, of the images and, if the target is an argument, of the classes.
        sample: the images.
        job: the method.
        form: of the maps of the program.
        settings: the target and others of `attribute`.

    Raises:
        UnsupportedModelError: the difference is beyond the tolerance of the method.
    """
    classes = []
    if isinstance(settings["target"], str) and settings["target"] == BY_INPUT:
        outputs = np.asarray(call(sample, np.zeros(len(sample), np.int32))["outputs"])
        classes = [outputs.reshape(len(outputs), -1).argmax(axis=-1).astype(np.int32)]
        settings["target"] = classes[0].tolist()
    result = attribute(model, sample, job.row, **settings)
    expected = formed(model, model.asarray(result.maps), form, sample.shape[1:-1])
    found = np.asarray(call(sample, *classes)["map"])
    rounding = score_rounding(job.row, result, form)
    return require_same(found, np.asarray(expected), job.row, model, rounding)


def require_same(
    found: np.ndarray[Any, Any],
    expected: np.ndarray[Any, Any],
    row: Method,
    reference: Backend,
    rounding: float,
) -> float:
    """Return the relative difference of the maps of an exported file.

    Args:
        found: those of the file.
        expected: those of the method on the backend, in the same form.
        row: the method.
        reference: the backend.
        rounding: the difference that the rounding of scores explains.

    Raises:
        UnsupportedModelError: the difference is beyond the tolerance of the method, and beyond the
            rounding of the scores that its maps are made of.
    """
    measures, tolerance = measure(found, expected, rank=False), tolerance_of(row)
    if not tolerance.allows(measures) and measures.absolute > rounding:
        raise UnsupportedModelError(
            f"the map of the exported file differs from {row.name} on {reference.name!r} by "
            f"{measures.relative:.1e} of its largest value, more than {tolerance} allows, so that "
            "nothing was written; explain the model with that backend instead"
        )
    return measures.relative


def score_rounding(row: Method, result: Attribution, form: Form) -> float:
    """Return how much of a map made of scores is their rounding; 0 for other maps."""
    if row.family != "perturbation" or form == "normalised" or result.target_scores is None:
        return 0.0
    return SCORE_ROUNDING * float(np.abs(result.target_scores).max())
