"""D-RISE: random masks, each weighted by how well a detector still finds a box."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import TargetError
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._maps import Maps
from xaimaps.methods._registry import method
from xaimaps.methods.rise import draw_masks, rise
from xaimaps.targets import Several, Target, as_target
from xaimaps.targets._heads import Head, overlaps

N_MASKS, GRID = 5000, 16


@method(
    family="perturbation",
    needs={"forward"},
    paper="Petsiuk et al. 2021, arXiv:2006.03204",
    cost="1 F + 5000 F",
    draws=functools.partial(draw_masks, n_masks=N_MASKS, grid=GRID),
    is_relative=True,
    suits=lambda backend: backend.network.output_rank == 3,  # an image shows whether it has boxes
)
def d_rise(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    n_masks: int = N_MASKS,
    grid: int = GRID,
    p: float = 0.5,
    seed: int = 0,
    baseline: Baseline = "zeros",
    memory: float | None = None,
    cells: Array | None = None,
    moves: Array | None = None,
) -> Maps:
    r"""The mean of random masks, each weighted by how well the detector still finds the box.

    With the masks $m_v$ of `rise`, the box $b$ with classes $c$, and all boxes $b_k$ of the masked
    image with classes $c_k$ and objectness $o_k$:

    $$M_{ij} = \frac{1}{p n} \sum_{v=1}^{n} m_{v,ij} \max_k\,
    \mathrm{IoU}(b, b_k)\, \cos(c, c_k)\, o_k$$

    A detector without an objectness has the score of the best class in its place. All boxes are
    compared, before any suppression, which cannot lower the maximum. Every map has an offset; only
    differences have a meaning.

    Args:
        backend: the model, a detector; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: one box, or several, such as "box:2" or "person", resolved on the clean images.
        n_masks: the number n of masks.
        grid: the number of cells to a side, before they are enlarged.
        p: the probability that a cell is visible.
        seed: of the masks, which are the same for all images and all backends.
        baseline: the pixels where a mask is 0, as in `occlusion`; the authors' choice is "zeros".
        memory: limit for the values of one pass, in MB; None follows the device. It does not
            grow with `n_masks`.
        cells: ones and zeros `(n_masks, grid, grid)`; None draws them from `seed`.
        moves: shifts along each axis in pixels `(n_masks, 2)`; None draws them from `seed`.

    Returns:
        Maps of shape `(N, H, W)`.

    Raises:
        MethodError: there is no such baseline, or an option is out of range.
        TargetError: the target is no box, or its corners and classes are in two outputs.

    References:
        Petsiuk et al. 2021, https://arxiv.org/abs/2006.03204

    Example:
        >>> import numpy as np, xaimaps
        >>> from xaimaps.testing import ReferenceBackend, detector_network
        >>> backend, images = ReferenceBackend(detector_network()), np.ones((1, 9, 9, 3), "f4")
        >>> settings = {"target": "box:1", "n_masks": 50}
        >>> xaimaps.attribute(backend, images, "d_rise", **settings).maps.shape
        (1, 9, 9)
    """
    outputs = backend.forward(images)
    wanted = as_target(target, images.shape[0], backend.info.labels)
    parts = tuple(_similarity(backend, part, outputs) for part in wanted.parts)
    return rise(
        backend,
        images,
        Several(parts) if wanted.is_several else parts[0],
        n_masks=n_masks,
        grid=grid,
        p=p,
        seed=seed,
        baseline=baseline,
        memory=memory,
        cells=cells,
        moves=moves,
    )


def _similarity(backend: Backend, target: Target, outputs: Array) -> Target:
    """Return the similarity to the box that a target of the clean images names."""
    head = getattr(target, "head", None)
    if head is None:
        raise TargetError(
            "`target` must be a box of a detector whose corners and classes are in one output, "
            "such as 'box:1', got another; `xaimaps targets` lists the boxes, and rise explains "
            "any target"
        )
    (place,) = target.arrays
    own = backend.asarray(place) if isinstance(place, np.ndarray) else place
    corners, classes = head.own(backend.xp, outputs, own)
    turned = map(backend.xp.matrix_transpose, (corners, classes))
    return _Similarity(head, *turned)


@dataclass(frozen=True, eq=False)
class _Similarity(Target):
    """How similar the most similar box is to one box of the clean image.

    Attributes:
        head: of the detector.
        corners: of the box, `(4, N)`.
        classes: of the box, `(C, N)`.
    """

    head: Head
    corners: Array
    classes: Array

    @property
    def key(self) -> Hashable:
        return ("similar box", self.head)

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.corners, self.classes)

    def with_arrays(self, arrays: tuple[Array, ...]) -> _Similarity:
        return _Similarity(self.head, *arrays)

    def indices_in(self, xp: Any, outputs: Array) -> None:
        return None

    def scores(self, xp: Any, outputs: Array) -> Array:
        boxes = self.head.boxes(xp, outputs)
        corners, classes = (
            xp.matrix_transpose(own)[:, None, :] for own in (self.corners, self.classes)
        )
        similar = overlaps(xp, boxes.corners, corners) * _cosines(xp, boxes.classes, classes)
        return xp.max(similar * boxes.objectness, axis=-1)


def _cosines(xp: Any, a: Array, b: Array) -> Array:
    """Return the cosines of vectors on the last axis; 0 for a vector of zeros."""
    squares = xp.sum(a * a, axis=-1) * xp.sum(b * b, axis=-1)
    return divided(xp, xp.sum(a * b, axis=-1), xp.sqrt(squares))
