"""The embedded network as a Flax module: values of PyTorch, and names of the file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xaimaps
from xaimaps.methods import cam, grad_cam, saliency
from xaimaps.parity import compare, routes
from xaimaps.targets import as_target

pytest.importorskip("flax")


@pytest.fixture(scope="module")
def model():
    from xaimaps_jax.zoo import flax_model

    options = {"labels": "imagenet-1k", "preprocess": "tf", "input_shape": (224, 224, 3)}
    return xaimaps.load(*flax_model(), **options)


def test_layers_have_the_names_of_the_file(model, embedded):
    modules = {layer.name: layer.shape for layer in model.layers()}
    in_file = {layer.name: layer.shape for layer in embedded.layers()}
    results = {name for name in modules if name.startswith("blocks.") and "/" not in name}
    others = {"stem", "head", "classifier"}
    assert len(results) == 16
    shared = {name: shape for name, shape in modules.items() if name not in results | others}
    assert shared == {name: in_file[name] for name in shared}
    assert model.default_layer().name == "head"  # whose last module is head/relu6
    assert embedded.default_layer().name == "head/relu6"


def test_values_are_those_of_pytorch(model, photographs, references):
    """The same tolerances as for the file itself."""
    targets = as_target(references["targets"], len(photographs))

    def run(backend, images):
        return {
            "gradient": saliency(backend, images, targets, absolute=False, reduce=None).maps,
            "cam": cam(backend, images, targets).maps,
            "grad_cam": grad_cam(backend, images, targets).maps,
            "logits": backend.forward(images),
        }

    images = jnp.asarray(photographs)
    found = jax.tree.map(np.asarray, model.compile(run, images)(images))
    for name in ("cam", "grad_cam", "logits"):
        for ours, theirs in zip(found[name], references[f"{name}_float32"], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    ours = found["gradient"][:, ::3, ::3].reshape(3, -1)
    theirs = references["input_gradient_sampled_float32"].reshape(3, -1)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() >= 0.9999


EVERY_KIND = ["saliency", "guided_backprop", "fullgrad", "cam", "grad_cam", "eigen_cam"]
EVERY_KIND += ["recipro_cam", "rise"]


@pytest.mark.models
def test_methods_of_every_kind_have_one_map_on_four_routes(model):
    pytest.importorskip("tensorflow")
    models = {**routes("default"), "flax": model}
    assert list(models) == ["tensorflow", "onnxruntime", "jax", "flax"]
    found = compare(models, xaimaps.zoo.PICTURES["chelsea"], EVERY_KIND, n_masks=32)
    assert found.agrees, [found.verdict(name) for name in found.backends]
    assert [row.name for row in found.of("flax") if row.status == "skipped"] == []
