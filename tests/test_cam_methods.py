"""The CAM family on networks worked out by hand, against formulas and against its own laws."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import xaimaps
from xaimaps.errors import LayerError, MethodError, TargetError
from xaimaps.methods import METHODS, cam
from xaimaps.methods._channel_masks import RULES
from xaimaps.methods._fusion import fuse_maps
from xaimaps.methods._pca import first_component
from xaimaps.methods.grad_cam_plusplus import PLUS_PLUS, plusplus_weights
from xaimaps.targets import as_target, several
from xaimaps.testing import Conv, Dense, Network, ReferenceBackend, one_conv_network, pooled_network

RAMP = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
CAMS = [name for name, row in METHODS.items() if row.family == "cam"]
FUSED = [name for name in CAMS if "fuse" in METHODS[name].options]
RECTIFIED = [name for name in FUSED if "relu" in METHODS[name].options]
VARIANTS = [
    *(("grad_cam_plusplus", {"variant": one}) for one in PLUS_PLUS),
    *(("score_cam", {"variant": one}) for one in RULES),
    ("score_cam", {"channels": 2}),
    ("is_cam", {"variant": "torch-cam"}),
    ("ss_cam", {"n_samples": 3}),
    ("smooth_grad_cam_plusplus", {"variant": "corrected", "memory": 1e-6}),
    ("finer_cam", {"variant": "pytorch-grad-cam"}),
    ("finer_cam", {"references": 1}),
    ("eigen_cam", {"variant": "pytorch-grad-cam"}),
    ("ablation_cam", {"variant": "pytorch-grad-cam"}),
    ("ablation_cam", {"memory": 1e-6}),
    *((name, {"eigen_smooth": True}) for name in FUSED if "eigen_smooth" in METHODS[name].options),
    *((name, {"relu": False} if name in RECTIFIED else {}) for name in FUSED),
]


def run(name, backend, images, target=None, **options):
    return METHODS[name].fn(backend, images, target, **options).maps


def close(actual, desired, tolerance=1e-5):
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance)


# Values worked out by hand. At Captum's rectifier the channels are [[0, 4], [31, 40]] and
# [[0, 0], [6, 15]], their gradients all ones and [[1, -1], [-1, -1]], the score is 54.

FIRST, SECOND = np.float32([[0, 4], [31, 40]]), np.float32([[0, 0], [6, 15]])


@pytest.mark.parametrize(
    ("name", "layer", "options", "expected"),
    [
        ("hires_cam", "conv", {}, [[0, 4], [25, 25]]),
        ("hires_cam", "relu1", {}, FIRST - SECOND),
        ("layer_cam", "conv", {}, [[0, 4], [31, 40]]),
        ("layer_cam", "relu1", {}, FIRST),
        ("xgrad_cam", "relu1", {}, FIRST - SECOND),
        ("grad_cam_plusplus", "relu1", {}, 4 / 77 * FIRST + 1 / 23 * SECOND),
        ("grad_cam_plusplus", "relu1", {"variant": "torch-cam"}, 4 * FIRST + SECOND),
        ("finer_cam", "relu1", {}, 0.4 * np.float32([[0, 4], [28, 32.5]])),
        ("finer_cam", "relu1", {"strength": 0}, [[0, 4], [28, 32.5]]),
        ("ablation_cam", "relu1", {}, FIRST - 21 / 54 * SECOND),
        ("score_cam", "relu1", {}, FIRST),
        ("score_cam", "relu1", {"channels": 1}, FIRST),
    ],
)
def test_values_worked_out_by_hand(captum, name, layer, options, expected):
    close(run(name, captum, RAMP, 0, layer=layer, **options), [expected])


@pytest.mark.parametrize(
    ("variant", "ratio"),
    [
        ("paper", 0.837),
        ("pytorch-grad-cam", 0.837),
        ("xplique", 0.716),
        ("torch-cam", 0.25),
        ("tf-keras-vis", -0.38),
        ("monai", -1.013),
    ],
)
def test_plusplus_weights_as_the_libraries_have_them(captum, variant, ratio):
    found = captum.grad(RAMP, as_target(0, 1), wrt="relu1")
    weights = plusplus_weights(np, found.gradients, found.activations, variant)[0]
    assert weights[1] / weights[0] == pytest.approx(ratio, abs=5e-4)


def test_ablation_of_a_negative_score_keeps_its_sign_in_the_paper(images):
    network = pooled_network()
    head = Dense(network.layers["fc"].weights, np.full(5, -100, np.float32))
    backend = ReferenceBackend(Network({**network.layers, "fc": head}, network.input_shape))
    upright = run("ablation_cam", backend, images, 1, relu=False)
    turned = run("ablation_cam", backend, images, 1, relu=False, variant="pytorch-grad-cam")
    close(turned, -upright)


# Where a network pools and then weighs, the family is one


@pytest.mark.parametrize("name", ["grad_cam", "xgrad_cam", "hires_cam"])
def test_a_pooled_network_has_one_map(pooled, images, name):
    close(25 * run(name, pooled, images, 3, relu=False), cam(pooled, images, 3).maps)


def test_hires_cam_sums_to_the_score_less_its_bias(pooled, images):
    sums = run("hires_cam", pooled, images, 3).sum(axis=(1, 2))
    close(sums, pooled.forward(images)[:, 3] - pooled.chain.layers["fc"].bias[3])


def test_layer_cam_of_a_pooled_network_has_the_positive_weights(pooled, images):
    kept = pooled.forward_with_activations(images, ("relu2",))[1]["relu2"]
    weights = np.maximum(pooled.chain.layers["fc"].weights[:, 3], 0)
    close(run("layer_cam", pooled, images, 3), kept @ weights / 25)


def test_ablation_cam_of_a_pooled_network_in_closed_form(pooled, images):
    outputs, kept = pooled.forward_with_activations(images, ("relu2",))
    drops = kept["relu2"].mean(axis=(1, 2)) * pooled.chain.layers["fc"].weights[:, 3]
    weights = drops / np.abs(outputs[:, 3:4])
    expected = np.einsum("nk,nijk->nij", weights, kept["relu2"])
    close(run("ablation_cam", pooled, images, 3, relu=False), expected, 1e-4)


def test_ablation_cam_runs_the_head_where_the_target_is_a_function(pooled, images):
    by_class = run("ablation_cam", pooled, images, 3, relu=False)
    by_function = run("ablation_cam", pooled, images, lambda out: out[:, 3], relu=False)
    close(by_function, by_class, 1e-4)


# Against the formulas, one number at a time


def upsampled(channel, size):
    """Half-pixel bilinear interpolation, without matrices."""
    places = [np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1) for n in channel.shape]
    result = np.zeros((size, size))
    for i, j in np.ndindex(size, size):
        (r, c), (a, b) = (
            (int(places[0][i]), int(places[1][j])),
            (places[0][i] % 1, places[1][j] % 1),
        )
        down, right = min(r + 1, channel.shape[0] - 1), min(c + 1, channel.shape[1] - 1)
        result[i, j] = (1 - a) * ((1 - b) * channel[r, c] + b * channel[r, right]) + a * (
            (1 - b) * channel[down, c] + b * channel[down, right]
        )
    return result


def masks_of(backend, image, layer):
    kept = backend.forward_with_activations(image[None], (layer,))[1][layer][0].astype(float)
    masks = [upsampled(channel, 9) for channel in np.moveaxis(kept, -1, 0)]
    return kept, [(m - m.min()) / max(np.ptp(m), 1e-9) for m in masks]


def weighed(kept, scores):
    powers = np.exp(np.asarray(scores) - max(scores))
    return np.maximum(kept @ (powers / powers.sum()), 0)


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_score_cam_one_mask_at_a_time(pooled, images, layer):
    for image, found in zip(images, run("score_cam", pooled, images, 2, layer=layer), strict=True):
        kept, masks = masks_of(pooled, image, layer)
        scores = [pooled.forward(image[None] * m[..., None])[0, 2] for m in masks]
        close(found, weighed(kept, scores))


def test_score_cam_of_constant_channels_one_mask_at_a_time(images):
    backend = Counted()
    for image, found in zip(images, run("score_cam", backend, images, 2), strict=True):
        kept, masks = masks_of(backend, image, "relu2")
        assert [k for k, mask in enumerate(masks) if mask.max() < 1e-3] == [1, 2, 4]
        scores = [backend.forward(image[None] * m[..., None])[0, 2] for m in masks]
        close(found, weighed(kept, scores))


def test_is_cam_one_mask_at_a_time(pooled, images):
    for image, found in zip(images, run("is_cam", pooled, images, 2, n_steps=4), strict=True):
        kept, masks = masks_of(pooled, image, "relu2")
        scores = [
            np.mean(
                [pooled.forward(image[None] * m[..., None] * f / 4)[0, 2] for f in (1, 2, 3, 4)]
            )
            for m in masks
        ]
        close(found, weighed(kept, scores))


def test_ss_cam_one_mask_at_a_time(pooled, images):
    noise = np.random.Generator(np.random.Philox(5)).standard_normal((3, 9, 9), np.float32)
    options = {"n_samples": 3, "seed": 5, "sigma": 0.5}
    for image, found in zip(images, run("ss_cam", pooled, images, 2, **options), strict=True):
        kept, masks = masks_of(pooled, image, "relu2")
        scores = [
            np.mean([pooled.forward(image[None] * (m + 0.5 * n)[..., None])[0, 2] for n in noise])
            for m in masks
        ]
        close(found, weighed(kept, scores), 1e-4)


class Counted(ReferenceBackend):
    """Counts the images that pass, with channels 1 and 4 of the last layer 0 and channel 2 1/2."""

    def __init__(self):
        network = pooled_network(channels=8)
        kernel = network.layers["conv2"].kernel.copy()
        kernel[..., [1, 2, 4]] = 0
        conv = Conv(kernel, np.float32([4, -1, 0.5, 4, -2, 4, 4, 4]))
        super().__init__(Network({**network.layers, "conv2": conv}, network.input_shape))
        self.passed = 0

    def forward(self, images):
        self.passed += len(images)
        return super().forward(images)


@pytest.mark.parametrize("variant", RULES)
@pytest.mark.parametrize(
    ("name", "options", "times"),
    [("score_cam", {}, 1), ("is_cam", {"n_steps": 2}, 2), ("ss_cam", {"n_samples": 3}, 3)],
)
def test_constant_channels_are_run_once(images, monkeypatch, name, options, times, variant):
    backend, options = Counted(), {"variant": variant, "memory": 1e-6, **options}
    found = run(name, backend, images[:1], 2, **options)
    assert backend.passed == times * (5 + 1)
    monkeypatch.setattr(backend, "cond", lambda predicate, fn, x, otherwise: fn(x))
    close(run(name, backend, images[:1], 2, **options), found)
    assert backend.passed == times * (5 + 1 + 8 + 1)


def test_chunks_of_constant_channels_are_not_run(images):
    backend = Counted()
    expected = [run("score_cam", backend, image[None], 2, memory=1e-6)[0] for image in images]
    backend.passed, memory = 0, 1e-6 * 4 * 2 * len(images) * (9 * 9 * 3 + 2 * 8 * (7 * 7 + 5 * 5))
    close(run("score_cam", backend, images, 2, memory=memory), expected)
    assert backend.passed < 9 * len(images)


def test_weights_by_probability_are_no_softmax_over_channels(pooled, images):
    kept, masks = masks_of(pooled, images[0], "relu2")
    outputs = [pooled.forward(images[:1] * m[..., None])[0].astype(float) for m in masks]
    weights = [np.exp(o[2]) / np.exp(o).sum() for o in outputs]
    found = run("score_cam", pooled, images[:1], 2, variant="authors")[0]
    close(found, np.maximum(kept @ weights, 0))


def test_ablation_cam_one_channel_at_a_time(pooled, images):
    activations, rest = pooled.split(images, "relu1")
    scores = rest(activations)[:, 4]
    maps = np.zeros(activations.shape[:3])
    for k in range(activations.shape[-1]):
        without = activations.copy()
        without[..., k] = 0
        drop = (scores - rest(without)[:, 4]) / np.abs(scores)
        maps += drop[:, None, None] * activations[..., k]
    close(run("ablation_cam", pooled, images, 4, layer="relu1", relu=False), maps, 1e-4)


def test_finer_cam_is_grad_cam_of_the_difference(pooled, images):
    outputs = pooled.forward(images)
    each = {c: run("grad_cam", pooled, images, c, relu=False) for c in range(5)}
    found = run("finer_cam", pooled, images, 3, references=2, relu=False)
    for n, row in enumerate(outputs):
        others = sorted((c for c in range(5) if c != 3), key=lambda c: abs(row[c] - row[3]))[:2]
        close(found[n], each[3][n] - 0.6 * np.mean([each[c][n] for c in others], axis=0))


def test_finer_cam_as_the_authors_weigh_it(pooled, images):
    """The derivative of their score, by central differences."""
    target, step = 3, 1e-4

    def score(row):
        others = sorted((c for c in range(5) if c != target), key=lambda c: abs(row[c] - row[3]))
        powers = np.exp(row[others[:3]])
        return row[target] - 0.6 * (powers * row[others[:3]]).sum() / powers.sum()

    each = np.stack([run("grad_cam", pooled, images, c, relu=False) for c in range(5)], axis=1)
    found = run("finer_cam", pooled, images, target, variant="pytorch-grad-cam", relu=False)
    for n, row in enumerate(pooled.forward(images).astype(np.float64)):
        moves = step * np.eye(5)
        slopes = [(score(row + move) - score(row - move)) / (2 * step) for move in moves]
        close(found[n], np.tensordot(slopes, each[n], 1), 1e-4)


def test_finer_cam_compares_with_no_more_than_there_is(pooled, images):
    close(
        run("finer_cam", pooled, images, references=100),
        run("finer_cam", pooled, images, references=4),
    )


def test_smooth_plusplus_without_noise_is_plusplus_if_corrected(pooled, images):
    options = {"sigma": 0, "n_samples": 2, "variant": "corrected"}
    close(
        run("smooth_grad_cam_plusplus", pooled, images, 1, **options),
        run("grad_cam_plusplus", pooled, images, 1),
    )


# Principal components


@given(arrays(np.float32, (2, 3, 4, 5), elements=st.floats(-100, 100, width=32)))
def test_first_component_is_that_of_the_decomposition(values):
    for places, shape in ((2, (24 // 2, 5)), (1, (4, 5))):
        rows = values.astype(np.float64).reshape(-1, *shape)
        for centre in (False, True):
            each = rows - rows.mean(axis=1, keepdims=True) if centre else rows
            strengths = np.linalg.svd(each, compute_uv=False)
            found = first_component(np, values, places, centre=centre).reshape(len(rows), -1)
            assert np.isfinite(found).all()
            for own, row, s in zip(found, each, strengths, strict=True):
                # Whatever direction, it must carry as much as the best one does.
                length = np.linalg.norm(own)
                assert length == pytest.approx(s[0], rel=1e-3, abs=1e-3)
                if s[0] > 1.1 * s[1] + 1e-2:
                    u = np.linalg.svd(row)[0][:, 0]
                    assert abs(u @ own) == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize("shape", [(7, 7, 40), (12, 12, 6)])
def test_first_component_of_activations(shape):
    values = np.maximum(np.random.default_rng(0).normal(size=shape), 0).astype(np.float32)
    found = first_component(np, values, 2, centre=False)
    u, s, _ = np.linalg.svd(values.astype(float).reshape(-1, shape[-1]), full_matrices=False)
    close(found.ravel(), np.abs(u[:, 0]) * s[0], 1e-4)
    assert (found >= 0).all()


def test_the_sign_of_a_component_is_that_of_the_mean(pooled, images):
    kept = pooled.forward_with_activations(images, ("conv1",))[1]["conv1"]
    for variant in ("paper", "pytorch-grad-cam"):
        maps = run("eigen_cam", pooled, images, layer="conv1", variant=variant, relu=False)
        assert (np.sum(maps * kept.mean(axis=-1), axis=(1, 2)) >= 0).all()


def test_random_cam_is_a_sum_with_weights_of_the_seed(pooled, images):
    """The sum of squares of many maps is, per position, that of the activations over 3."""
    kept = pooled.forward_with_activations(images, ("relu1",))[1]["relu1"].astype(float)
    maps = [
        run("random_cam", pooled, images, layer="relu1", seed=seed, relu=False).astype(float)
        for seed in range(2000)
    ]
    assert not np.array_equal(maps[0], maps[1])
    expected = (kept**2).sum(axis=-1) / 3
    np.testing.assert_allclose(np.mean(np.square(maps), axis=0), expected, rtol=0.2, atol=1e-6)
    summed = np.linalg.lstsq(kept.reshape(-1, kept.shape[-1]), maps[0].ravel(), rcond=None)
    assert summed[1] < 1e-8, "one weight for each channel"
    assert np.abs(summed[0]).max() <= 1


def test_eigen_smoothing_of_one_channel_takes_its_mean_away():
    backend = ReferenceBackend(pooled_network(channels=1))
    images = np.random.default_rng(0).normal(size=(3, 9, 9, 3)).astype(np.float32)
    plain = run("hires_cam", backend, images, 0)
    smooth = run("hires_cam", backend, images, 0, eigen_smooth=True)
    centred = plain - plain.mean(axis=(1, 2), keepdims=True)
    close(smooth, centred * np.sign((centred * plain).sum(axis=(1, 2), keepdims=True)))


# Laws, of every variant


@pytest.fixture(scope="module")
def seven():
    """Seven images for `pooled_network`."""
    return np.random.default_rng(1).normal(size=(7, 9, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return ReferenceBackend(pooled_network())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_permuted_batch_gives_permuted_maps(network, seven, name, options):
    order = [3, 0, 6, 1, 5, 2, 4]
    maps = run(name, network, seven, [0, 1, 2, 3, 4, 0, 1], **options)
    permuted = run(name, network, seven[order], [3, 0, 1, 1, 0, 2, 4], **options)
    close(permuted, maps[order], 1e-4)


@pytest.mark.parametrize(("name", "options"), [v for v in VARIANTS if METHODS[v[0]].uses_target])
def test_single_images_and_targets(network, seven, name, options):
    maps = run(name, network, seven[:3], several(2, None), **options)
    for n, target in itertools.product(range(3), (2, None)):
        single = run(name, network, seven[n : n + 1], target, **options)[0]
        close(maps[0 if target == 2 else 1, n], single, 1e-4)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("value", [0, 1, -1e-30, 1e15])
def test_never_nan(network, name, options, value):
    maps = run(name, network, np.full((2, 9, 9, 3), value, np.float32), **options)
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("name", RECTIFIED)
def test_relu_is_the_positive_part(network, seven, name):
    signed = run(name, network, seven, 1, layer="conv2", relu=False)
    close(run(name, network, seven, 1, layer="conv2", relu=True), np.maximum(signed, 0))


@pytest.mark.parametrize("name", CAMS)
def test_random_weights_change_the_map(seven, name):
    """Adebayo et al. 2018: a method that says something of the model must see this."""
    trained, other = pooled_network(), pooled_network(seed=9)
    head = Network({**trained.layers, "fc": other.layers["fc"]}, trained.input_shape)
    before = run(name, ReferenceBackend(trained), seven, 1)
    maps = {
        "the head": run(name, ReferenceBackend(head), seven, 1),
        "everything": run(name, ReferenceBackend(other), seven, 1),
    }
    for part, after in maps.items():
        same = np.allclose(before, after, rtol=1e-3)
        assert same is (not METHODS[name].uses_target and part == "the head")


@pytest.mark.parametrize("name", ["ss_cam", "smooth_grad_cam_plusplus"])
def test_noise_is_that_of_the_seed(network, seven, name):
    options = {"layer": "relu1", "n_samples": 3}  # behind relu2 no gradient depends on the image
    first = run(name, network, seven, 1, seed=1, **options)
    np.testing.assert_array_equal(run(name, network, seven, 1, seed=1, **options), first)
    assert not np.array_equal(run(name, network, seven, 1, seed=2, **options), first)
    attributed = xaimaps.attribute(network, seven, name, target=1, seed=1, **options)
    close(attributed.maps, first)


def test_memory_bounds_the_chunks_and_changes_nothing(network, seven):
    for name in ("score_cam", "ablation_cam", "is_cam"):
        close(run(name, network, seven, 1, memory=1e-6), run(name, network, seven, 1), 1e-5)


# Several layers


def test_the_product_of_two_layers_is_torch_cams():
    backend = ReferenceBackend(one_conv_network())
    maps = [np.float32([[[0, 1], [2, 3]]]), np.float32([[[3, 2], [1, 0]]])]
    close(fuse_maps(backend, maps, "product"), [[[0, 2 / 9], [2 / 9, 0]]])
    close(fuse_maps(backend, maps, "mean"), np.full((1, 2, 2), 0.5))
    close(fuse_maps(backend, maps, "max"), [[[1, 2 / 3], [2 / 3, 1]]])


def test_maps_are_scaled_and_enlarged_before_they_are_fused():
    backend = ReferenceBackend(one_conv_network())
    small, large = np.float32([[[-1, 4]]]), np.float32([[[2, 0, 0, 1], [0, 0, 0, -9]]])
    one, two = [[0, 0.25, 0.75, 1]] * 2, [[1, 0, 0, 0.5], [0] * 4]
    close(fuse_maps(backend, [small, large], "max"), [np.maximum(one, two)])
    close(fuse_maps(backend, [small * 0, large], "max"), [two])


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("fuse", ["mean", "max", "product"])
def test_layers_of_every_method_are_fused(network, seven, name, fuse):
    layers = ("relu1", "conv2")
    each = [run(name, network, seven[:2], 1, layer=layer) for layer in layers]
    found = xaimaps.attribute(network, seven[:2], name, target=1, layer=layers, fuse=fuse)
    assert found.layer == "relu1 + conv2"
    assert found.maps.shape == (2, 7, 7)
    close(found.maps, fuse_maps(network, each, fuse))


def test_one_layer_in_a_list_is_scaled_too(network, seven):
    plain = run("grad_cam", network, seven, 1)
    close(run("grad_cam", network, seven, 1, layer=["relu2"]).max(axis=(1, 2)), 1)
    several_targets = run("grad_cam", network, seven, several(1, 2), layer=("relu1", "relu2"))
    assert several_targets.shape == (2, *plain.shape[:1], 7, 7)


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        ("grad_cam", {"layer": ("relu1", "relu9")}, LayerError, "got 'relu9'"),
        ("grad_cam", {"layer": ()}, LayerError, "one name|at least one"),
        ("grad_cam", {"layer": ("relu1", "relu2"), "fuse": "sum"}, MethodError, "'sum'"),
        ("cam", {"layer": ("relu1", "relu2")}, LayerError, "must be one name for .*, got 2"),
        ("grad_cam_plusplus", {"variant": "captum"}, MethodError, "got 'captum'"),
        ("score_cam", {"variant": "captum"}, MethodError, "got 'captum'"),
        ("score_cam", {"channels": 0}, MethodError, "`channels`"),
        ("score_cam", {"memory": 0}, MethodError, "`memory`"),
        ("ablation_cam", {"memory": -1}, MethodError, "`memory`"),
        ("ablation_cam", {"variant": "captum"}, MethodError, "got 'captum'"),
        ("eigen_cam", {"variant": "captum"}, MethodError, "got 'captum'"),
        ("finer_cam", {"variant": "captum"}, MethodError, "got 'captum'"),
        ("finer_cam", {"references": 0}, MethodError, "`references`"),
        (
            "finer_cam",
            {"target": lambda outputs: outputs[:, 0]},
            TargetError,
            "class for finer_cam",
        ),
        ("is_cam", {"n_steps": 0}, MethodError, "`n_steps`"),
        ("kpca_cam", {"kernel": "linear"}, MethodError, "got 'linear'"),
        ("kpca_cam", {"gamma": 0.0}, MethodError, "`gamma` must be a positive number"),
        ("random_cam", {"seed": -1}, MethodError, "`seed`"),
        ("opti_cam", {"n_steps": 0}, MethodError, "`n_steps`"),
        ("opti_cam", {"rate": 0.0}, MethodError, "`rate` must be a number above 0, got 0.0"),
        ("ss_cam", {"n_samples": 0}, MethodError, "`n_samples`"),
        ("smooth_grad_cam_plusplus", {"n_samples": 0}, MethodError, "`n_samples`"),
        ("smooth_grad_cam_plusplus", {"variant": "captum"}, MethodError, "got 'captum'"),
    ],
)
def test_wrong_options(pooled, images, method, options, error, message):
    with pytest.raises(error, match=message):
        xaimaps.attribute(pooled, images, method, **options)


@pytest.mark.parametrize("name", CAMS)
def test_a_row_says_whether_the_method_needs_gradients(name, images, monkeypatch):
    def pull(*_):
        raise NotImplementedError("a gradient was asked for")

    monkeypatch.setattr("xaimaps.testing.reference.ChainCut.pull", pull)
    backend = ReferenceBackend(pooled_network())
    if "grad" in METHODS[name].needs:
        with pytest.raises(NotImplementedError):
            run(name, backend, images[:1])
    else:
        assert run(name, backend, images[:1]).shape == (1, 5, 5)
