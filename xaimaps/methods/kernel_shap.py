"""KernelSHAP: Shapley values of segments, by a weighted regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._coalitions import efficient_maps, play, weighted_scores
from xaimaps.methods._kernel_samples import Doubles, sample_coalitions
from xaimaps.methods._maps import Maps
from xaimaps.methods._masking import default_filling
from xaimaps.methods._noise import Floats
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._segments import Segments, labels_of


def draw_regression(
    shape: tuple[int, ...],
    *,
    segments: Segments = 7,
    n_samples: int = 2000,
    seed: int = 0,
    images: Any = None,
    **_: Any,
) -> dict[str, Any]:
    """Draw the coalitions, and solve the regression for the weight of each score.

    Raises:
        MethodError: an option is out of range.
    """
    check_count("n_samples", n_samples, most=10**6)
    labels = labels_of(shape[:-1], segments, images)
    rows, kernel = sample_coalitions(int(labels.max()) + 1, n_samples, seed)
    return {"labels": labels, "coalitions": rows, "weights": regression_weights(rows, kernel)}


def regression_weights(coalitions: Floats, kernel: Doubles) -> Floats:
    """Return the weight of each score in each segment's value, `(V, M)`.

    With the constraint that the values sum to the difference of the first two scores.
    """
    rows = coalitions.astype(np.float64)
    weighted = rows * kernel[:, None]
    inverse = np.linalg.inv(rows.T @ weighted)
    free = inverse @ weighted.T  # the values without the constraint, of scores minus the first
    free[:, 0] -= free.sum(axis=1)
    excess = free.sum(axis=0)
    excess[:2] -= [-1, 1]
    return (free - np.outer(inverse.sum(axis=1) / inverse.sum(), excess)).T.astype(np.float32)


@method(
    family="perturbation",
    needs={"forward"},
    paper="Lundberg, Lee 2017, arXiv:1705.07874",
    cost="1 F + 2002 F",
    draws=draw_regression,
    defaults=lambda backend: {"baseline": default_filling(backend)},
)
def kernel_shap(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    segments: Segments = 7,
    n_samples: int = 2000,
    seed: int = 0,
    baseline: Baseline = None,
    probability: bool = False,
    memory: float | None = None,
    **drawn: Array,
) -> Maps:
    r"""The Shapley values of segments, by a regression of the score on which segments are visible.

    With $z \in \{0, 1\}^M$ the coalitions of M segments and $|z|$ their sizes:

    $$\phi = \mathrm{argmin}_\phi \sum_z \frac{M - 1}{\binom{M}{|z|} |z| (M - |z|)}
    \Big(y(z) - y(0) - \sum_m \phi_m z_m\Big)^2, \qquad \sum_m \phi_m = y(1) - y(0)$$

    If there are as many samples as coalitions, the values are the exact Shapley values. They always
    sum to the difference of the scores of the image and the baseline:
    `details["completeness_delta"]` is the error, from rounding. There is no selection of segments
    (`l1_reg` of the library shap, which by default keeps ten).

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        segments: the number of cells along each axis, one for all or one for each (an axis of fewer
            pixels has a cell for each); superpixels of each image, "slic", "quickshift" or
            "felzenszwalb"; or your own segments, integers `(H, W)` with a label for each pixel of
            the model's input.
        n_samples: the number of coalitions besides none and all, at least twice the number of
            segments.
        seed: of the coalitions, which are the same for all images and all backends.
        baseline: the pixels of absent segments, as in `occlusion`; None is gray, or zeros if the
            model's preprocessing is unknown.
        probability: y is the probability of a class instead of its score.
        memory: limit for the values of one pass, in MB; None follows the device.
        drawn: `labels` `(H, W)`, and `coalitions` and `weights` `(V, M)`; without, drawn from
            `seed`.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score: at each pixel the value of its
        segment. `details["values"]` has those of the segments, `(N, M)`.

    Raises:
        MethodError: there is no such baseline, or an option is out of range.

    References:
        Lundberg, Lee 2017, https://arxiv.org/abs/1705.07874;
        Covert, Lee 2021, https://arxiv.org/abs/2012.01536

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import kernel_shap
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> kernel_shap(backend, images, 0, segments=3).details["values"].shape
        (1, 9)
    """
    drawn = drawn or draw_regression(
        images.shape[1:], segments=segments, n_samples=n_samples, seed=seed, images=images
    )
    game = play(backend, images, target, drawn, baseline, probability, memory)
    values = weighted_scores(backend, drawn["weights"], game.scores)
    return efficient_maps(backend, game, values, drawn["labels"], game.scores[0, ...])
