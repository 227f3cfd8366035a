"""SmoothGrad, SmoothGrad-Squared and VarGrad: statistics of a gradient method over noisy copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._batching import (
    flatten_batch,
    tile_target,
    unflatten_batch,
    variants_within,
    weighted_sum,
    zero_maps,
)
from xaimaps.methods._maps import Maps, Reduce, named, native, reduce_channels
from xaimaps.methods._noise import Floats, normal
from xaimaps.methods._options import Pairs, check_count
from xaimaps.methods._registry import method
from xaimaps.targets import Target


def draw_noise(
    shape: tuple[int, ...], *, n_samples: int = 50, seed: int = 0, **others: object
) -> dict[str, Floats]:
    """Draw the noise of all copies, before it is scaled."""
    check_count("n_samples", n_samples)
    return {"noise": normal(seed, n_samples, *shape)}


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Smilkov et al. 2017, arXiv:1706.03825",
    cost="1 F + n_samples x base",
    draws=draw_noise,
)
def smoothgrad(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    base: str = "saliency",
    n_samples: int = 50,
    noise_level: float = 0.15,
    seed: int = 0,
    absolute: bool = True,
    reduce: Reduce = "max",
    memory: float | None = None,
    base_options: Pairs = (),
    noise: Array | None = None,
) -> Maps:
    r"""The mean gradient over noisy copies of the image.

    $$M_{ij} = \max_c \Big| \frac{1}{n} \sum_s g_{ijc}(x + \epsilon_s) \Big|, \qquad
      \epsilon_s \sim \mathcal{N}\big(0, (\lambda (\max x - \min x))^2\big)$$

    The gradients g keep their sign until the mean is taken, and the target is resolved on the clean
    image. The noise is the same for every image of a batch, scaled by the image's range.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        base: the gradient method that is smoothed; "saliency" means the signed gradient.
        n_samples: the number of noisy copies.
        noise_level: the noise's standard deviation, as a fraction of each image's range.
        seed: of the noise.
        absolute: take absolute values of the mean; False keeps the sign.
        reduce: "max", "sum" or "mean" over the channels; None keeps them.
        memory: limit for the values of one pass, in MB; None follows the device.
        base_options: options of `base`, as pairs: `(("n_steps", 20),)`.
        noise: standard normal `(n_samples, H, W, C)`; None draws it from `seed`.

    Returns:
        Maps of shape `(N, H, W)`, in units of `base`.

    Raises:
        MethodError: `base` is not a gradient method with channels, or an option is wrong.

    References:
        Smilkov et al. 2017, https://arxiv.org/abs/1706.03825

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import smoothgrad
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> smoothgrad(backend, images, 0, n_samples=5).maps.shape
        (1, 9, 9)
    """
    noisy = _Noisy(backend, images, base, base_options, n_samples, noise_level, seed, noise, memory)
    outputs, wanted = named(backend, images, target)
    mean = noisy.mean(wanted, zero_maps(backend.xp, images, wanted, outputs), lambda values: values)
    values = backend.xp.abs(mean) if absolute else mean
    return Maps(reduce_channels(backend.xp, values, reduce), outputs)


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Hooker et al. 2019, arXiv:1806.10758",
    cost="1 F + n_samples x base",
    draws=draw_noise,
)
def smoothgrad_squared(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    base: str = "saliency",
    n_samples: int = 50,
    noise_level: float = 0.15,
    seed: int = 0,
    reduce: Reduce = "max",
    memory: float | None = None,
    base_options: Pairs = (),
    noise: Array | None = None,
) -> Maps:
    r"""The mean squared gradient over noisy copies of the image.

    $$M_{ij} = \max_c \frac{1}{n} \sum_s g_{ijc}(x + \epsilon_s)^2$$

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        base: the gradient method g; "saliency" means the signed gradient.
        n_samples: the number of noisy copies.
        noise_level: the noise's standard deviation, as a fraction of each image's range.
        seed: of the noise.
        reduce: "max", "sum" or "mean" over the channels; None keeps them.
        memory: limit for the values of one pass, in MB; None follows the device.
        base_options: options of `base`, as pairs.
        noise: standard normal `(n_samples, H, W, C)`; None draws it from `seed`.

    Returns:
        Non-negative maps of shape `(N, H, W)`, in squared units of `base`.

    Raises:
        MethodError: as `smoothgrad`.

    References:
        Hooker et al. 2019, https://arxiv.org/abs/1806.10758

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import smoothgrad_squared
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> smoothgrad_squared(backend, images, 0, n_samples=5).maps.shape
        (1, 9, 9)
    """
    noisy = _Noisy(backend, images, base, base_options, n_samples, noise_level, seed, noise, memory)
    outputs, wanted = named(backend, images, target)
    mean = noisy.mean(wanted, zero_maps(backend.xp, images, wanted, outputs), lambda g: g * g)
    return Maps(reduce_channels(backend.xp, mean, reduce), outputs)


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Adebayo et al. 2018, arXiv:1810.03292",
    cost="1 F + (n_samples + 1) x base",
    draws=draw_noise,
)
def vargrad(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    base: str = "saliency",
    n_samples: int = 50,
    noise_level: float = 0.15,
    seed: int = 0,
    reduce: Reduce = "max",
    memory: float | None = None,
    base_options: Pairs = (),
    noise: Array | None = None,
) -> Maps:
    r"""The variance of the gradient over noisy copies of the image.

    $$M_{ij} = \max_c \Big( \frac{1}{n} \sum_s g_{ijc}(x + \epsilon_s)^2
      - \Big( \frac{1}{n} \sum_s g_{ijc}(x + \epsilon_s) \Big)^2 \Big)$$

    The moments are taken around the gradient of the clean image, which avoids cancellation.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        base: the gradient method g; "saliency" means the signed gradient.
        n_samples: the number of noisy copies.
        noise_level: the noise's standard deviation, as a fraction of each image's range.
        seed: of the noise.
        reduce: "max", "sum" or "mean" over the channels; None keeps them.
        memory: limit for the values of one pass, in MB; None follows the device.
        base_options: options of `base`, as pairs.
        noise: standard normal `(n_samples, H, W, C)`; None draws it from `seed`.

    Returns:
        Non-negative maps of shape `(N, H, W)`, in squared units of `base`.

    Raises:
        MethodError: as `smoothgrad`.

    References:
        Adebayo et al. 2018, https://arxiv.org/abs/1810.03292

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import vargrad
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> vargrad(backend, images, 0, n_samples=5).maps.shape
        (1, 9, 9)
    """
    noisy = _Noisy(backend, images, base, base_options, n_samples, noise_level, seed, noise, memory)
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    centre = noisy.explain(images, wanted)

    def moments(values: Array) -> Array:
        apart = values - centre
        return xp.stack([apart, apart * apart], axis=1)

    zeros = zero_maps(xp, images, wanted, outputs)
    both = noisy.mean(wanted, xp.stack([zeros, zeros]), moments)
    variance = both[1, ...] - both[0, ...] ** 2
    values = xp.maximum(variance, xp.zeros_like(variance))
    return Maps(reduce_channels(xp, values, reduce), outputs)


class _Noisy(NamedTuple):
    """A gradient method, and the noise that is added to a batch."""

    backend: Backend
    images: Array
    base: str
    base_options: Pairs
    n_samples: int
    noise_level: float
    seed: int
    noise: Array | None
    memory: float | None

    def explain(self, images: Array, target: Target) -> Array:
        """Return the method's values with sign and channels, `(N, H, W, C)` or `(K, N, ...)`."""
        from xaimaps.methods import get_method

        row = get_method("saliency" if self.base == "gradient" else self.base)
        options = {**dict(self.base_options), "reduce": None}
        if row.family != "gradient" or "reduce" not in row.options:
            raise MethodError(f"`base` must be a gradient method with channels, got {self.base!r}")
        row.check_options(options)
        self.backend.require(row.needs, f"the method {row.name!r}")
        if "absolute" in row.options:
            options = {"absolute": False, **options}
        return row.fn(self.backend, images, target, **options).maps

    def mean(self, target: Target, start: Array, statistic: Callable[[Array], Array]) -> Array:
        """Return the mean of a statistic over noisy copies.

        Args:
            target: the resolved target.
            start: zeros of the shape of the result.
            statistic: maps values `(m, ...)` to `(m, *start.shape)`.
        """
        xp, images = self.backend.xp, self.images
        axes = tuple(range(1, len(images.shape)))
        width = xp.max(images, axis=axes, keepdims=True) - xp.min(images, axis=axes, keepdims=True)

        def explained(noise: Array) -> Array:
            copies = images + self._level * width * noise[:, None, ...]
            count = copies.shape[0]
            found = self.explain(
                flatten_batch(xp, copies), tile_target(self.backend, target, count)
            )
            return statistic(unflatten_batch(xp, found, count, len(images.shape) - 1))

        noise = self._noise()
        most = variants_within(self.backend, images, self.memory)
        weights = xp.ones((noise.shape[0],), dtype=noise.dtype) / noise.shape[0]
        return weighted_sum(self.backend, explained, weights, (noise,), most, start)

    @property
    def _level(self) -> float:
        level = self.noise_level
        if isinstance(level, bool) or not isinstance(level, int | float) or not level >= 0:
            raise MethodError(f"`noise_level` must be a number of at least 0, got {level!r}")
        return level

    def _noise(self) -> Array:
        if self.noise is not None:
            return native(self.backend, self.noise, self.images)
        drawn = draw_noise(self.images.shape[1:], n_samples=self.n_samples, seed=self.seed)
        return native(self.backend, drawn["noise"], self.images)
