"""Parity on networks whose faults are known: it must be able to say no, and where."""

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from xml.etree import ElementTree as XML

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps import parity
from xaimaps.errors import ArrayInputError, LayerError, MethodError, TargetError
from xaimaps.parity import Row, Tolerance, compare
from xaimaps.parity._formats import junit, markdown
from xaimaps.parity._html import page
from xaimaps.parity._measures import measure, top_agreement
from xaimaps.testing import REFERENCE_METHODS, Conv, Network, ReferenceBackend, pooled_network


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(3, 9, 9, 3)).astype(np.float32)


def backend(network=None, preprocess="unit"):
    made = ReferenceBackend(network or pooled_network(channels=8))
    made.info.preprocess = xaimaps.PRESETS[preprocess]
    return made


def changed(name, change):
    """The network with another layer in place of one."""
    network = pooled_network(channels=8)
    layers = {n: change(layer) if n == name else layer for n, layer in network.layers.items()}
    return Network(layers, network.input_shape)


class Padded(Conv):
    """The same convolution, its input moved by one pixel: padding at the wrong end."""

    def __call__(self, x):
        return super().__call__(np.pad(x, [(0, 0), (1, 0), (1, 0), (0, 0)])[:, :-1, :-1])


def bump(layer):
    """One weight of many, a little larger."""
    kernel = layer.kernel.copy()
    kernel[1, 2, 0, 3] += 0.01
    return replace(layer, kernel=kernel)


def at(report, name):
    """Return the kind and name of the first value that differs."""
    first = report.first_divergence(name)
    return first.kind, first.name


# Yes


def test_a_network_agrees_with_itself_in_everything(images):
    report = compare({"one": backend(), "two": backend()}, images, "all")
    assert report.agrees
    assert report.first_divergence("two") is None
    assert [row.name for row in report.of("two", "map")] == list(REFERENCE_METHODS)
    assert {row.status for row in report.rows} == {"agrees"}
    assert all(row.measures.relative == 0 for row in report.rows)
    assert [row.top for row in report.of("two", "logits")] == [1.0]
    kinds = [row.kind for row in report.rows]
    assert kinds == sorted(kinds, key=["input", "layer", "logits", "gradient", "map"].index)
    assert "two agrees with one in all" in report.verdict("two")


# No, and where


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        ("conv1", bump),
        ("conv2", bump),
        ("conv2", lambda layer: Padded(layer.kernel, layer.bias)),
        ("fc", lambda layer: replace(layer, bias=layer.bias + np.float32(0.01))),
    ],
    ids=["a weight", "a later weight", "a padding", "a bias of the last layer"],
)
def test_the_first_layer_that_differs_is_named(images, layer, change):
    models = {"good": backend(), "same": backend(), "bad": backend(changed(layer, change))}
    report = compare(models, images)
    assert not report.agrees
    assert report.first_divergence("same") is None
    assert at(report, "bad") == ("layer", layer)
    assert f"bad diverges from good at the layer '{layer}'" in report.verdict("bad")


def test_another_preprocessing_is_named_before_any_layer():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8))
    report = compare({"good": backend(), "bad": backend(preprocess="caffe")}, picture)
    assert at(report, "bad") == ("input", "<input>")
    assert compare({"good": backend(), "same": backend()}, [picture, picture]).agrees


def test_another_gradient_alone_is_found(images):
    class Flipped(ReferenceBackend):
        def grad(self, images, target, **options):
            found = super().grad(images, target, **options)
            return found._replace(gradients=found.gradients[:, ::-1])

    report = compare({"good": backend(), "bad": Flipped(pooled_network(channels=8))}, images)
    assert report.first_divergence("bad").kind == "gradient"


def test_a_gradient_of_another_scale_is_found(images):
    class Tripled(ReferenceBackend):
        def grad(self, images, target, **options):
            found = super().grad(images, target, **options)
            return found._replace(gradients=3 * found.gradients)

    report = compare({"good": backend(), "bad": Tripled(pooled_network(channels=8))}, images)
    assert at(report, "bad") == ("gradient", "<input>")
    assert "length off by 2" in report.verdict("bad")


def test_a_method_whose_path_rounding_decides_is_held_to_itself(images):
    negated = changed("conv2", lambda layer: replace(layer, kernel=-layer.kernel))
    models = {"good": backend(), "same": backend(), "bad": backend(negated)}
    report = compare(models, images, "guided_ig", target=0)
    rows = {name: report.of(name, "map")[0] for name in ("same", "bad")}
    assert [row.status for row in rows.values()] == ["agrees", "differs"]
    assert rows["same"].tolerance == Tolerance("cosine", 0.8)
    assert (
        "in good have cosine 1.000 with the unchanged ones, so the tolerance is cosine >= 0.8"
        in report.notes[-1]
    )
    asked = compare(models, images, "guided_ig", tolerances={"guided_ig": Tolerance("cosine", 1)})
    assert asked.of("same", "map")[0].tolerance == Tolerance("cosine", 1)
    assert not any("guided_ig" in note for note in asked.notes)


def test_a_rough_network_promises_less_for_such_a_method(images):
    class Rough(ReferenceBackend):
        """Its gradients are turned over where the last bit of the image says so."""

        def grad(self, images, target, **options):
            found = super().grad(images, target, **options)
            if options.get("wrt", "<input>") != "<input>":
                return found
            last = np.asarray(images, np.float32).view(np.uint32) & 1
            return found._replace(gradients=found.gradients * np.where(last, -1, 1))

    models = {name: Rough(pooled_network(channels=8)) for name in ("one", "two")}
    bound = compare(models, images, "guided_ig").of("two", "map")[0].tolerance.bound
    assert bound < 0.5


def test_values_that_are_not_finite_differ(images):
    class Broken(ReferenceBackend):
        def forward_with_activations(self, images, layers):
            outputs, kept = super().forward_with_activations(images, layers)
            return outputs, {n: v * (np.nan if n == "relu1" else 1) for n, v in kept.items()}

    report = compare({"good": backend(), "bad": Broken(pooled_network(channels=8))}, images)
    assert report.first_divergence("bad").name == "relu1"


def test_other_shapes_differ_and_what_a_backend_cannot_do_is_told(images):
    class Mute(ReferenceBackend):
        capabilities = frozenset()

        def forward_with_activations(self, images, layers):
            outputs, kept = super().forward_with_activations(images, layers)
            return outputs[:, :2], kept

    report = compare({"good": backend(), "mute": Mute(pooled_network(channels=8))}, images)
    assert not report.agrees
    assert report.first_divergence("mute").kind == "logits"
    assert report.verdict("mute").endswith("'output': its shape is (1, 2), not (1, 5)")
    assert {row.status for row in report.of("mute", "map")} == {"skipped"}
    assert "needs a backend that can do" in report.of("mute", "map")[0].note


# Settings


def test_tolerances_may_be_others(images):
    models = {
        "good": backend(),
        "bad": backend(changed("fc", lambda d: replace(d, bias=d.bias + 1e-3))),
    }
    assert not compare(models, images).agrees
    loose = {name: parity.promised(name).at(1) for name in ("layer", "logits")}
    assert compare(models, images, tolerances=loose).agrees


@pytest.mark.parametrize("bound", [-1, float("nan"), float("inf"), True, "much"])
def test_a_tolerance_that_decides_nothing_is_refused(bound):
    with pytest.raises(MethodError, match="a tolerance must be a number from 0"):
        Tolerance("relative", bound)
    with pytest.raises(MethodError, match="from 0 to 1, got 2"):
        Tolerance("cosine", 2)


def test_all_explain_the_references_class_at_the_references_layer(images):
    models = {
        "good": backend(),
        "bad": backend(changed("fc", lambda d: replace(d, bias=-d.bias * 99))),
    }
    found = compare(models, images, "grad_cam", layer="relu1").attributions["grad_cam"]
    expected = found["good"].scores.argmax(1)
    assert not np.array_equal(found["bad"].scores.argmax(1), expected)
    for one in found.values():
        np.testing.assert_array_equal(one.classes, expected)
        assert one.layer == "relu1"


WRONG = [
    ({"models": {"one": backend()}}, ArrayInputError, r"at least two backends, got 1 \(one\)"),
    ({"images": np.zeros((0, 9, 9, 3))}, ArrayInputError, "at least one image, got none"),
    ({"methods": "gradcma"}, MethodError, "nearest: 'grad_cam'"),
    ({"methods": "cam", "n_steps": 3}, MethodError, "none of the compared methods has an option"),
    ({"tolerances": {"logit": Tolerance("spread", 1)}}, MethodError, "nearest: 'logits'"),
    ({"layer": "fc"}, LayerError, "spatial extent"),
    ({"target": 99}, TargetError, "a class from 0 to 4, got 99"),
    ({"methods": "score_cam", "channels": -3}, MethodError, "channels"),
]


@pytest.mark.parametrize(("settings", "error", "message"), WRONG, ids=lambda v: str(v)[:20])
def test_wrong_settings(images, settings, error, message):
    two = {"one": backend(), "two": backend()}
    with pytest.raises(error, match=message):
        compare(**{"models": two, "images": images, **settings})


# Measures, by hand


def test_measures_by_hand():
    found = measure(np.float32([[1, 2, 3.5]]), np.float32([[1, 2, 4]]))
    assert found.absolute == 0.5
    assert found.relative == 0.125
    assert found.spread == pytest.approx(0.5 / np.std([1, 2, 4]))
    assert found.cosine == pytest.approx(19 / np.sqrt(17.25 * 21))
    assert found.rank == pytest.approx(1)
    turned = measure(np.float32([[3, 2, 1]]), np.float32([[1, 2, 3]]))
    assert turned.rank == pytest.approx(-1)
    ties = measure(np.float32([[0, 0, 1, 2]]), np.float32([[0, 1, 1, 2]]))
    assert ties.rank == pytest.approx(5 / 6)  # ranks 1.5 1.5 3 4 and 1 2.5 2.5 4
    both = measure(np.float32([[1, 0], [1, 0]]), np.float32([[1, 0], [0, 1]]))
    assert (both.cosine, both.relative) == (0, 1)


def test_zeros_agree_with_zeros_only():
    zero, one = np.zeros((1, 4)), np.ones((1, 4))
    assert measure(zero, zero)[:5] == (0, 0, 0, 0, 1)
    assert measure(one, zero).relative == np.inf
    assert measure(one, zero).cosine == 0


def test_equal_values_have_their_magnitude_as_spread():
    assert measure(np.float32([[2.5]]), np.float32([[2]])).spread == 0.25
    assert measure(np.float32([[3, 2]]), np.float32([[2, 2]])).spread == 0.5


def test_top_agreement():
    scores = np.float32([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])
    assert top_agreement(scores, scores) == 1
    assert top_agreement(scores[::-1], scores) == pytest.approx(0.8)
    assert top_agreement(scores[::-1], scores, 1) == 0


# Reports


def test_the_report_as_json_and_as_a_page(images):
    models = {"good": backend(), "<b>ad": backend(changed("conv2", bump))}
    report = compare(models, images[:2])
    told = json.loads(json.dumps(report.as_dict()))
    assert told["agrees"] is False
    assert told["first_divergence"]["<b>ad"]["name"] == "conv2"
    html = page(report)
    assert "&lt;b&gt;ad diverges from good at the layer &#x27;conv2&#x27;" in html
    assert "<b>ad" not in html
    assert html.count("data:image/png;base64,") == 3 * 2 * 3  # methods x images x (2 maps + 1)
    assert "http" not in html
    assert "<td>conv2</td>" in html.partition("<details>")[2]
    assert 'name="viewport"' in html
    assert [row.name for row in report.summary() if row.kind == "layer"] == ["relu2"]


def with_provenance(tmp_path):
    file = tmp_path / "a|b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)).save(file)
    models = {"good": backend(), "bad": backend(changed("conv2", bump))}
    models["good"].info.source, models["good"].info.sha256 = "/models/a|<b>.onnx", "ab" * 32
    return compare(models, file, "grad_cam", target=3), file


def test_the_report_says_what_was_compared(tmp_path):
    report, file = with_provenance(tmp_path)
    about = json.loads(json.dumps(report.as_dict()))["about"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert about["pictures"] == [{"source": str(file), "sha256": digest}]
    good, bad = about["models"]
    assert (good["name"], good["source"]) == ("good", "/models/a|<b>.onnx")
    assert (good["sha256"], bad["source"]) == ("ab" * 32, "")
    assert (about["targets"], about["layer"], about["methods"]) == (["3"], "relu2", ["grad_cam"])
    age = datetime.now(UTC) - datetime.fromisoformat(about["date"])
    assert 0 <= age.total_seconds() < 600
    html = page(report)
    assert all(escape(text) in html for text in ("/models/a|<b>.onnx", "ab" * 32, str(file)))


def test_the_report_for_continuous_integration(tmp_path):
    report, _ = with_provenance(tmp_path)
    odd = Row("bad", "layer", "na\x00me", note="a < b\x1b")
    report = replace(report, rows=(*report.rows, odd))
    (suite,) = XML.fromstring(junit(report))
    cases = {case.get("name"): [part.tag for part in case] for case in suite}
    assert (cases["conv1"], cases["conv2"], cases["na?me"]) == ([], ["failure"], ["skipped"])
    differing = [row.name for row in report.rows if row.status == "differs"]
    assert (suite.get("failures"), suite.get("skipped")) == (str(len(differing)), "1")
    text = markdown(report)
    assert "- **differs**: bad diverges from good at the layer 'conv2'" in text
    assert f"| good | /models/a\\|&lt;b>.onnx | {'ab' * 6} |" in text
    rows = [line for line in text.splitlines() if line.startswith("| bad | ")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [4, *[7] * (len(rows) - 1)]


def test_what_the_reference_cannot_compute_is_compared_among_the_others(images):
    class Mute(ReferenceBackend):
        capabilities = frozenset({"forward", "activations"})

    models = {
        "mute": Mute(pooled_network(channels=8)),
        "one": backend(),
        "two": backend(),
        "bad": backend(changed("conv2", bump)),
    }
    report = compare(models, images[:1])
    saliency = {row.backend: row for row in report.rows if row.name == "saliency"}
    assert saliency["one"].note == "mute cannot compute it; the others are compared with this"
    assert (saliency["two"].status, saliency["two"].reference) == ("agrees", "one")
    assert saliency["bad"].measures.relative > 0
    assert page(report).count("<h3>saliency</h3>") == 1
    alone = compare({name: models[name] for name in ("mute", "one")}, images[:1], "saliency")
    assert alone.of("one", "map")[0].note == "mute cannot compute it; no other can"
    assert alone.agrees


def test_full_colour_is_the_difference_that_the_tolerance_allows():
    assert Tolerance("relative", 1e-4).as_relative() == 1e-4
    a, b = np.array([1.0, 0]), np.array([np.cos(0.01), np.sin(0.01)])
    allowed = Tolerance("cosine", float(a @ b)).as_relative()
    assert allowed == pytest.approx(np.linalg.norm(a - b), rel=1e-6)
