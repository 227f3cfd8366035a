"""The model's scores of many variants of an image, in one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xaimaps.methods._baselines import Baseline
from xaimaps.methods._batching import map_chunks, tile_target, variants_within
from xaimaps.methods._maps import native
from xaimaps.methods._masking import filling_of, scores_of
from xaimaps.metrics._case import Array, Case

Make = Callable[..., Any]


def masked_scores(case: Case, masks: Array, baseline: Baseline, probability: bool) -> Array:
    """Return the scores `(V,)` of the image under masks `(V, *spatial)`.

    Args:
        case: the image.
        masks: 1 keeps a position, 0 shows the baseline.
        baseline: see `xaimaps.methods.occlusion`; None for grey, or zeros if it is not known.
        probability: whether to return probabilities, if the target is a class.
    """
    return scores_of_variants(case, _masked, (masks,), (filling(case, baseline),), probability)


def scores_of_variants(
    case: Case,
    make: Make,
    each: tuple[Array, ...],
    shared: tuple[Array, ...],
    probability: bool,
) -> Array:
    """Return the scores `(V,)` of the variants that `make` makes of the image.

    Args:
        case: the image.
        make: takes the backend, the image `(*spatial, C)`, the arrays of `shared`, and of each of
            `each` a part `(m, ...)`; returns `(m, *spatial, C)`. A function of a module, as it is
            part of the program's key.
        each: arrays `(V, ...)`.
        shared: other arrays.
        probability: whether to return probabilities, if the target is a class.
    """
    backend, count = case.backend, len(case.target.arrays)

    def program(backend: Any, images: Any, *arrays: Any) -> Any:
        target = case.target.with_arrays(arrays[:count])
        given = [native(backend, one, images) for one in arrays[count:]]
        fixed, varied = given[: len(shared)], tuple(given[len(shared) :])

        def scored(*chunk: Any) -> Any:
            variants = make(backend, images[0, ...], *fixed, *chunk)
            goal = tile_target(backend, target, variants.shape[0])
            return scores_of(backend, goal, backend.forward(variants), probability)

        most = variants_within(backend, images, None, gradient=False)
        return map_chunks(backend, scored, varied, most)

    arrays = [case.image[None], *case.target.arrays, *shared, *each]
    own = [backend.asarray(np.asarray(one)) for one in arrays]
    key = ("metric", make, probability, len(shared), case.target.key)
    return np.asarray(backend.to_numpy(backend.compiled(key, program, *own)(*own)))


def filling(case: Case, baseline: Baseline) -> Array:
    """Return the pixels that replace masked ones, `(*spatial, C)`."""
    backend, images = case.backend, case.backend.asarray(case.image[None])
    if baseline is None or isinstance(baseline, str):
        key = ("filling", baseline)
        run = backend.compiled(key, lambda b, images: filling_of(b, images, baseline), images)
        found = run(images)
    else:
        found = filling_of(backend, images, np.asarray(baseline))
    values: Array = np.asarray(backend.to_numpy(found))[0]
    return values


def _masked(backend: Any, image: Any, filling: Any, masks: Any) -> Any:
    return filling + masks[..., None] * (image - filling)
