"""The CAM family and occlusion on the embedded model, against what other libraries give."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xaimaps
from xaimaps._attribute import plan, run_jobs
from xaimaps._prepare import Batch
from xaimaps.errors import MethodError
from xaimaps.methods import METHODS
from xaimaps.methods._channel_masks import masked, masked_scores, unit_range
from xaimaps.methods._maps import feature_maps
from xaimaps.targets import as_target, several
from xaimaps.testing import ReferenceBackend, pooled_network

REFERENCES = Path(__file__).parents[3] / "tests" / "references" / "cams.npz"
LAYERS = {"head": "head/relu6", "block": "blocks.4.2/add"}


@pytest.fixture(scope="module")
def cams():
    """What the libraries give for two photographs."""
    with np.load(REFERENCES) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def names(references, cams):
    """Where the two photographs are among the three."""
    names = references["names"].tolist()
    return [names.index(name) for name in cams["names"]]


@pytest.fixture(scope="module")
def pair(photographs, names):
    """The two photographs."""
    return photographs[names]


def apart(actual, desired):
    """The largest difference, over the largest value."""
    return np.abs(actual - desired).max() / np.abs(desired).max()


RAW = {"relu": False}
# The library, the method here and its options; what the library calls it, and the tolerance.
SAME = [
    ("grad_cam", RAW, "grad_cam/pytorch-grad-cam", 1e-5),
    ("grad_cam", RAW, "grad_cam/captum", 1e-5),
    ("grad_cam", {}, "grad_cam/torch-cam", 1e-5),
    ("grad_cam_plusplus", {}, "grad_cam_plusplus/paper", 1e-4),
    (
        "grad_cam_plusplus",
        {"variant": "pytorch-grad-cam", **RAW},
        "grad_cam_plusplus/pytorch-grad-cam",
        # Some of its denominators are next to zero: 1e-7 on the images turns the block by 4e-4.
        1e-3,
    ),
    ("grad_cam_plusplus", {"variant": "torch-cam"}, "grad_cam_plusplus/torch-cam", 1e-5),
    ("xgrad_cam", {}, "xgrad_cam/torch-cam", 1e-3),
    ("xgrad_cam", RAW, "xgrad_cam/pytorch-grad-cam", 1e-3),
    ("hires_cam", {}, "hires_cam/pytorch-grad-cam", 1e-5),
    ("hires_cam", {}, "hires_cam/captum", 1e-5),
    ("layer_cam", RAW, "layer_cam/pytorch-grad-cam", 1e-5),
    ("layer_cam", {}, "layer_cam/torch-cam", 1e-5),
    ("finer_cam", {}, "finer_cam/torch-cam", 1e-5),
    (
        "finer_cam",
        {"variant": "pytorch-grad-cam", "strength": 1.0, **RAW},
        "finer_cam/pytorch-grad-cam",
        1e-5,
    ),
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "options", "reference", "tolerance"), SAME)
def test_maps_are_those_of_the_libraries(found, cams, name, options, reference, tolerance, layer):
    assert apart(found(name, layer, **options), cams[f"{reference}/{layer}"]) < tolerance


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("variant", ["paper", "corrected"])
def test_smooth_grad_cam_plusplus_is_the_papers(exact, images64, cams, names, variant, layer):
    """In float64: denominators next to zero make float32's rounding 1e-3 of the block's map."""
    images = images64[names]
    target = as_target(cams["targets"], len(images))

    def maps(backend, images):
        options = {"layer": LAYERS[layer], "n_samples": 2, "variant": variant}
        return METHODS["smooth_grad_cam_plusplus"].fn(backend, images, target, **options).maps

    with jax.enable_x64(True):
        images = jax.numpy.asarray(images)
        found = np.asarray(exact.compile(maps, images)(images))
    assert apart(found, cams[f"smooth_grad_cam_plusplus/{variant}/{layer}"]) < 2e-5


# The sign of a library's principal component is left to chance.
COMPONENTS = [
    ("eigen_cam", {"variant": "pytorch-grad-cam", **RAW}, "eigen_cam/pytorch-grad-cam"),
    ("eigen_cam", RAW, "eigen_cam/paper"),
    ("eigen_grad_cam", RAW, "eigen_grad_cam/pytorch-grad-cam"),
    ("grad_cam", {"eigen_smooth": True, **RAW}, "eigen_smooth/pytorch-grad-cam"),
]


@pytest.fixture(scope="module")
def found(embedded, pair, cams):
    """The map of a method with a row in these tables; those of a layer share one program."""

    @functools.cache
    def at(layer):
        rows = {key_of(name, options): (name, options) for name, options, *_ in SAME + COMPONENTS}
        jobs = [plan(embedded, name, LAYERS[layer], options) for name, options in rows.values()]
        results = run_jobs(embedded, jobs, Batch(pair), cams["targets"].tolist())
        return {key: one.maps for key, one in zip(rows, results, strict=True)}

    return lambda name, layer, **options: at(layer)[key_of(name, options)]


def key_of(name, options):
    return name, *sorted(options.items())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "options", "reference"), COMPONENTS)
def test_components_are_those_of_the_libraries_but_for_the_sign(
    found, cams, name, options, reference, layer
):
    desired = cams[f"{reference}/{layer}"]
    for own, other in zip(found(name, layer, **options), desired, strict=True):
        assert min(apart(own, other), apart(own, -other)) < 1e-4


@pytest.fixture(scope="module")
def alone(embedded, pair, cams):
    """The map of a method that has a program of its own."""
    target = cams["targets"].tolist()

    def run(name, layer, **options):
        return xaimaps.attribute(
            embedded, pair, name, target=target, layer=LAYERS[layer], **options
        ).maps

    return run


def test_ablation_cam_is_pytorch_grad_cams(alone, cams):
    maps = alone("ablation_cam", "head", variant="pytorch-grad-cam", **RAW)
    assert apart(maps, cams["ablation_cam/pytorch-grad-cam/head"]) < 1e-4


@pytest.fixture
def optimised():
    """Let XLA optimise a program of a thousand passes, even where tests turn that off."""
    was = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", was)


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("library", ["pytorch-grad-cam", "torch-cam"])
def test_score_cam_is_the_libraries(alone, cams, library):
    maps = alone("score_cam", "block", variant=library, relu=library == "torch-cam")
    assert apart(maps, cams[f"score_cam/{library}/block"]) < 1e-3


@pytest.mark.parametrize(
    ("variant", "how"), [("paper", "late"), ("torch-cam", "early"), ("pytorch-grad-cam", "aligned")]
)
def test_scores_behind_masks_are_pytorchs(embedded, pair, cams, variant, how):
    goal, chosen = as_target(cams["targets"], len(pair)), cams["channels"]

    def scores(backend, images):
        seen = masked(backend, images, goal, LAYERS["head"], variant, None, 512)
        values, _ = feature_maps(backend, images, LAYERS["head"])
        masks = jnp.moveaxis(values, -1, 0)[chosen]
        masks = unit_range(jnp, masks, 2) if how == "early" else masks
        return masked_scores(backend, seen, masks, lambda mask: mask)

    images = embedded.asarray(pair)
    own = embedded.to_numpy(embedded.compile(scores, images)(images))
    np.testing.assert_allclose(own.T, cams[f"scores_{how}/torch/head"], atol=2e-4)


def test_occlusion_is_captums(embedded, pair, cams):
    options = {"window": 64, "stride": 48, "baseline": "zeros"}
    target = cams["targets"].tolist()
    maps = xaimaps.attribute(embedded, pair, "occlusion", target=target, **options).maps
    assert apart(maps, cams["occlusion/captum/input"]) < 1e-3


# What holds without any reference


@pytest.mark.parametrize("way", ["onnx", "function"])
@pytest.mark.parametrize("name", ["ss_cam", "smooth_grad_cam_plusplus", "rise"])
def test_a_seed_means_the_same_on_every_backend(build, way, name):
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype(np.float32)
    options = {"n_masks": 40} if name == "rise" else {"n_samples": 3}
    reference, own = ReferenceBackend(pooled_network()), build(pooled_network(), way)
    for seed in (0, 7):
        desired = xaimaps.attribute(reference, images, name, seed=seed, target=1, **options).maps
        actual = xaimaps.attribute(own, images, name, seed=seed, target=1, **options).maps
        np.testing.assert_allclose(actual, desired, rtol=1e-4, atol=1e-5)


def test_layers_are_fused_in_one_program(embedded, pair, found):
    layers = tuple(LAYERS.values())
    result = xaimaps.attribute(embedded, pair, "layer_cam", layer=layers, fuse="product")
    assert result.maps.shape == (2, 14, 14)
    assert result.layer == "head/relu6 + blocks.4.2/add"
    assert result.maps.max() <= 1
    assert not result.maps[found("layer_cam", "block") == 0].any()


@pytest.mark.parametrize("name", ["ablation_cam", "score_cam", "rise", "occlusion", "finer_cam"])
def test_a_method_is_one_program_inside_the_users_own(build, name):
    backend = build(pooled_network(), "onnx")
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype(np.float32)
    options = {"n_masks": 20} if name == "rise" else {}

    @jax.jit
    def mine(images):
        return METHODS[name].fn(backend, images, several(1, None), **options).maps.sum(axis=0)

    plain = METHODS[name].fn(backend, backend.asarray(images), several(1, None), **options).maps
    np.testing.assert_allclose(mine(images), plain.sum(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["onnx", "onnx channels last"])
def test_variants_of_a_graph_for_one_image(build, way):
    images = np.random.default_rng(0).normal(size=(3, 9, 9, 3)).astype(np.float32)
    one = build(pooled_network(), way, batch=1)
    desired = METHODS["ablation_cam"].fn(
        ReferenceBackend(pooled_network()), images, several(1, None), layer="relu1"
    )
    layer = one.find_layer("relu1").name
    maps = METHODS["ablation_cam"].fn(one, one.asarray(images), several(1, None), layer=layer).maps
    np.testing.assert_allclose(maps, desired.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["first", "last"])
@pytest.mark.parametrize("score", ["residual", "logit"])
def test_shapley_cam_is_pytorch_grad_cams(score, layer):
    """Of a smooth network, whose Hessian is not zero, in float64."""
    with np.load(REFERENCES.with_name("shapley_cam.npz")) as arrays:
        known = dict(arrays)

    def conv(x, kernel, bias):
        axes = ("NHWC", "OIHW", "NHWC")
        kernel = kernel.astype(x.dtype)  # the layers are found with images of float32
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", None, None, axes) + bias

    def network(params, images):
        with jax.named_scope("first"):
            x = jax.nn.silu(conv(images, params["k1"], params["b1"]))
        with jax.named_scope("last"):
            x = jax.nn.silu(conv(x, params["k2"], params["b2"]))
        return jax.nn.silu(x.mean(axis=(1, 2))) @ params["w"].T + params["b"]

    with jax.enable_x64(True):
        params = {name: known[name] for name in ("k1", "b1", "k2", "b2", "w", "b")}
        model = xaimaps.load(network, params=params, input_shape=(9, 9, 3))
        images = jax.numpy.asarray(known["images"])

        def maps(backend, images):
            target, residual = as_target(known["targets"], 2), score == "residual"
            options = {"layer": layer, "relu": False, "residual": residual}
            return METHODS["shapley_cam"].fn(backend, images, target, **options).maps

        found = np.asarray(model.compile(maps, images)(images))
    assert apart(found, known[f"{score}/{layer}"]) < 1e-12
    other = {"residual": "logit", "logit": "residual"}[score]
    assert apart(found, known[f"{other}/{layer}"]) > 1e-3


@pytest.fixture(scope="module")
def of_captum():
    """Return the network of the references of path methods, and their image and target."""
    with np.load(REFERENCES.with_name("layer_integrated_gradients.npz")) as arrays:
        known = {name: arrays[name].astype(np.float32) for name in arrays.files}

    def conv(x, kernel, bias):
        axes = ("NHWC", "OIHW", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", None, None, axes) + bias

    def network(params, images):
        with jax.named_scope("relu1"):
            x = jax.nn.relu(conv(images, params["k1"], params["b1"]))
        with jax.named_scope("pool"):
            windows = (1, 2, 2, 1)
            x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, windows, windows, "VALID")
        with jax.named_scope("relu2"):
            x = jax.nn.relu(conv(x, params["k2"], params["b2"]))
        return x.mean(axis=(1, 2)) @ params["w"].T + params["b"]

    params = {name: known[name] for name in ("k1", "b1", "k2", "b2", "w", "b")}
    model = xaimaps.load(network, params=params, input_shape=(6, 6, 2))
    return model, known


PATHS = {"target": 1, "baseline": "zeros", "reduce": None}


@pytest.mark.parametrize("layer", ["relu1", "pool", "relu2"])
def test_layer_integrated_gradients_are_captums(of_captum, layer):
    model, known = of_captum
    found = xaimaps.attribute(
        model, known["images"], "layer_integrated_gradients", layer=layer, **PATHS
    )
    assert apart(found.maps[0], known[layer]) < 1e-5


@pytest.mark.parametrize(
    ("method", "n_steps", "tolerance"),
    [("internal_influence", 50, 1e-5), ("layer_conductance", 1000, 2e-3)],
)
@pytest.mark.parametrize("layer", ["relu1", "pool", "relu2"])
def test_path_methods_of_layers_are_captums(of_captum, method, n_steps, tolerance, layer):
    model, known = of_captum
    expected = np.load(REFERENCES.with_name("conductance.npz"))[f"{method}/{layer}"]
    options = {"layer": layer, "n_steps": n_steps, **PATHS}
    found = xaimaps.attribute(model, known["images"], method, **options)
    assert apart(found.maps[0], expected) < tolerance


def test_conductance_sums_to_the_difference_of_scores(of_captum):
    model, known = of_captum
    found = xaimaps.attribute(model, known["images"], "layer_conductance", layer="pool", **PATHS)
    scores = [
        np.asarray(model.forward(jnp.asarray(x)))[0, 1]
        for x in (known["images"], 0 * known["images"])
    ]
    np.testing.assert_allclose(found.maps.sum(), scores[0] - scores[1], rtol=5e-3)
    np.testing.assert_allclose(found.details["completeness_delta"], 0, atol=1e-3)


def test_fem_is_that_of_pytorch_grad_cam(of_captum):
    model, known = of_captum
    expected = np.load(REFERENCES.with_name("conductance.npz"))["fem/relu2"]
    options = {"layer": "relu2", "k": 1.0}
    found = xaimaps.attribute(model, known["images"], "fem", variant="pytorch-grad-cam", **options)
    assert apart(found.maps[0], expected) < 1e-5
    values = np.asarray(
        model.forward_with_activations(jnp.asarray(known["images"]), ("relu2",))[1]["relu2"]
    )
    mean, deviation = values.mean((1, 2)), values.std((1, 2))
    by_hand = (mean * (values > mean + deviation)).sum(-1)
    np.testing.assert_allclose(
        xaimaps.attribute(model, known["images"], "fem", **options).maps, by_hand, rtol=1e-5
    )


@pytest.mark.parametrize(("kernel", "gamma"), [("sigmoid", None), ("rbf", 0.5), ("cosine", None)])
@pytest.mark.parametrize("layer", ["relu1", "pool", "relu2"])
def test_kpca_cam_is_pytorch_grad_cams_but_for_the_sign(of_captum, kernel, gamma, layer):
    model, known = of_captum
    expected = np.load(REFERENCES.with_name("kpca.npz"))[f"{kernel}/{layer}"]
    options = {"layer": layer, "kernel": kernel, "gamma": gamma, "relu": False}
    found = xaimaps.attribute(model, known["images"], "kpca_cam", **options).maps[0]
    assert min(apart(found, expected), apart(-found, expected)) < 1e-4
    _, kept = model.forward_with_activations(jnp.asarray(known["images"]), (layer,))
    assert np.sum(found * np.asarray(kept[layer][0]).mean(-1)) >= 0


@pytest.mark.parametrize("k", [float("nan"), float("inf")])
def test_fem_needs_a_finite_k(of_captum, k):
    model, known = of_captum
    with pytest.raises(MethodError, match="`k` must be a finite number"):
        xaimaps.attribute(model, known["images"], "fem", k=k)


@pytest.mark.parametrize("layer", ["relu1", "pool", "relu2"])
def test_opti_cam_is_that_of_pytorch(of_captum, layer):
    model, known = of_captum
    options = {"layer": layer, "n_steps": 30}
    found = xaimaps.attribute(model, known["images"], "opti_cam", target=1, **options)
    with np.load(REFERENCES.with_name("opti_cam.npz")) as expected:
        assert apart(found.maps[0], expected[layer]) < 1e-4
        scores = found.details["masked_scores"][0]
        assert apart(scores, expected[f"{layer}/scores"]) < 1e-4
    assert scores[-1] > scores[0]
