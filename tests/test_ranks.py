"""Methods on signals and volumes: each is the same as on images that hold the same values."""

import itertools

import numpy as np
import pytest

import xaimaps
from xaimaps._images.preprocess import PRESETS
from xaimaps._results.render import plane
from xaimaps.errors import ArrayInputError, MethodError
from xaimaps.methods import fuse_maps
from xaimaps.methods.blur_ig import _blurs
from xaimaps.testing import REFERENCE_METHODS, ReferenceBackend, pooled_network
from xaimaps.testing.networks import Conv, Dense, GlobalAveragePool, Network, ReLU

RNG = np.random.default_rng(4)
CELLS = (RNG.random((12, 3, 3)) < 0.5).astype(np.float32)
MOVES = RNG.integers(0, 3, (12, 2)).astype(np.int32)
FEW = {
    "ss_cam": {"n_samples": 2},
    "recipro_cam": {"gaussian": False},  # whose peak is a half on each axis
    "is_cam": {"n_steps": 2},
    "integrated_gradients": {"n_steps": 3},
    "layer_integrated_gradients": {"n_steps": 3},
    "guided_ig": {"n_steps": 3},
    "expected_gradients": {"n_samples": 3},
    "smoothgrad": {"n_samples": 3},
    "smoothgrad_squared": {"n_samples": 3},
    "vargrad": {"n_samples": 3},
    "smooth_grad_cam_plusplus": {"n_samples": 3},
    "kernel_shap": {"n_samples": 14, "segments": 2},
    "lime": {"n_samples": 8, "segments": 2},
    "shapley_sampling": {"n_permutations": 2, "segments": 2},
    "owen": {"depth": 2},
    "sobol": {"n_designs": 2, "segments": 2},
    "hsic": {"n_samples": 8, "segments": 2},
    "sess": {"n_scales": 2},
}
# A blur has zeros outside of the image, also before and behind a single slice.
SAME = sorted(set(REFERENCE_METHODS) - {"blur_ig"})


def network(first, second, shape):
    draw = np.random.default_rng(0).normal
    head = Dense(draw(size=(5, 4)).astype("f4"), draw(size=4).astype("f4"))
    layers = {
        "conv1": Conv(first, np.full(4, 0.1, np.float32)),
        "relu1": ReLU(),
        "conv2": Conv(second, np.full(5, 0.1, np.float32)),
        "relu2": ReLU(),
        "pool": GlobalAveragePool(),
        "fc": head,
    }
    backend = ReferenceBackend(Network(layers, shape))
    backend.info.preprocess = PRESETS["unit"]
    return backend


def pair(rank):
    """Return a network of images and images, and the same as one of signals or volumes."""
    size, kernel = ((1, 12), (1, 3)) if rank == 1 else ((7, 8), (2, 3))
    draw = np.random.default_rng(1).normal
    first, second = (draw(size=(*kernel, *s)).astype("f4") for s in ((3, 4), (4, 5)))
    images = draw(size=(2, *size, 3)).astype("f4")
    flat = network(first, second, (*size, 3))
    if rank == 1:
        return flat, images, network(first[0], second[0], (size[1], 3)), images[:, 0]
    deep = network(first[None], second[None], (1, *size, 3))
    return flat, images, deep, images[:, None]


def as_rank(rank, maps):
    return maps[..., 0, :] if rank == 1 else np.expand_dims(maps, -3)


def masks(rank):
    """Return RISE's masks for images, and the same for signals or volumes."""
    cells, moves = CELLS, MOVES
    if rank == 1:
        cells, moves = np.repeat(CELLS[:, :1], 3, axis=1), MOVES * [0, 1]
        return {"cells": cells, "moves": moves}, {"cells": cells[:, 0], "moves": moves[:, 1:]}
    deep = np.repeat(cells[:, None], 3, axis=1)
    return {"cells": cells, "moves": moves}, {
        "cells": deep,
        "moves": np.pad(moves, [(0, 0), (1, 0)]),
    }


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("method", SAME)
def test_maps_equal_those_of_images(method, rank):
    flat, images, other, arrays = pair(rank)
    options = masks(rank) if method == "rise" else [FEW.get(method, {})] * 2
    expected = xaimaps.attribute(flat, images, method, target="top-2", **options[0])
    found = xaimaps.attribute(other, arrays, method, target="top-2", **options[1])
    np.testing.assert_allclose(found.maps, as_rank(rank, expected.maps), atol=1e-5)
    for name, value in expected.details.items():
        np.testing.assert_allclose(*map(np.squeeze, (found.details[name], value)), atol=1e-4)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("options", [{"augment": "flip"}, {"low_pass": 2}, {"reduce": None}])
def test_what_is_around_a_method_is_the_same(options, rank):
    flat, images, other, arrays = pair(rank)
    expected = xaimaps.attribute(flat, images, "saliency", target=1, **options).maps
    found = xaimaps.attribute(other, arrays, "saliency", target=1, **options).maps
    channels = expected.ndim == 4
    expected = np.moveaxis(expected, -1, 1) if channels else expected
    expected = as_rank(rank, expected)
    expected = np.moveaxis(expected, 1, -1) if channels else expected
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("baseline", ["mean", "gray", np.full(3, 0.5)])
def test_baselines_of_a_volume(baseline):
    flat, images, other, arrays = pair(3)
    given = isinstance(baseline, np.ndarray)
    first, second = (
        baseline + np.zeros(x.shape[1:], np.float32) if given else baseline
        for x in (images, arrays)
    )
    options = {"n_steps": 3, "target": 0}
    expected = xaimaps.attribute(flat, images, "integrated_gradients", baseline=first, **options)
    found = xaimaps.attribute(other, arrays, "integrated_gradients", baseline=second, **options)
    np.testing.assert_allclose(found.maps[:, 0], expected.maps, atol=1e-6)


@pytest.fixture(scope="module")
def deep():
    """Return a network of volumes, and volumes."""
    backend = ReferenceBackend(pooled_network(size=5, rank=3))
    return backend, RNG.normal(size=(2, 5, 5, 5, 3)).astype(np.float32)


def test_occlusion_of_a_volume_hides_one_window_after_the_other(deep):
    backend, volumes = deep
    found = xaimaps.attribute(backend, volumes, "occlusion", target=1, window=2, stride=1).maps
    whole = backend.forward(volumes)[:, 1]
    total, count = np.zeros(volumes.shape[:-1]), np.zeros(volumes.shape[:-1])
    for start in itertools.product(range(4), repeat=3):
        place = (slice(None), *(slice(i, i + 2) for i in start))
        hidden = volumes.copy()
        hidden[place] = 0
        total[place] += (whole - backend.forward(hidden)[:, 1])[:, None, None, None]
        count[place] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-6)


def test_rise_of_a_volume_weights_masks_that_are_interpolated_on_every_axis(deep):
    backend, volumes = deep
    cells = (RNG.random((6, 2, 2, 2)) < 0.5).astype(np.float32)
    moves = RNG.integers(0, 3, (6, 3)).astype(np.int32)
    found = xaimaps.attribute(
        backend, volumes, "rise", target=1, cells=cells, moves=moves, grid=2, probability=False
    ).maps
    centres = (np.arange(9) + 0.5) * 2 / 9 - 0.5  # two cells over three times three positions
    total = 0
    for mask, move in zip(cells, moves, strict=True):
        for axis in range(3):
            mask = np.apply_along_axis(lambda x: np.interp(centres, [0, 1], x), axis, mask)
        mask = mask[tuple(slice(i, i + 5) for i in move)]
        scores = backend.forward(volumes * mask[..., None])[:, 1]
        total = total + scores[:, None, None, None] * mask
    np.testing.assert_allclose(found, total / (0.5 * 6), atol=1e-5)


def test_a_blur_of_a_volume_is_one_along_each_axis(deep):
    _, volumes = deep
    sigmas = np.array([0.7, 1.5])
    found, change = _blurs(np, volumes.astype(float), sigmas, 2.0)
    distance = np.arange(-20, 21)
    for i, sigma in enumerate(sigmas):
        bell = np.exp(-0.5 * (distance / sigma) ** 2) * (abs(distance) <= int(4 * sigma + 0.5))
        expected = volumes.astype(float)
        for axis in (1, 2, 3):
            expected = np.apply_along_axis(
                lambda x, bell=bell: np.convolve(x, bell / bell.sum())[20:-20], axis, expected
            )
        np.testing.assert_allclose(found[i], expected, atol=1e-9)
    step = 1e-6
    near = [_blurs(np, volumes.astype(float), sigmas + s, 2.0)[0] for s in (step, -step)]
    np.testing.assert_allclose(change, (near[0] - near[1]) / (2 * step), atol=1e-6)


def test_layers_of_several_sizes_are_fused_on_every_axis(deep):
    backend, _ = deep
    maps = [RNG.random((1, 4, 4, 2)), RNG.random((1, 2, 2, 2))]
    found = fuse_maps(backend, maps, "mean", rank=3)
    large = maps[1]
    for axis in (1, 2):
        positions = (np.arange(4) + 0.5) / 2 - 0.5
        large = np.apply_along_axis(lambda x, p=positions: np.interp(p, [0, 1], x), axis, large)
    expected = (maps[0] / maps[0].max() + large / maps[1].max()) / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_map_of_a_volume_is_drawn_as_the_slices_through_its_largest_value(deep, tmp_path):
    values = RNG.random((3, 4, 5))
    values[1, 2, 3] = 2
    drawn = plane(values)
    assert drawn.shape == (4, 5 + 5 + 4)
    np.testing.assert_array_equal(drawn[:, :5], values[1])
    np.testing.assert_array_equal(drawn[:3, 5:10], values[:, 2])
    np.testing.assert_array_equal(drawn[:3, 10:], values[:, :, 3])
    assert not drawn[3, 5:].any()
    result = xaimaps.attribute(*deep, "saliency", target=1)
    assert result.heatmap().size == (15, 5)
    files = result.save(tmp_path)
    assert np.load(files[1])["maps"].shape == (5, 5, 5)
    stored = xaimaps.read(files[2])[0]
    np.testing.assert_array_equal(stored.maps[0], result.maps[0])
    assert stored.heatmap().size == (15, 5)


def test_a_map_of_a_signal_is_drawn_as_a_strip():
    values = RNG.random(32)
    np.testing.assert_array_equal(plane(values), np.tile(values, (4, 1)))


def test_what_is_for_images_alone_is_refused(deep):
    backend, volumes = deep
    with pytest.raises(ArrayInputError, match=r"files are for .* give such arrays to `attribute"):
        xaimaps.explain(pair(1)[2], xaimaps.zoo.PICTURES["chelsea"])
    with pytest.raises(ArrayInputError, match="`pictures` are for images"):
        xaimaps.attribute(pair(1)[2], pair(1)[3], target=1, pictures=[volumes[0]] * 2)
    with pytest.raises(ArrayInputError, match=r"\(N, 5, 5, 5, 3\), got \(2, 3, 5, 5, 5\); move"):
        xaimaps.attribute(backend, np.moveaxis(volumes, -1, 1))
    with pytest.raises(ArrayInputError, match="must have 3 axes to be drawn"):
        xaimaps.attribute(backend, volumes, "saliency", target=1, reduce=None).heatmap()
    with pytest.raises(MethodError, match="one size or one for each of 3 axes, got"):
        xaimaps.attribute(backend, volumes, "occlusion", target=1, window=(2, 2))


def test_the_repr_of_a_model_has_every_axis():
    assert ": 1 x 7 x 8 x 3>" in repr(pair(3)[2])
    assert ": 12 x 3>" in repr(pair(1)[2])
