"""Models with one output: a number to explain by default, and binary classifiers."""

import array_api_strict
import numpy as np
import onnxruntime
import pytest

import xaimaps
from xaimaps.errors import ModelLoadError, TargetError
from xaimaps.methods import METHODS
from xaimaps.parity import compare
from xaimaps.targets import as_target
from xaimaps.testing import REFERENCE_METHODS, Network, ReferenceBackend, pooled_network

IMAGES = np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)
PAIR = ("cat", "dog")
LOGITS = np.float32([[2], [-1], [0.5]])
FEW = {"n_masks": 4, "n_samples": 2, "n_steps": 2, "n_permutations": 2, "n_designs": 2}
FEW |= {"segments": (1, 2), "depth": 1, "n_scales": 2}


class Squeeze:
    """(N, 1) to (N,)."""

    def __call__(self, x):
        return x[:, 0]

    def pull(self, x, g):
        return g.reshape(-1, 1)


def single(labels=None, *, squeezed=False, ending=None):
    network = pooled_network(classes=1)
    layers = {**network.layers, "squeeze": Squeeze()} if squeezed else network.layers
    model = ReferenceBackend(Network(layers, network.input_shape))
    model.info.labels, model.info.ending = labels, ending
    model.info.preprocess = xaimaps.PRESETS["unit"]
    return model


@pytest.mark.parametrize("xp", [np, array_api_strict, pytest.importorskip("jax.numpy")])
@pytest.mark.parametrize("outputs", [LOGITS, LOGITS[:, 0]])
@pytest.mark.parametrize(
    ("value", "labels", "expected"),
    [
        (None, None, [2, -1, 0.5]),
        (0, None, [2, -1, 0.5]),
        (None, PAIR, [2, 1, 0.5]),
        ("dog", PAIR, [2, -1, 0.5]),
        (1, PAIR, [2, -1, 0.5]),
        ("cat", PAIR, [-2, 1, -0.5]),
        (["cat", "dog", 0], PAIR, [-2, -1, -0.5]),
        ("dog vs cat", PAIR, [4, -2, 1]),
        ("top-2", PAIR, [[2, 1, 0.5], [-2, -1, -0.5]]),
        ("cat; dog", PAIR, [[-2, 1, -0.5], [2, -1, 0.5]]),
    ],
)
def test_scores_worked_out_by_hand(xp, outputs, value, labels, expected):
    target = as_target(value, 3, labels)
    target = target.with_arrays(tuple(xp.asarray(array) for array in target.arrays))
    for goal in (target, target.frozen(xp, xp.asarray(outputs))):
        np.testing.assert_array_equal(np.asarray(goal.scores(xp, xp.asarray(outputs))), expected)


@pytest.mark.parametrize("name", REFERENCE_METHODS)
def test_the_second_class_is_the_output_itself(name):
    options = {k: v for k, v in FEW.items() if k in METHODS[name].options}
    own = xaimaps.attribute(single(), IMAGES, name, **options)
    named = xaimaps.attribute(single(PAIR), IMAGES, name, target="dog", **options)
    scale = 1.6 if name == "finer_cam" else 1  # its reference is the other class, minus the output
    np.testing.assert_allclose(named.maps, scale * own.maps, rtol=1e-5, atol=1e-5)


def test_the_first_class_is_minus_the_output():
    saliency, settings = "saliency", {"absolute": False, "reduce": "sum"}
    dog = xaimaps.attribute(single(PAIR), IMAGES, saliency, target="dog", **settings).maps
    cat = xaimaps.attribute(single(PAIR), IMAGES, saliency, target="cat", **settings).maps
    np.testing.assert_allclose(cat, -dog, atol=1e-6)
    assert abs(dog).max() > 0.01
    dog, cat = (xaimaps.attribute(single(PAIR), IMAGES, "cam", target=t).maps for t in (1, 0))
    np.testing.assert_allclose(cat, -dog, atol=1e-6)


def test_the_probabilities_are_p_and_one_minus_p():
    found = xaimaps.attribute(single(PAIR, ending="sigmoid"), IMAGES, "cam")
    p = 1 / (1 + np.exp(-found.scores[:, 0].astype(float)))
    for i in range(3):
        told = {one.label: one.probability for one in found.top(index=i)}
        assert told == pytest.approx({"cat": 1 - p[i], "dog": p[i]})
        assert found.top(1, index=i)[0].label == PAIR[int(p[i] > 0.5)] == found.target_name(i)


def test_squeezed_outputs_are_explained_alike():
    for labels in (None, PAIR):
        flat = xaimaps.attribute(single(labels, squeezed=True), IMAGES, "saliency")
        whole = xaimaps.attribute(single(labels), IMAGES, "saliency")
        np.testing.assert_allclose(flat.maps, whole.maps, atol=1e-5)
        assert flat.scores.shape == (3,)
        assert flat.top(index=-1) == whole.top(index=-1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TargetError, match="class from 0 to 0, got 1"):
        xaimaps.attribute(single(), IMAGES, "cam", target=1)
    with pytest.raises(TargetError, match="from 0 to 1"):
        xaimaps.attribute(single(PAIR), IMAGES, "cam", target=2)
    with pytest.raises(ModelLoadError, match="model's 1 classes, got 3"):
        xaimaps.attribute(single((*PAIR, "cow")), IMAGES, "cam")


@pytest.mark.parametrize("squeezed", [False, True])
def test_parity_explains_the_number(squeezed):
    models = {"one": single(PAIR, squeezed=squeezed), "two": single(PAIR, squeezed=squeezed)}
    report = compare(models, IMAGES, "saliency")
    assert report.agrees
    assert {row.status for row in report.rows} == {"agrees"}


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_a_file_that_ends_in_a_sigmoid(backend):
    pytest.importorskip(f"xaimaps_{backend.removesuffix('runtime')}")
    from xaimaps_onnx.testing import as_onnx

    file = as_onnx(pooled_network(classes=1), end="Sigmoid")
    session = onnxruntime.InferenceSession(file.SerializeToString())
    (p,) = session.run(None, {"images": IMAGES.transpose(0, 3, 1, 2)})
    model = xaimaps.load(file, backend=backend, labels=PAIR)
    found = xaimaps.attribute(model, IMAGES, "cam", target="cat")
    for i in range(3):
        told = {one.label: one.probability for one in found.top(index=i)}
        assert told == pytest.approx({"cat": 1 - p[i, 0], "dog": p[i, 0]}, abs=1e-6)
    np.testing.assert_allclose(found.target_scores, np.log(1 / p[:, 0] - 1), rtol=1e-4)
