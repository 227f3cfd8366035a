"""MPRT: a map should change if the weights of the model are randomised."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._noise import normal
from xaimaps.methods._options import check_count
from xaimaps.metrics._case import Array, Case, Measured
from xaimaps.metrics._registry import metric
from xaimaps.metrics._similarity import Similarity, similarity_by

BINS = 100
"""The bins of the histogram of a map, as in the paper."""


@metric(
    family="randomisation", better="lower", needs={"explanation", "weights"},
    paper="Adebayo et al. 2018, arXiv:1810.03292",
)  # fmt: skip
def mprt(
    case: Case, *, steps: int = 10, similarity: Similarity = "spearman", seed: int = 0
) -> Measured:
    """The mean similarity of the map to those of the model with randomised layers.

    The layers are randomised from the output to the input, each in addition to those before, and
    the map is computed again after each share of them. A map that does not depend on what the
    model has learned, as that of an edge detector, has a similarity of 1.

    A layer is a convolution or a matrix product, with the biases and normalisations behind it. Each
    of its arrays of weights gets its own values in a random order, so that their distribution is
    kept, and with it variances above 0. Each array has an order of its own. Arrays of few values in
    an ONNX file are constants, and stay.

    Args:
        case: the image and its map; the target stays that of the original model.
        steps: how many times the map is computed; at most once for each layer.
        similarity: "spearman", the correlation of ranks; "ssim", the structural similarity of the
            maps, each scaled to 0 to 1, with a Gaussian window of 11 positions.
        seed: of the orders. They also depend on the order in which a framework stores weights, so
            that two backends differ as two seeds do.

    Returns:
        The mean similarity, -1 to 1, of the signed values; NaN if one of the maps is constant or
        not finite. The curve has the share of the layers and the similarity.

    Raises:
        MethodError: an option is out of range.
        UnsupportedModelError: no layer has weights of floats.

    References:
        Adebayo et al. 2018, https://arxiv.org/abs/1810.03292
    """
    maps = (
        (share, case.explained_randomised(case.image[None])[0])
        for share in _randomised(case, steps, seed)
    )
    return _compared(case.map, maps, similarity)


@metric(
    family="randomisation", better="lower", needs={"explanation", "weights"},
    paper="Hedström et al. 2024, arXiv:2401.06465",
)  # fmt: skip
def smooth_mprt(
    case: Case,
    *,
    steps: int = 10,
    n_samples: int = 10,
    noise: float = 0.1,
    similarity: Similarity = "spearman",
    seed: int = 0,
) -> Measured:
    """MPRT of the mean of the maps of noisy copies of the image.

    The mean suppresses the noise of gradients, which lowers the similarity of any two maps.

    Args:
        case: the image and its map.
        steps: see `mprt`.
        n_samples: the number of noisy copies, the same for all models.
        noise: their standard deviation, relative to the range of the image's values.
        similarity: see `mprt`.
        seed: of the noise, and see `mprt`.

    Returns:
        See `mprt`.

    Raises:
        MethodError: an option is out of range.
        UnsupportedModelError: no layer has weights of floats.

    References:
        Hedström et al. 2024, https://arxiv.org/abs/2401.06465
    """
    check_count("n_samples", n_samples)
    if not noise > 0:
        raise MethodError(f"`noise` must be above 0, got {noise!r}")
    scale = noise * np.ptp(case.image)
    images = case.image + scale * normal(seed, n_samples, *case.image.shape)
    own = case.explained(images).mean(axis=0)
    maps = (
        (share, case.explained_randomised(images).mean(axis=0))
        for share in _randomised(case, steps, seed)
    )
    return _compared(own, maps, similarity)


@metric(
    family="randomisation", better="higher", needs={"explanation", "weights"},
    paper="Hedström et al. 2024, arXiv:2401.06465",
)  # fmt: skip
def efficient_mprt(case: Case, *, seed: int = 0) -> Measured:
    r"""The relative rise of the map's entropy if all layers of the model are randomised.

    $$(e' - e) / e$$

    with the entropy e of the histogram of the map's values in 100 bins, and e' that of the map of
    the randomised model. It compares no positions, so that noise does not count as a change.

    Args:
        case: the image and its map.
        seed: see `mprt`.

    Returns:
        -1 or more; NaN if the entropy of the map is 0 or a value is not finite.

    Raises:
        UnsupportedModelError: no layer has weights of floats.

    References:
        Hedström et al. 2024, https://arxiv.org/abs/2401.06465
    """
    (_,) = _randomised(case, 1, seed)
    before, after = map(entropy, (case.map, case.explained_randomised(case.image[None])[0]))
    return Measured((after - before) / before if before > 0 else float("nan"))


def entropy(map: Array) -> float:
    """Return the entropy of the histogram of a map's values, in nats; NaN if one is not finite."""
    if not np.isfinite(map).all():
        return float("nan")
    counts, _ = np.histogram(map, BINS)
    shares = counts[counts > 0] / map.size
    return float(-(shares * np.log(shares)).sum())


def _compared(own: Array, maps: Iterator[tuple[float, Array]], similarity: str) -> Measured:
    """Return the mean similarity to other maps, and its curve."""
    compare = similarity_by(similarity)
    points = [(share, compare(own, one)) for share, one in maps]
    return Measured(float(np.mean([y for _, y in points])), np.array([(0.0, 1.0), *points]))


def _randomised(case: Case, steps: int, seed: int) -> Iterator[float]:
    """Randomise the replica step by step, from the top, and yield the share of its layers."""
    check_count("steps", steps)
    replica = case.replica
    assert replica is not None, "a metric that needs it gets one"
    layers = list(replica.layers.values())[::-1]
    for layer in layers:
        replica.assign(layer)
    ends = np.unique(np.linspace(0, len(layers), steps + 1).round().astype(int))
    for start, end in itertools.pairwise(ends):
        for number in range(start, end):
            replica.assign(permuted(layers[number], seed, number))
        yield end / len(layers)


def permuted(weights: Mapping[str, Array], *seed: int) -> dict[str, Array]:
    """Return the values of each array in a random order of its own."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    return {name: random.permuted(one) for name, one in weights.items()}
