"""TensorFlow, JAX and ONNX Runtime on the same Keras models: every method, within its tolerance."""

import pytest

import xaimaps
from xaimaps.methods import METHODS
from xaimaps.parity import compare, routes

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from xaimaps_tensorflow.testing.models import LARGE, SMALL, images_for, preset_for

QUICK = {"n_steps": 8, "n_samples": 4, "channels": 12, "n_masks": 32, "n_permutations": 2}
QUICK |= {"segments": (1, 2), "n_designs": 4, "depth": 2, "base": "saliency"}
QUICK |= {"n_scales": 2}
"""Fewer draws and steps: what they are made of is the same."""

FEW = ["saliency", "guided_backprop", "cam", "grad_cam", "eigen_cam", "rise"]
"""Methods of every kind, where a network takes long to compile."""

EVERY_ABILITY = [*FEW, "smoothgrad", "is_cam", "fullgrad", "guided_grad_cam", "recipro_cam"]
EVERY_ABILITY += ["shapley_cam"]
"""Methods with every set of abilities that a method needs of a backend."""

METHODS_OF = dict.fromkeys(("joined", "subclassed"), EVERY_ABILITY)
METHODS_OF["shared"] = [*EVERY_ABILITY, "lrp", "deep_lift"]  # a rule for each call of a layer
"""The methods of networks that differ from the others only in their layers; all, of the others."""


def compared(models, pictures, methods):
    names = METHODS if methods == "all" else methods
    known = {option for name in names for option in METHODS[name].options}
    quick = {option: value for option, value in QUICK.items() if option in known}
    return compare(models, pictures, methods, **quick)


def check(found):
    assert found.agrees, [found.verdict(name) for name in found.backends]
    skipped = {row.name: row.note for row in found.of("jax") if row.status == "skipped"}
    assert skipped.keys() <= {"cam"}, skipped


@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(name, marks=pytest.mark.models) for name in LARGE)]
)
def test_every_method_agrees(name):
    build = {**SMALL, **LARGE}[name]
    models = routes(build())
    for model in models.values():
        model.info.preprocess = xaimaps.PRESETS[preset_for(name)]  # noise is drawn on pictures
    check(compared(models, images_for(name, 2), METHODS_OF.get(name, "all")))


def test_every_ability_is_compared():
    chosen = {METHODS[name].needs for name in EVERY_ABILITY}
    assert chosen == {row.needs for row in METHODS.values() if "attention" not in row.needs}


@pytest.mark.parametrize(
    "methods", [FEW, pytest.param("all", marks=pytest.mark.models)], ids=["few", "all"]
)
def test_the_embedded_network_agrees(methods):
    models = routes("default")
    assert list(models) == ["tensorflow", "onnxruntime", "jax"]
    check(compared(models, xaimaps.zoo.PICTURES["chelsea"], methods))
