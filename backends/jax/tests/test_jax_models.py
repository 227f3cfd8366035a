"""Models of Flax, Haiku, Equinox and Keras on JAX: one network, one map, layers by module."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xaimaps
from xaimaps.errors import ModelLoadError, UnsupportedModelError

hk = pytest.importorskip("haiku")
linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")

import resnets  # noqa: E402  # needs these libraries
import vits  # noqa: E402

WEIGHTS = resnets.weights()
IMAGES = np.random.default_rng(1).normal(size=(2, *resnets.SHAPE)).astype(np.float32)
TOKENS = np.random.default_rng(2).normal(size=(2, *vits.SHAPE)).astype(np.float32)

LIBRARIES = {
    "function": lambda: (resnets.plain, WEIGHTS),
    "linen": lambda: (resnets.LinenResNet(), resnets.linen_variables(WEIGHTS)),
    "nnx": lambda: (resnets.nnx_model(WEIGHTS),),
    "equinox": lambda: (resnets.eqx_model(WEIGHTS),),
    "haiku": lambda: (
        hk.transform_with_state(resnets.haiku_network),
        resnets.haiku_variables(WEIGHTS),
    ),
}


NNX_LAYERS = {nnx.Conv, nnx.BatchNorm, nnx.Dropout, nnx.Linear}


@pytest.fixture(scope="module")
def objects():
    return {name: make() for name, make in LIBRARIES.items()}


@pytest.fixture(scope="module")
def models(objects):
    return {
        name: xaimaps.load(*given, input_shape=resnets.SHAPE) for name, given in objects.items()
    }


def in_library(name, library):
    """Return the name of a block in a library, where modules are kept in lists or by name."""
    return name.replace("_", "/") if library in ("nnx", "equinox") else name


@pytest.mark.parametrize("library", [name for name in LIBRARIES if name != "function"])
def test_modules_are_layers_and_the_last_block_is_the_default(models, library):
    model = models[library]
    names = [layer.name for layer in model.layers()]
    expected = ["stem", "norm"]
    for block, _, _, stride in resnets.BLOCKS:
        inner = ["conv1", "norm1", "conv2", "norm2", *(["conv3"] if stride > 1 else []), ""]
        expected += [f"{in_library(block, library)}/{one}".rstrip("/") for one in inner]
    assert [name for name in names if not name.lower().startswith(("dropout", "head"))] == expected
    assert model.default_layer().name == in_library("blocks_2", library)


@pytest.mark.parametrize("library", LIBRARIES)
def test_gradients_are_those_of_the_function_by_hand(models, library):
    outputs = resnets.plain(WEIGHTS, IMAGES)
    np.testing.assert_allclose(models[library].forward(IMAGES), outputs, atol=5e-6)
    slope = jax.grad(lambda x: resnets.plain(WEIGHTS, x)[:, 1].sum())(jnp.asarray(IMAGES))
    found = xaimaps.attribute(models[library], IMAGES, "saliency", target=1).maps
    np.testing.assert_allclose(found, np.abs(slope).max(-1), atol=3e-6 * np.abs(slope).max())


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("block", [name for name, *_ in resnets.BLOCKS])
def test_grad_cam_is_that_of_the_split_by_hand(models, library, block):
    layers = {f"blocks_{i}": name for i, name in enumerate(("relu_2", "relu_4", "relu_6"))}
    layer = layers[block] if library == "function" else in_library(block, library)
    value = resnets.features(WEIGHTS, IMAGES, block)

    def rest(x):
        names = [name for name, *_ in resnets.BLOCKS]
        for name, _, _, stride in resnets.BLOCKS[names.index(block) + 1 :]:
            x = resnets.block(WEIGHTS[name], x, stride)
        return resnets.head(WEIGHTS, x)[:, 1].sum()

    weights = jax.grad(rest)(value).mean((1, 2), keepdims=True)
    expected = np.maximum((weights * value).sum(-1), 0)
    found = xaimaps.attribute(models[library], IMAGES, "grad_cam", target=1, layer=layer).maps
    np.testing.assert_allclose(found, expected, atol=5e-6 * expected.max())


@pytest.mark.parametrize("library", ["nnx", "equinox", "haiku"])
@pytest.mark.parametrize("method", ["guided_backprop", "cam", "fullgrad"])
def test_libraries_agree(models, library, method):
    """Against linen, which the next tests compare with references that are not our own."""
    expected = xaimaps.attribute(models["linen"], IMAGES, method, target=1).maps
    found = xaimaps.attribute(models[library], IMAGES, method, target=1).maps
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


def test_cam_is_the_weighted_sum_of_the_last_block(models):
    found = xaimaps.attribute(models["linen"], IMAGES, "cam", target=1).maps
    expected = resnets.features(WEIGHTS, IMAGES) @ WEIGHTS["kernel"][:, 1]
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


def test_a_module_is_one_layer_of_fullgrad(models):
    """Seven normalisations and the dense layer have biases; the mean of a norm is none by itself.

    The biases are those of the formula `bias - mean * scale / sqrt(variance + epsilon)`.
    """
    target = xaimaps.targets.as_target(np.array([1, 1]), 2)
    gradients, terms = models["linen"].biases(jnp.asarray(IMAGES), target)
    assert len(terms) == 8
    parts = [gradients.activations * gradients.gradients, *terms]
    total = sum(np.asarray(part).reshape(2, -1).sum(1) for part in parts)
    np.testing.assert_allclose(total, gradients.scores, rtol=1e-4)
    scale, bias, mean, variance = WEIGHTS["norm"]
    added = bias - mean * scale / np.sqrt(variance + resnets.EPSILON)

    def shifted(shift):
        stem = resnets.convolved(IMAGES, WEIGHTS["stem"])
        x = jax.nn.relu(resnets.normalised(stem, WEIGHTS["norm"]) + shift)
        for name, _, _, stride in resnets.BLOCKS:
            x = resnets.block(WEIGHTS[name], x, stride)
        return resnets.head(WEIGHTS, x)[:, 1].sum()

    expected = jax.grad(shifted)(jnp.zeros((2, 32, 32, 8))) * added
    np.testing.assert_allclose(terms[0], expected, atol=1e-5 * np.abs(expected).max())


def test_the_users_model_is_not_changed(objects, models):
    xaimaps.attribute(models["nnx"], IMAGES, target=1)
    model = objects["nnx"][0]
    kinds = {type(one) for _, one in nnx.iter_modules(model)}
    assert kinds == {resnets.NnxResNet, resnets.NnxBlock, *NNX_LAYERS, nnx.List}
    assert not model.norm.use_running_average
    assert not model.dropout.deterministic


def test_a_function_that_was_compiled_before_has_names_and_keeps_its_own_trace():
    compiled = jax.jit(lambda p, x: resnets.LinenResNet().apply(p, x, train=False))
    variables = resnets.linen_variables(WEIGHTS)
    compiled(variables, IMAGES)
    model = xaimaps.load(compiled, variables, input_shape=resnets.SHAPE)
    assert model.find_layer("ResNet/blocks_2".replace("ResNet", "LinenResNet")).shape[1:3] == (
        16,
        16,
    )
    assert "xaimaps_tap" not in str(jax.make_jaxpr(compiled)(variables, IMAGES))


KEY = jax.random.key(0, impl="rbg")
"""Its programs compile in a tenth of the time of those of the default generator."""


def linen_vit(scanned):
    model = vits.LinenViT(scanned)
    return model, jax.jit(model.init)(KEY, TOKENS)


VITS = {
    "linen": linen_vit,
    "nnx": lambda scanned: (nnx.jit(lambda: vits.NnxViT(nnx.Rngs(KEY), scanned=scanned))(),),
    "equinox": lambda scanned: (eqx.filter_jit(vits.EqxViT)(KEY, scanned=scanned),),
}


@pytest.mark.parametrize("scanned", [False, True], ids=["listed", "scanned"])
@pytest.mark.parametrize("library", VITS)
def test_transformers(library, scanned):
    objects = VITS[library](scanned)
    model = xaimaps.load(*objects, input_shape=vits.SHAPE)
    names = {layer.name: layer.shape for layer in model.layers()}
    blocks = [f"blocks[{i}]" if scanned else in_library(f"blocks_{i}", library) for i in range(3)]
    assert all(names[block] == (None, 4, 4, vits.WIDTH) for block in blocks)
    default = model.default_layer().name
    assert default.startswith(blocks[2])
    assert default.endswith("norm1")
    outputs = model.forward(TOKENS)
    run = model.compiled("cut", lambda b, x: cut_and_run(b, x, blocks[1]), TOKENS)
    np.testing.assert_allclose(run(jnp.asarray(TOKENS)), outputs, atol=2e-6)
    found = xaimaps.attribute(model, TOKENS, "grad_cam", target=1, relu=False)
    assert np.abs(found.maps).max() > 1e-3


def cut_and_run(model, images, layer):
    value, rest = model.split(images, layer)
    return rest(value)


def test_blocks_in_a_scan_have_the_gradients_of_blocks_in_a_list():
    (listed,) = VITS["equinox"](False)
    blocks = jax.tree.map(lambda *x: jnp.stack(x) if eqx.is_array(x[0]) else x[0], *listed.blocks)
    scanned = eqx.tree_at(lambda model: model.blocks, listed, blocks)
    found, expected = (
        xaimaps.attribute(
            xaimaps.load(model, input_shape=vits.SHAPE), TOKENS, "grad_cam", target=2, layer=layer,
            relu=False,
        ).maps
        for model, layer in ((scanned, "blocks[1]"), (listed, "blocks/1"))
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("model", "params", "options", "error", "message"),
    [
        (resnets.LinenResNet(), None, {}, ModelLoadError, "a Flax module needs its variables"),
        (
            hk.transform_with_state(resnets.haiku_network),
            {},
            {},
            ModelLoadError,
            r"give them as `params=\(params, state\)`",
        ),
        (
            resnets.LinenResNet(),
            resnets.linen_variables(WEIGHTS),
            {"call": {"train": True}},
            UnsupportedModelError,
            r"got ModifyScopeVariableError at .*resnets.py:\d+: .*give that one by `input_size`",
        ),
        (
            resnets.LinenResNet(),
            resnets.linen_variables(WEIGHTS),
            {"input_shape": (32, 32, 4)},
            UnsupportedModelError,
            r"for images of shape \(2, 32, 32, 4\), got ScopeParamShapeError",
        ),
        (
            resnets.LinenResNet(),
            resnets.linen_variables(WEIGHTS),
            {"layout": "CNHW"},
            ModelLoadError,
            "`layout` must be one of NHWC, NCHW, HWC, CHW, got 'CNHW'",
        ),
        (
            lambda p, x: {"logits": x.mean((1, 2)), "aux": x.sum((1, 2))},
            (),
            {"input_shape": (8, 8, 3), "output": "scores"},
            ModelLoadError,
            "`output` must be one of 'aux', 'logits', the model's outputs of floats, got 'scores'",
        ),
    ],
)
def test_errors_in_one_sentence(model, params, options, error, message):
    with pytest.raises(error, match=message):
        xaimaps.load(model, params, **options)


def test_an_argument_without_a_default_is_asked_for():
    class Scaled(linen.Module):
        @linen.compact
        def __call__(self, x, scale):
            return linen.Dense(3)(scale * x.mean((1, 2)))

    variables = Scaled().init(jax.random.key(0), IMAGES, 2.0)
    with pytest.raises(ModelLoadError, match=r"also needs 'scale'; give it by `call=dict\(scale="):
        xaimaps.load(Scaled(), variables)
    model = xaimaps.load(Scaled(), variables, call={"scale": 2.0}, input_shape=resnets.SHAPE)
    np.testing.assert_allclose(
        model.forward(IMAGES), Scaled().apply(variables, IMAGES, 2.0), atol=1e-6
    )


def test_one_of_several_outputs():
    def both(params, x):
        return {"logits": x.mean((1, 2)) @ params, "aux": x.sum((1, 2))}

    weights = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    model = xaimaps.load(both, weights, input_shape=(8, 8, 3), output="logits")
    assert model.forward(IMAGES[:, :8, :8]).shape == (2, 4)
    assert any("2 outputs (logits, aux), of which 'logits'" in note for note in model.info.notes)


@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
def test_keras(framework, tmp_path):
    """Against linen; on TensorFlow, no code of the JAX backend computes the map of Keras."""
    script = Path(__file__).parent / "networks" / "keras_on_jax.py"
    pytest.importorskip("tensorflow" if framework == "tensorflow" else "keras")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": framework}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "stored.keras"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["backend"], found["name"], found["ending"]) == (
        framework,
        "resnet",
        "softmax",
    )
    assert (found["backend of the file"], found["name of the file"]) == (framework, "stored")
    assert found["input_shape"] == list(resnets.SHAPE)
    assert found["default"] == "blocks_2"
    assert {"blocks_1_conv3", "blocks_1_add", "blocks_1"} <= set(found["layers"])
    assert found["unchanged"]
    assert max(found["errors"].values()) < 5e-6


class Regularised(linen.Module):
    train: bool = True


class Inherited(Regularised):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (1, 1), name="features")(
            linen.Dropout(0.5, deterministic=not self.train)(x)
        )
        return linen.Dense(3, name="head")(jnp.tanh(x).mean((1, 2)))


@pytest.fixture(scope="module")
def inherited():
    return Inherited(), jax.jit(Inherited(train=False).init)(KEY, IMAGES)


def test_a_training_mode_that_is_inherited(inherited):
    module, variables = inherited
    model = xaimaps.load(module, variables, input_shape=resnets.SHAPE)
    expected = Inherited(train=False).apply(variables, IMAGES)
    np.testing.assert_allclose(model.forward(IMAGES), expected, atol=1e-6)
    assert module.train


def test_operations_inside_of_modules_are_listed_on_request_and_can_be_cut(inherited):
    model = xaimaps.load(*inherited, input_shape=resnets.SHAPE)
    listed = [layer.name for layer in model.layers()]
    assert listed == ["Dropout_0", "features", "tanh", "head"]  # tanh is the default layer
    every = [layer.name for layer in model.layers(unlisted=True)]
    assert set(listed) < set(every), every
    outputs = model.forward(IMAGES)
    for name in every:
        run = model.compiled(name, lambda b, x, name=name: cut_and_run(b, x, name), IMAGES)
        np.testing.assert_allclose(run(jnp.asarray(IMAGES)), outputs, atol=1e-6)


class ScannedBlock(linen.Module):
    dtype: jnp.dtype

    @linen.compact
    def __call__(self, x, _):
        y = linen.Conv(6, (3, 3), dtype=self.dtype, name="conv")(
            linen.LayerNorm(dtype=self.dtype)(x)
        )
        return x + linen.gelu(y), None


class ScannedConvNet(linen.Module):
    dtype: jnp.dtype = jnp.float32
    depth: int = 3

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(6, (4, 4), (4, 4), dtype=self.dtype, name="stem")(x)
        axes, split = {"params": 0}, {"params": True}
        blocks = linen.scan(ScannedBlock, axes, split_rngs=split, length=self.depth)
        x, _ = blocks(self.dtype, name="blocks")(x, None)
        return linen.Dense(3, dtype=self.dtype, name="head")(x.mean((1, 2)))


@pytest.fixture(scope="module")
def scanned_weights():
    return jax.jit(ScannedConvNet().init)(KEY, IMAGES)


def blocks_by_hand(variables, dtype, images):
    """Return what each block of a `ScannedConvNet` returns, and the rest behind a block."""
    params = variables["params"]
    stem = linen.Conv(6, (4, 4), (4, 4), dtype=dtype)
    values = [stem.apply({"params": params["stem"]}, images)]
    weights = [jax.tree.map(lambda x, i=i: x[i], params["blocks"]) for i in range(3)]

    def step(x, one):
        return ScannedBlock(dtype).apply({"params": one}, x, None)[0]

    def rest(x, first):
        for one in weights[first:]:
            x = step(x, one)
        return linen.Dense(3, dtype=dtype).apply({"params": params["head"]}, x.mean((1, 2)))

    for one in weights:
        values.append(step(values[-1], one))
    return values[1:], rest


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_convolutional_network_that_scans_over_its_blocks(scanned_weights, dtype):
    """The map is float32 also where values and gradients are bfloat16."""
    model = xaimaps.load(ScannedConvNet(dtype), scanned_weights, input_shape=resnets.SHAPE)
    assert model.default_layer().name == "blocks[2]"
    values, rest = blocks_by_hand(scanned_weights, dtype, IMAGES)
    for index in (0, 2):
        value = values[index]
        score = jax.jit(lambda x, first=index + 1: rest(x, first)[:, 1].astype("f4").sum())
        slope = jax.grad(score)(value)
        assert slope.dtype == dtype
        weights = slope.astype("f4").mean((1, 2), keepdims=True)
        expected = np.asarray((weights * value.astype("f4")).sum(-1))
        layer = f"blocks[{index}]"
        found = xaimaps.attribute(model, IMAGES, "grad_cam", target=1, layer=layer, relu=False).maps
        assert found.dtype == np.float32
        # XLA keeps some values between two operations of a fusion in float32
        tolerance = 2e-6 if dtype == jnp.float32 else 2e-2
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
