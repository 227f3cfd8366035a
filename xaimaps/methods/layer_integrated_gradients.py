"""Layer integrated gradients: integrated gradients of a layer's activations."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline, baselines, default_baseline
from xaimaps.methods._batching import weighted_sum, zero_maps
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, Reduce, complete, native
from xaimaps.methods._quadrature import Rule, quadrature
from xaimaps.methods._registry import method
from xaimaps.targets import as_target


@method(
    family="cam",
    needs={"forward", "activations", "grad", "split"},
    paper="Sundararajan et al. 2017, arXiv:1703.01365",
    cost="2 F + (n_steps + 2) f + n_steps b; f is the part behind the layer",
    defaults=lambda backend: {"baseline": default_baseline(backend)},
)
@over_layers
def layer_integrated_gradients(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    n_steps: int = 50,
    rule: Rule = "gauss_legendre",
    baseline: Baseline = None,
    reduce: Reduce = "sum",
) -> Maps:
    r"""The gradient integrated between a layer's activations for a baseline and for the image.

    With the activations $A$ of the image and $A'$ of the baseline:

    $$M_{ij} = \sum_k (A_{ijk} - A'_{ijk}) \int_0^1
      \frac{\partial y}{\partial A_{ijk}}\big(A' + \alpha (A - A')\big)\, d\alpha$$

    The path is a straight line between activations, as in Captum. What bypasses the layer, as a
    skip connection does, keeps its values for the image. The maps sum to the difference of the
    scores for $A$ and $A'$, up to the error of the quadrature, which is
    `details["completeness_delta"]`. Layers in the middle of a network need more steps.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_steps: the number of points on the path.
        rule: the quadrature rule.
        baseline: the image at the start of the path, as for `integrated_gradients`, except
            "noise".
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Signed maps of shape `(N, h, w)`, in units of the score.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such rule or baseline.

    References:
        Sundararajan, Taly, Yan 2017, https://arxiv.org/abs/1703.01365

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import layer_integrated_gradients
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> layer_integrated_gradients(backend, images, 0, n_steps=10).maps.shape
        (1, 5, 5)
    """
    xp, name = backend.xp, backend.find_map_layer(layer).name
    cut = backend.cut(images, name)
    outputs = cut.forward(cut.value)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    points, weights = (native(backend, part, cut.value) for part in quadrature(rule, n_steps))
    zeros = zero_maps(xp, cut.value, goal, outputs)

    def add(total: Array, image: Array) -> tuple[Array, Array]:
        _, kept = backend.forward_with_activations(image + xp.zeros_like(images), (name,))
        start, way = kept[name], cut.value - kept[name]

        def along(alphas: Array) -> Array:
            return cut.pull(start + alphas[0] * way, goal).gradients[None, ...]

        mean = weighted_sum(backend, along, weights, (points,), 1, zeros)
        return total + way * mean, goal.scores(xp, cut.forward(start))

    starts = baselines(backend, images, baseline)
    total, scores = backend.scan(add, zeros, starts)
    return complete(xp, total / starts.shape[0], goal, outputs, xp.mean(scores, axis=0), reduce)
