"""Layer conductance and internal influence: the path of integrated gradients, seen at a layer."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline, baselines, default_baseline
from xaimaps.methods._batching import weighted_sum
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, Reduce, complete, named, native, reduce_channels
from xaimaps.methods._options import check_count
from xaimaps.methods._quadrature import Rule, quadrature
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations", "grad", "split"},
    paper="Dhamdhere et al. 2018, arXiv:1805.12233",
    cost="1 F + (n_steps + 1) (F + b) for each baseline",
    defaults=lambda backend: {"baseline": default_baseline(backend)},
)
@over_layers
def layer_conductance(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    n_steps: int = 50,
    baseline: Baseline = None,
    reduce: Reduce = "sum",
) -> Maps:
    r"""The part of integrated gradients that flows through each position of a layer.

    With the activations $A(\alpha)$ for the image $x' + \alpha (x - x')$ on the way from a
    baseline:

    $$M_{ij} = \sum_k \int_0^1 \frac{\partial y}{\partial A_{ijk}}\,
      \frac{d A_{ijk}}{d\alpha}\, d\alpha$$

    The integral is taken between equal steps of $\alpha$, by the trapezoidal rule. If all of the
    score depends on the layer, the maps sum to the difference of the scores, up to an error that is
    `details["completeness_delta"]`. Captum takes the gradients at the start of each interval
    between Gauss-Legendre points, without the intervals at both ends.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_steps: the number of steps on the path.
        baseline: the image at the start of the path, as for `integrated_gradients`, except
            "noise".
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Signed maps of shape `(N, h, w)`, in units of the score.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: `n_steps` is not a positive number, or there is no such baseline.

    References:
        Dhamdhere, Sundararajan, Yan 2018, https://arxiv.org/abs/1805.12233

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import layer_conductance
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> layer_conductance(backend, images, 0, n_steps=10).maps.shape
        (1, 5, 5)
    """
    check_count("n_steps", n_steps, 1)
    xp, name = backend.xp, backend.find_map_layer(layer).name
    outputs, goal = named(backend, images, target)
    points = native(backend, quadrature("riemann_right", n_steps).points, images)

    def conductance(start: Array) -> tuple[Array, Array]:
        first = backend.grad(start + xp.zeros_like(images), goal, wrt=name)

        def step(carry: tuple[Array, ...], alpha: Array) -> tuple[tuple[Array, ...], None]:
            total, before, slope = carry
            found = backend.grad(start + alpha * (images - start), goal, wrt=name)
            mean = 0.5 * (slope + found.gradients)
            total = total + mean * (found.activations - before)
            return (total, found.activations, found.gradients), None

        carry = (xp.zeros_like(first.gradients), first.activations, first.gradients)
        (total, _, _), _ = backend.scan(step, carry, points)
        return total, first.scores

    starts = baselines(backend, images, baseline)
    parts = [conductance(starts[k, ...]) for k in range(starts.shape[0])]
    total, scores = (xp.mean(xp.stack(part), axis=0) for part in zip(*parts, strict=True))
    return complete(xp, total, goal, outputs, scores, reduce)


@method(
    family="cam",
    needs={"forward", "activations", "grad", "split"},
    paper="Leino et al. 2018, arXiv:1802.03788",
    cost="1 F + n_steps (F + b) for each baseline",
    defaults=lambda backend: {"baseline": default_baseline(backend)},
)
@over_layers
def internal_influence(
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
    r"""The mean gradient by a layer's activations on the way from a baseline to the image.

    $$M_{ij} = \sum_k \int_0^1 \frac{\partial y}{\partial A_{ijk}}\big(x' + \alpha (x - x')\big)\,
      d\alpha$$

    Unlike `layer_conductance`, it does not count how much the activations change.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_steps: the number of points on the path.
        rule: the quadrature rule.
        baseline: the image at the start of the path, as for `integrated_gradients`, except
            "noise".
        reduce: "sum", "max" or "mean" over the channels; None keeps them.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Signed maps of shape `(N, h, w)`, in units of the score per unit of the activations.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such rule or baseline.

    References:
        Leino et al. 2018, https://arxiv.org/abs/1802.03788

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import internal_influence
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> internal_influence(backend, images, 0, n_steps=10).maps.shape
        (1, 5, 5)
    """
    xp, name = backend.xp, backend.find_map_layer(layer).name
    outputs, goal = named(backend, images, target)
    points, weights = (native(backend, part, images) for part in quadrature(rule, n_steps))

    def mean(start: Array) -> Array:
        def along(alphas: Array) -> Array:
            place = start + alphas[0] * (images - start)
            return backend.grad(place, goal, wrt=name).gradients[None, ...]

        like = backend.grad(images, goal, wrt=name).gradients
        return weighted_sum(backend, along, weights, (points,), 1, xp.zeros_like(like))

    starts = baselines(backend, images, baseline)
    total = xp.mean(xp.stack([mean(starts[k, ...]) for k in range(starts.shape[0])]), axis=0)
    return Maps(reduce_channels(xp, total, reduce), outputs)
