"""The attention methods against PyTorch, and the transformers that they can read."""

from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps.errors import BackendError, UnsupportedModelError
from xaimaps.methods import METHODS
from xaimaps.testing import ReferenceBackend, pooled_network

jax = pytest.importorskip("jax")
jnp = jax.numpy

REFERENCES = Path(__file__).parent / "references"
CASES = [
    *(("attention_rollout", "heads", heads) for heads in ("mean", "max", "min")),
    ("chefer", None, None),
    ("grad_sam", "blocks", "all"),
    ("grad_sam", "blocks", "last"),
    ("legrad", "pooling", "model"),
    ("legrad", "pooling", "mean"),
]
NAMES = [name for name, row in METHODS.items() if "attention" in row.needs]


@pytest.fixture(scope="module")
def stored():
    return np.load(REFERENCES / "attention.npz")


@pytest.fixture(scope="module")
def vit():
    return xaimaps.load(REFERENCES / "lrp_vit.onnx", backend="jax")


def close(actual, desired, tolerance=2e-6):
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * np.abs(desired).max())


@pytest.mark.parametrize(("name", "option", "value"), CASES)
def test_maps_are_those_of_pytorch(vit, stored, name, option, value):
    options = {} if option is None else {option: value}
    images, target = stored["images"].astype(np.float32), int(stored["target"])
    found = xaimaps.attribute(vit, images, name, target=target, **options)
    close(found.maps, stored[f"{name}/{value}" if value else name])
    close(found.scores, xaimaps.attribute(vit, images, "saliency", target=target).scores)


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].uses_target])
def test_several_targets_are_single_ones(vit, stored, name):
    images = stored["images"].astype(np.float32)
    several = xaimaps.attribute(vit, images, name, target="top-2")
    first = xaimaps.attribute(vit, images, name)
    close(several.maps[:, 0], first.maps)
    assert several.maps.shape == (2, 2, 3, 3)


def test_rollout_without_normalisation_has_larger_sums(vit, stored):
    """Each row of A + I sums to 2, so that two blocks make a factor of 4."""
    images = stored["images"].astype(np.float32)
    plain, normal = (
        xaimaps.attribute(vit, images, "attention_rollout", normalize=one).maps
        for one in (False, True)
    )
    close(plain, 4 * normal)


# Ways to write a transformer


def norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def attend(params, x, *, shift=0.0):
    q, k, v = (
        (x @ params[key]).reshape(*x.shape[:2], 2, -1).swapaxes(1, 2) for key in ("q", "k", "v")
    )
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / 2, axis=-1)
    return ((weights + shift) @ v).swapaxes(1, 2).reshape(x.shape)


def patches(params, images):
    n, h, w, c = images.shape
    x = images.reshape(n, h // 3, 3, w // 3, 3, c).swapaxes(2, 3).reshape(n, -1, 9 * c)
    return x @ params["patch"]


def body(params, x):
    for _ in range(2):
        x = x + attend(params, norm(x))
        x = x + jax.nn.gelu(norm(x) @ params["q"]) @ params["k"]
    return norm(x)


def pooled(params, images):
    return body(params, patches(params, images)).mean(1) @ params["head"]


def with_class_token(params, images):
    x = patches(params, images)
    token = jnp.broadcast_to(params["token"], (len(x), 1, 4))
    return body(params, jnp.concatenate([token, x], axis=1))[:, 0] @ params["head"]


def without_stream(params, images):
    x = patches(params, images)
    return norm(attend(params, attend(params, x))).mean(1) @ params["head"]


def in_windows(params, images):
    x = patches(params, images).reshape(len(images), 4, 4, 4)
    x = x.reshape(-1, 2, 2, 2, 2, 4).swapaxes(2, 3).reshape(-1, 4, 4)
    return attend(params, x).reshape(len(images), -1, 4).mean(1) @ params["head"]


def of_fewer_keys(params, images):
    x = patches(params, images)
    weights = jax.nn.softmax(x @ x[:, :8].swapaxes(1, 2), axis=-1)
    return (weights @ x[:, :8]).mean(1) @ params["head"]


SHAPES = {"patch": (27, 4), "q": (4, 4), "k": (4, 4), "v": (4, 4), "head": (4, 3), "token": (4,)}
SHAPES["shift"] = (2, 16, 16)
IMAGES = np.random.default_rng(3).normal(size=(2, 12, 12, 3)).astype(np.float32)


def loaded(function):
    draw = np.random.default_rng(4).normal
    params = {key: draw(size=shape).astype(np.float32) / 2 for key, shape in SHAPES.items()}
    return xaimaps.load(function, params=params, input_shape=(12, 12, 3))


@pytest.mark.parametrize(("function", "read"), [(pooled, (0, 16)), (with_class_token, (0, 1))])
def test_the_tokens_that_a_function_reads_are_found(function, read):
    attention = loaded(function).network.attention
    assert (len(attention.weights), len(attention.streams), attention.read) == (2, 2, read)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("function", [pooled, with_class_token])
def test_an_image_has_its_own_map(function, name):
    model = loaded(function)
    both = xaimaps.attribute(model, IMAGES, name, target=1).maps
    alone = [xaimaps.attribute(model, image[None], name, target=1).maps[0] for image in IMAGES]
    close(both, np.stack(alone), 1e-5)
    assert both.shape == (2, 4, 4)


def test_gradients_pass_through_all_later_blocks():
    """They are those by a constant that the network adds to its first attention matrix."""

    def shifted(params, images):
        x = patches(params, images)
        x = x + attend(params, norm(x), shift=params["shift"])
        return body(params, x).mean(1) @ params["head"]

    model = loaded(shifted)
    blocks = model.blocks(jnp.asarray(IMAGES[:1]))
    (found,) = blocks.pull(None, jnp.eye(3)[1:2], (0,))
    score = jax.grad(lambda params: shifted(params, IMAGES[:1])[0, 1])
    close(found[0], score(model.params)["shift"].reshape(-1), 1e-5)
    assert len(blocks.weights) == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("function", [in_windows, of_fewer_keys])
def test_attention_between_other_tokens_is_refused(function, name):
    with pytest.raises(UnsupportedModelError, match="between all tokens of one grid, got one"):
        xaimaps.attribute(loaded(function), IMAGES, name, target=1)


def test_legrad_needs_a_residual_stream():
    model = loaded(without_stream)
    with pytest.raises(UnsupportedModelError, match="blocks add to one stream of tokens"):
        xaimaps.attribute(model, IMAGES, "legrad", target=1)
    assert xaimaps.attribute(model, IMAGES, "chefer", target=1).maps.shape == (2, 4, 4)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_attention_is_refused(name):
    model = xaimaps.load("default", backend="jax")
    with pytest.raises(UnsupportedModelError, match=r"no attention matrix .* use grad_cam"):
        xaimaps.attribute(model, np.zeros((1, 224, 224, 3), np.float32), name)
    with pytest.raises(BackendError, match="needs a backend that can do attention"):
        xaimaps.attribute(ReferenceBackend(pooled_network()), np.zeros((1, 9, 9, 3)), name)


def test_all_methods_leave_those_of_transformers_out():
    from xaimaps._plan import able_methods

    assert not set(able_methods(xaimaps.load("default", backend="jax"), METHODS)) & set(NAMES)
    assert set(able_methods(loaded(pooled), METHODS)) >= set(NAMES)
