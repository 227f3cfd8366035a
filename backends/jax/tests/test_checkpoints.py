"""Checkpoints: the weights of a model from a file or folder, by every library's own writer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xaimaps
from xaimaps.errors import ModelLoadError

hk = pytest.importorskip("haiku")
nnx = pytest.importorskip("flax.nnx")
eqx = pytest.importorskip("equinox")
orbax = pytest.importorskip("orbax.checkpoint")
safetensors = pytest.importorskip("safetensors.flax")

import resnets  # noqa: E402  # needs these libraries
from flax import serialization  # noqa: E402

WEIGHTS, OTHERS = resnets.weights(), resnets.weights(1)
IMAGES = np.random.default_rng(1).normal(size=(2, *resnets.SHAPE)).astype(np.float32)
EXPECTED = resnets.plain(WEIGHTS, IMAGES)


def flat(tree, separator):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    path = {jax.tree_util.keystr(k, simple=True, separator=separator): v for k, v in leaves}
    return {name: jnp.asarray(value) for name, value in path.items()}


def orbax_folder(tree, folder):
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "stored", tree)
    return folder / "stored"


def safetensors_file(tree, folder):
    safetensors.save_file(flat(tree, "."), folder / "stored.safetensors")
    return folder / "stored.safetensors"


def msgpack_file(tree, folder):
    stored = serialization.msgpack_serialize(serialization.to_state_dict(tree))
    (folder / "stored.msgpack").write_bytes(stored)
    return folder / "stored.msgpack"


def npz_file(tree, folder):
    np.savez(folder / "stored.npz", **flat(tree, "/"))
    return folder / "stored.npz"


def eqx_file(tree, folder):
    eqx.tree_serialise_leaves(folder / "stored.eqx", tree)
    return folder / "stored.eqx"


def floats(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState)))


CASES = {
    "linen in Orbax": (
        lambda: resnets.LinenResNet(), lambda: resnets.linen_variables(WEIGHTS), orbax_folder
    ),
    "linen in safetensors": (
        lambda: resnets.LinenResNet(), lambda: resnets.linen_variables(WEIGHTS), safetensors_file
    ),
    "linen in msgpack": (
        lambda: resnets.LinenResNet(), lambda: resnets.linen_variables(WEIGHTS), msgpack_file
    ),
    "a linen training run": (
        lambda: resnets.LinenResNet(),
        lambda: {**resnets.linen_variables(WEIGHTS), "step": np.int32(7), "opt_state": [1.0]},
        orbax_folder,
    ),
    "an NNX state in Orbax": (
        lambda: resnets.nnx_model(OTHERS), lambda: nnx.state(resnets.nnx_model(WEIGHTS)),
        orbax_folder,
    ),
    "NNX parameters in safetensors": (
        lambda: resnets.nnx_model(OTHERS), lambda: floats(resnets.nnx_model(WEIGHTS)),
        safetensors_file,
    ),
    "Equinox": (
        lambda: resnets.eqx_model(OTHERS), lambda: resnets.eqx_model(WEIGHTS), eqx_file
    ),
    "Equinox by path": (
        lambda: resnets.eqx_model(OTHERS),
        lambda: eqx.filter(resnets.eqx_model(WEIGHTS), eqx.is_array),
        npz_file,
    ),
    "Haiku in Orbax": (
        lambda: hk.transform_with_state(resnets.haiku_network),
        lambda: dict(
            zip(("params", "state"), resnets.haiku_variables(WEIGHTS), strict=True)
        ),
        orbax_folder,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_stored_weights_are_those_of_the_network(case, tmp_path):
    model, stored, write = CASES[case]
    file = write(stored(), tmp_path)
    loaded = xaimaps.load(model(), weights=file, input_shape=resnets.SHAPE)
    np.testing.assert_allclose(loaded.forward(IMAGES), EXPECTED, atol=5e-6)
    assert (loaded.info.source, len(loaded.info.sha256)) == (str(file), 64)


def test_a_function_takes_them_in_the_form_of_its_parameters(tmp_path):
    file = npz_file(WEIGHTS, tmp_path)
    loaded = xaimaps.load(resnets.plain, OTHERS, weights=file, input_shape=resnets.SHAPE)
    np.testing.assert_allclose(loaded.forward(IMAGES), EXPECTED, atol=5e-6)


def scaled(params, images):
    return (images * params["scale"]).mean((1, 2)) + params["offset"]


PARAMS = {"scale": jnp.ones(3), "offset": 0.0, "steps": jnp.int32(3)}
"""A parameter that is a number, and one that is no float and need not be stored."""

REFUSED = {
    "a name that is missing": ({"scale": np.ones(3)}, "lacks 'offset'"),
    "a name too many": ({"scale": np.ones(3), "offset": 1.0, "gain": 2.0}, "also has 'gain'"),
    "another shape": ({"scale": np.ones(4), "offset": 1.0}, r"'scale' has the shape \(4,\)"),
    "a pickle": ({"scale": np.array({}), "offset": 1.0}, "cannot be read"),
}


def test_what_is_no_float_need_not_be_stored(tmp_path):
    np.savez(tmp_path / "w.npz", scale=np.full(3, 2.0), offset=np.float32(1))
    loaded = xaimaps.load(scaled, PARAMS, weights=tmp_path / "w.npz", input_shape=(4, 4, 3))
    images = IMAGES[:, :4, :4]
    np.testing.assert_allclose(loaded.forward(images), 2 * images.mean((1, 2)) + 1, atol=1e-6)


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_do_not_fit(case, tmp_path):
    arrays, message = REFUSED[case]
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(ModelLoadError, match=message):
        xaimaps.load(scaled, PARAMS, weights=tmp_path / "w.npz", input_shape=(4, 4, 3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.npz", "there is no"),
        ("w.pt", "a file of .safetensors, .msgpack, .npz"),
        ("w.safetensors", "cannot be read"),
        ("w.msgpack", "cannot be read"),
        ("folder", "inside of it: .*folder/3/default"),
        (".", "a folder that Orbax wrote"),
    ],
)
def test_files_that_are_no_weights(name, message, tmp_path):
    (tmp_path / "w.pt").touch()
    (tmp_path / "w.safetensors").write_bytes(b"text")
    (tmp_path / "w.msgpack").write_bytes(b"\xc1")
    step = tmp_path / "folder" / "3" / "default"
    step.mkdir(parents=True)
    (step / "_METADATA").touch()
    place = tmp_path / name
    if name == ".":
        place = tmp_path / "folder" / "3" / "empty"
        place.mkdir()
    with pytest.raises(ModelLoadError, match=message):
        xaimaps.load(scaled, PARAMS, weights=place, input_shape=(4, 4, 3))


def test_equinox_weights_of_another_model_or_without_state(tmp_path):
    file = eqx_file(eqx.nn.Linear(2, 3, key=jax.random.key(0)), tmp_path)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        xaimaps.load(resnets.eqx_model(OTHERS), weights=file, input_shape=resnets.SHAPE)
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch")
    with pytest.raises(ModelLoadError, match=r"a \.eqx file of both"):
        xaimaps.load(norm, state, weights=tmp_path / "w.npz")
