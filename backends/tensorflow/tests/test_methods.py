"""Every method on TensorFlow gives the reference's maps."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps import targets
from xaimaps.methods import METHODS
from xaimaps.targets import several
from xaimaps.testing import ReferenceBackend, one_conv_network, pooled_network
from xaimaps.testing.conformance import FEW

tf = pytest.importorskip("tensorflow")

CORE = Path(xaimaps.__file__).parent


@pytest.fixture(scope="module")
def pair(build):
    """The same network in numpy and in Keras."""
    network = pooled_network()
    backends = ReferenceBackend(network), build(network)
    for backend in backends:
        backend.info.preprocess = xaimaps.PRESETS["tf"]
    return backends


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)


def assert_close(actual, desired, tolerance=1e-4):
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * np.abs(desired).max())


@pytest.mark.parametrize("name", ["saliency", "grad_cam", "occlusion"])
def test_contrasts_and_filters_are_the_references(pair, images, name):
    options = {"target": targets.contrast(None, 2), "augment": "flip", "low_pass": 2}
    expected, found = (xaimaps.attribute(one, images, name, **options) for one in pair)
    assert_close(found.maps, expected.maps)


def test_grad_cam_of_captums_network(build):
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    found = xaimaps.attribute(build(one_conv_network()), image, target=0, layer="conv")
    np.testing.assert_allclose(found.maps[0], [[11.25, 13.5], [20.25, 22.5]])


def test_layers_are_fused_in_one_program(pair, images):
    options = {"layer": ("relu1", "relu2"), "fuse": "product", "target": 1}
    expected, found = (xaimaps.attribute(one, images, "layer_cam", **options) for one in pair)
    assert_close(found.maps, expected.maps)


def test_embeddings_are_targets(build, images):
    model = build(pooled_network())
    embedding = np.arange(5.0)
    target = targets.similarity(embedding)
    found = xaimaps.attribute(model, images, "saliency", target=target)
    assert found.classes is None
    programs = len(model._compiled)
    other = xaimaps.attribute(model, images, "saliency", target=targets.similarity(embedding[::-1]))
    assert len(model._compiled) == programs
    assert not np.allclose(found.maps, other.maps)


def test_a_function_is_a_target(build, images):
    model = build(pooled_network())
    found = xaimaps.attribute(model, images, target=lambda y: y[:, 1] - y[:, 2])
    expected = xaimaps.attribute(model, images, target=targets.contrast(1, 2))
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)


@pytest.mark.parametrize("name", ["ablation_cam", "score_cam", "rise", "finer_cam", "fullgrad"])
def test_a_method_runs_inside_the_users_own_function(pair, images, name):
    options = {"n_masks": 20} if name == "rise" else {}

    @tf.function
    def mine(images):
        return METHODS[name].fn(pair[1], images, several(1, None), **options).maps

    expected = METHODS[name].fn(pair[0], images, several(1, None), **options).maps
    assert_close(mine(tf.constant(images)), expected)


@pytest.mark.parametrize("name", ["ablation_cam", "smoothgrad", "integrated_gradients", "fullgrad"])
def test_a_method_runs_eagerly(pair, images, name):
    options = {} if name == "ablation_cam" else FEW.get(name, {})
    found, expected = (
        METHODS[name].fn(one, one.asarray(images), several(1, None), **options).maps
        for one in reversed(pair)
    )
    assert_close(found, expected)


def test_xla_gives_the_same_maps(build, images):
    plain, fused = (build(pooled_network(), xla=xla) for xla in (False, True))
    for name in ("grad_cam", "smoothgrad", "guided_backprop"):
        options = FEW.get(name, {})
        maps = (xaimaps.attribute(model, images, name, **options).maps for model in (fused, plain))
        assert_close(*maps)


# The namespace


def names_of_the_namespace(path):
    """Each `xp.name` that a file of the core writes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield from re.findall(r"^(?:\w+\.)*xp\.(\w+)$", ast.unparse(node))


def test_the_namespace_has_what_the_core_uses_and_no_more():
    from xaimaps_tensorflow import _namespace as namespace

    used = {name for path in CORE.rglob("*.py") for name in names_of_the_namespace(path)}
    own = {name for name in vars(namespace) if not name.startswith("_")}
    assert used - own == set()
    assert own - used - {"Any", "Array", "Axis", "Sequence", "annotations", "np", "tf"} == set()


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("arange", (2, 9, 3), {}),
        ("argmax", (), {"axis": -1}),
        ("argsort", (), {"axis": -1, "stable": True}),
        ("clip", (-0.5, 0.5), {}),
        ("flip", (), {"axis": -2}),
        ("full_like", (np.inf,), {}),
        ("moveaxis", (0, -1), {}),
        ("moveaxis", ((0, 1), (-1, -2)), {}),
        ("moveaxis", (-1, 0), {}),
        ("take", (np.array([1, 0, 1]),), {"axis": 1}),
        ("take_along_axis", (np.array([[[0], [2]]]),), {"axis": -1}),
        ("var", (), {"axis": (-2, -1)}),
    ],
)
def test_the_namespace_means_what_numpy_means(name, arguments, options):
    from xaimaps_tensorflow import _namespace as namespace

    x = np.array([[[3.0, 1.0, 1.0, -2.0], [0.0, 5.0, -1.0, 5.0]]], np.float32)
    first = () if name == "arange" else (x,)
    found = getattr(namespace, name)(*map(_native, first), *map(_native, arguments), **options)
    plain = options if name != "flip" else {"axis": -2}
    np.testing.assert_allclose(found, getattr(np, name)(*first, *arguments, **plain), rtol=1e-6)
    assert found.dtype in (tf.float32, tf.int32)


def _native(value):
    return tf.constant(value) if isinstance(value, np.ndarray) else value
