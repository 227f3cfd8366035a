"""The score of images that are partly hidden."""

from __future__ import annotations

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._arithmetic import softmax
from xaimaps.methods._baselines import Baseline, baselines
from xaimaps.methods._batching import flatten_batch, tile_target, unflatten_batch
from xaimaps.targets import Target


def default_filling(backend: Backend) -> str:
    """Gray, or the model's own zeros where its preprocessing is not known."""
    return "zeros" if backend.info.preprocess is None else "gray"


def filling_of(backend: Backend, images: Array, baseline: Baseline) -> Array:
    """What is seen in place of the image, `(N, H, W, C)` or `(1, H, W, C)`.

    Raises:
        MethodError: there is no such baseline, or it is several.
    """
    name = default_filling(backend) if baseline is None else baseline
    found = baselines(backend, images, name)
    if found.shape[0] != 1:
        raise MethodError(f"`baseline` must be one image, got {found.shape[0]}")
    return found[0, ...]


def scores_behind(
    backend: Backend,
    images: Array,
    filling: Array,
    target: Target,
    masks: Array,
    probability: bool = False,
) -> Array:
    """The scores `(m, ..., N)` of images seen through masks `(m, 1, H, W)`."""
    xp, open_ = backend.xp, masks[..., None]
    outputs = backend.forward(flatten_batch(xp, filling + open_ * (images - filling)))
    outputs = softmax(xp, outputs) if probability else outputs
    scores = tile_target(backend, target, masks.shape[0]).scores(xp, outputs)
    return unflatten_batch(xp, scores, masks.shape[0], trailing=0)
