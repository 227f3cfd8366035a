"""`attribute` and `explain` from end to end on the reference backend."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._cli.parsing import parse_layer
from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    InputImageError,
    LayerError,
    MethodError,
    OutOfMemoryError,
    TargetError,
)
from xaimaps.methods import METHODS
from xaimaps.targets import several
from xaimaps.testing import REFERENCE_METHODS, ReferenceBackend, pooled_network

PICTURE = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)


class Counting(ReferenceBackend):
    """Counts what is compiled and what is run, with the shapes."""

    def __init__(self):
        super().__init__(pooled_network())
        self.compilations = []
        self.runs = []

    def compile(self, fn, *arrays):
        self.compilations.append([array.shape for array in arrays])
        compiled = super().compile(fn, *arrays)

        def run(*arrays):
            self.runs.append([array.shape for array in arrays])
            return compiled(*arrays)

        return run


# Arrays


@pytest.mark.parametrize("name", REFERENCE_METHODS)
def test_attribute_is_the_method_and_what_it_took(pooled, images, name):
    result = xaimaps.attribute(pooled, images, name, target=2)
    expected = METHODS[name].fn(pooled, images, 2)
    np.testing.assert_allclose(result.maps, expected.maps, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.scores, expected.outputs, rtol=1e-5, atol=1e-6)
    if METHODS[name].uses_target:
        np.testing.assert_array_equal(result.classes, [2] * 7)
    assert (result.method, result.backend) == (name, "reference")
    defaults = METHODS[name].options
    assert result.options.keys() == defaults.keys()
    chosen = {key: value for key, value in defaults.items() if value is not None}
    assert {key: result.options[key] for key in chosen} == chosen
    assert result.model is pooled.info
    assert not result.is_several
    assert len(result) == 7


def test_layers_are_recorded_by_their_own_name(pooled, images):
    layers = {name: xaimaps.attribute(pooled, images, name).layer for name in ("cam", "saliency")}
    assert layers == {"cam": "relu2", "saliency": None}
    assert xaimaps.attribute(pooled, images).layer == "relu2"
    assert xaimaps.attribute(pooled, images, layer="conv1").layer == "conv1"
    assert xaimaps.attribute(pooled, images, layer="conv1").maps.shape == (7, 7, 7)


def test_options_reach_the_method_and_are_recorded(pooled, images):
    result = xaimaps.attribute(pooled, images, "saliency", absolute=False)
    assert result.options == {"absolute": False, "reduce": "max"}
    assert (result.maps < 0).any()


@pytest.mark.fault("A15")
@pytest.mark.parametrize("batch_size", [1, 2, 3, 6, 7, 100])
@pytest.mark.parametrize("target", [None, [0, 1, 2, 3, 4, 0, 1], "top-2", several(3, None)])
def test_chunks_give_what_the_whole_batch_gives(pooled, images, batch_size, target):
    whole = xaimaps.attribute(pooled, images, target=target)
    parts = xaimaps.attribute(pooled, images, target=target, batch_size=batch_size)
    np.testing.assert_allclose(parts.maps, whole.maps, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parts.classes, whole.classes)


def test_a_last_partial_batch_is_padded_and_not_compiled_again(images):
    backend = Counting()
    xaimaps.attribute(backend, images, target=[0, 1, 2, 3, 4, 0, 1], batch_size=3)
    assert backend.compilations == [[(3, 9, 9, 3), (3,)]]
    assert backend.runs == [[(3, 9, 9, 3), (3,)]] * 3
    xaimaps.attribute(backend, images, target=1, batch_size=3)
    assert len(backend.compilations) == 1


@pytest.mark.fault("A15")
def test_too_little_memory_for_a_batch_halves_it_with_a_note(pooled, images, with_memory_for):
    found = xaimaps.attribute(with_memory_for(2), images, target=1)
    whole = xaimaps.attribute(pooled, images, target=1)
    np.testing.assert_allclose(found.maps, whole.maps, rtol=1e-5, atol=1e-6)
    assert found.notes(3) == [
        "the memory did not suffice for 7 images at a time; 3 ran at a time",
        "the memory did not suffice for 3 images at a time; 1 ran at a time",
    ]
    with pytest.raises(OutOfMemoryError, match="too little memory"):
        xaimaps.attribute(with_memory_for(0), images, target=1)


class FewAtATime(ReferenceBackend):
    """Has memory for passes of at most `most` images, in batches of any size."""

    most = 3

    def forward(self, images):
        self._require(images)
        return super().forward(images)

    def grad(self, images, target, **wrt):
        self._require(images)
        return super().grad(images, target, **wrt)

    def _require(self, images):
        if len(images) > self.most:
            raise OutOfMemoryError("the GPU has too little memory")


@pytest.mark.parametrize(
    ("method", "options"),
    [("integrated_gradients", {}), ("rise", {"n_masks": 20}), ("occlusion", {"memory": 1.0})],
)
def test_too_little_memory_for_many_passes_halves_it_with_a_note(images, method, options):
    backend = FewAtATime(pooled_network())
    found = xaimaps.attribute(backend, images, method, target=1, **options)
    enough = ReferenceBackend(pooled_network())
    whole = xaimaps.attribute(enough, images, method, target=1, **options)
    np.testing.assert_allclose(found.maps, whole.maps, rtol=1e-5, atol=1e-6)
    used = found.options["memory"]
    assert 600 * 2**-20 < used < (options.get("memory") or 600) / 2
    assert found.notes(3)[0].endswith(f"`memory` was {used:g} MB")
    assert not any("memory" in note for note in whole.notes(3))
    backend.most = 0
    with pytest.raises(OutOfMemoryError, match="too little memory"):
        xaimaps.attribute(backend, images, method, target=1, **options)


def test_only_the_methods_that_do_not_fit_run_with_less(images):
    backend = FewAtATime(pooled_network())
    backend.most = 7
    light, heavy = xaimaps.attribute(
        backend, images, ["saliency", "integrated_gradients"], target=1, batch_size=7
    )
    assert light.notes(0) == []
    assert len(heavy.notes(0)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"method": "cam"},
        {"layer": "conv1"},
        {"relu": False},
        {"target": "top-2"},
        {"target": several(1)},
        {"batch_size": 2},
    ],
)
def test_what_changes_the_program_compiles_another(images, change):
    backend = Counting()
    xaimaps.attribute(backend, images, target=1)
    xaimaps.attribute(backend, images, **{"target": 1, **change})
    assert len(backend.compilations) == 2


def test_the_cache_of_programs_is_bounded(images):
    backend = Counting()
    for batch_size in range(1, 8):
        for k in range(1, 6):
            for method in ("saliency", "cam"):
                xaimaps.attribute(backend, images, method, target=f"top-{k}", batch_size=batch_size)
    assert len(backend.compilations) == 70
    assert len(backend._compiled) == xaimaps.backend.CACHE_SIZE


@pytest.mark.fault("A11")
@pytest.mark.parametrize("name", REFERENCE_METHODS)
@pytest.mark.parametrize("target", [None, 2, [], "top-2", several(1, 2)])
def test_an_empty_batch_gives_an_empty_result(pooled, images, name, target):
    result = xaimaps.attribute(pooled, images[:0], name, target=target)
    like = xaimaps.attribute(pooled, images[:1], name, target=target or None)
    assert result.maps.shape == (0, *like.maps.shape[1:])
    assert result.maps.dtype == like.maps.dtype
    assert result.scores.shape == (0, 5)
    assert (result.classes is None) == (not METHODS[name].uses_target)
    if result.classes is not None:
        assert result.classes.shape == (0, *like.classes.shape[1:])


def test_maps_of_several_targets_have_the_batch_first(pooled, images):
    result = xaimaps.attribute(pooled, images, target=several(4, "goldfish", None))
    assert result.is_several
    assert result.maps.shape == (7, 3, 5, 5)
    np.testing.assert_array_equal(result.classes[:, :2], [[4, 1]] * 7)
    np.testing.assert_array_equal(result.classes[:, 2], result.scores.argmax(axis=1))
    single = xaimaps.attribute(pooled, images, target=1)
    np.testing.assert_allclose(result.maps[:, 1], single.maps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("given", ["big-endian", "channels reversed in memory", "float64"])
def test_layouts_and_types_give_the_same_bits(pooled, images, given):
    other = {
        "big-endian": images.astype(">f4"),
        "channels reversed in memory": images[..., ::-1].copy()[..., ::-1],
        "float64": images.astype(np.float64),
    }[given]
    plain = xaimaps.attribute(pooled, images)
    np.testing.assert_array_equal(xaimaps.attribute(pooled, other).maps, plain.maps)


WRONG_CALLS = [
    ({"method": "gradcma"}, MethodError, "nearest: 'grad_cam'"),
    ({"method": "saliency", "relu": False}, MethodError, "'saliency' has no option 'relu'; its"),
    ({"relu": [True]}, MethodError, r"`relu` must be True or False, got \[True\]"),
    ({"fuse": ["sum"]}, MethodError, r"`fuse` must be a hashable value, .* got list \['sum'\]"),
    ({"layer": -5}, LayerError, "a number from -4 to 3, got -5"),
    ({"layer": ["relu1", 4]}, LayerError, "a number from -4 to 3, got 4"),
    ({"layer": "relu3"}, LayerError, "nearest: 'relu[12]'"),
    ({"layer": "pool"}, LayerError, "such as 'relu2'"),
    ({"method": "cam", "layer": "conv1"}, LayerError, "pooled layer 'relu2' for CAM, got 'conv1'"),
    ({"method": "cam", "layer": "conv3"}, LayerError, "nearest: 'conv[12]'"),
    ({"method": "saliency", "layer": "relu2"}, LayerError, "None for 'saliency', .* 'relu2'"),
    ({"target": 5}, TargetError, "from 0 to 4, got 5$"),
    ({"target": -1}, TargetError, "from 0 to 4, got -1$"),
    ({"target": "goldfisch"}, TargetError, "nearest: 'goldfish'"),
    ({"target": "shark"}, TargetError, "nearest: 'tiger shark', 'great white shark'"),
    ({"layer": True}, LayerError, "a name or a whole number, or several, got True"),
    ({"layer": 1.5}, LayerError, "got 1.5"),
    ({"layer": ["relu1", None]}, LayerError, r"got \['relu1', None\]"),
    ({"target": [0, 1]}, TargetError, "each of the 7 images"),
    ({"target": "top-6"}, TargetError, "got top-6"),
    ({"method": "cam", "target": np.sum}, TargetError, "must be a class for CAM"),
    ({"batch_size": 0}, ArrayInputError, "integer of at least 1, got 0"),
    ({"images": np.zeros((1, 3, 9, 9))}, ArrayInputError, "moveaxis"),
    ({"images": np.full((2, 9, 9, 3), np.nan)}, ArrayInputError, "image 0 has NaN"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG_CALLS)
def test_wrong_calls(pooled, images, call, error, message):
    with pytest.raises(error, match=message) as caught:
        xaimaps.attribute(pooled, **{"images": images, **call})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [5, 5000, np.array([0, 0, 0, 9, 0, 0, 0])])
def test_a_class_out_of_range_without_labels(pooled, images, target):
    pooled.info.labels = None
    with pytest.raises(TargetError, match="from 0 to 4, got"):
        xaimaps.attribute(pooled, images, target=target)


@pytest.mark.parametrize("bad", [-1, 5])
def test_a_native_array_out_of_range(pooled, images, bad):
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(TargetError, match=f"from 0 to 4, got {bad}$"):
        xaimaps.attribute(pooled, images, target=jnp.array([0, bad, 0, 0, 0, 0, 0]))


def test_capabilities_are_checked_before_work(pooled, images, monkeypatch):
    monkeypatch.setattr(ReferenceBackend, "capabilities", frozenset({"forward"}))
    with pytest.raises(BackendError, match=r"needs .* activations, grad, but 'reference' c"):
        xaimaps.attribute(pooled, images)


# Pictures


def test_explain_is_attribute_of_what_the_preset_makes(pooled):
    result = xaimaps.explain(pooled, PICTURE, target=1)
    prepared = PRESETS["unit"](PICTURE, (9, 9))
    np.testing.assert_array_equal(result.maps, xaimaps.attribute(pooled, prepared, target=1).maps)
    np.testing.assert_array_equal(result.pictures[0].pixels, PICTURE)
    np.testing.assert_array_equal(result.views[0], PICTURE[:, 5:25])


def test_explain_takes_paths_images_arrays_and_lists(pooled, tmp_path):
    image = Image.fromarray(PICTURE)
    path = tmp_path / "a.png"
    image.save(path)
    singles = [xaimaps.explain(pooled, one).maps for one in (path, str(path), image, PICTURE)]
    np.testing.assert_array_equal(np.concatenate(singles), np.repeat(singles[0], 4, axis=0))
    listed = xaimaps.explain(pooled, [path, image, PICTURE, str(path)])
    np.testing.assert_allclose(listed.maps, np.concatenate(singles), rtol=1e-5, atol=1e-6)
    assert [picture.source for picture in listed.pictures][::3] == [str(path)] * 2


def test_explain_takes_batches_folders_and_patterns(pooled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batch = np.random.default_rng(3).integers(0, 256, (3, 9, 9, 3), np.uint8)
    for index, one in enumerate(batch):
        Image.fromarray(one).save(f"{index}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    expected = xaimaps.explain(pooled, list(batch)).maps
    for pictures in (batch, tmp_path, "*.png", [tmp_path / "0.png", "[12].png"]):
        np.testing.assert_array_equal(xaimaps.explain(pooled, pictures).maps, expected)
    Image.fromarray(batch[2]).save("[12].png")
    named = xaimaps.explain(pooled, "[12].png")
    np.testing.assert_array_equal(named.maps, expected[2:])
    with pytest.raises(InputImageError, match=r"no pictures match '\*\.jpg'"):
        xaimaps.explain(pooled, "*.jpg")


def test_explain_passes_everything_on(pooled):
    result = xaimaps.explain(
        pooled, PICTURE, "grad_cam", target=3, layer="conv1", batch_size=1, relu=False
    )
    assert (result.layer, result.options["relu"], result.classes.tolist()) == ("conv1", False, [3])


@pytest.mark.fault("R07")
def test_an_input_of_any_size_must_be_chosen(monkeypatch, pooled):
    monkeypatch.setattr(ReferenceBackend, "input_shape", (None, None, 3))
    with pytest.raises(ArrayInputError, match=r"input_size=\(height, width\)"):
        xaimaps.explain(pooled, PICTURE)
    assert xaimaps.explain(pooled, PICTURE, input_size=(12, 9)).maps.shape == (1, 8, 5)
    with pytest.raises(ArrayInputError, match=r"less than 2,147,483,648 elements, got 30,000,000"):
        xaimaps.explain(pooled, PICTURE, input_size=(100_000, 100_000))


def test_wrong_pictures(pooled, tmp_path):
    with pytest.raises(ArrayInputError, match=r"`input_size` must be \(9, 9\) for this model"):
        xaimaps.explain(pooled, PICTURE, input_size=(12, 9))
    with pytest.raises(ArrayInputError, match="at least one picture"):
        xaimaps.explain(pooled, [])
    with pytest.raises(InputImageError, match=r"missing\.png"):
        xaimaps.explain(pooled, tmp_path / "missing.png")
    with pytest.raises(InputImageError, match=r"at most 0\.000599 megapixels"):
        xaimaps.explain(pooled, Image.fromarray(PICTURE), max_pixels=599)


def test_unknown_preprocessing(pooled):
    pooled.info.preprocess = None
    with pytest.raises(ArrayInputError, match="one of unit, tf, torch, imagenet, caffe, raw"):
        xaimaps.explain(pooled, PICTURE)


def test_pictures_become_grey_for_a_model_of_one_channel(captum):
    captum.info.preprocess = xaimaps.PRESETS["raw"]
    grey = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, axis=2)
    found = xaimaps.explain(captum, grey, "grad_cam", target=0, layer="conv")
    np.testing.assert_allclose(found.maps[0], [[11.25, 13.5], [20.25, 22.5]])
    coloured = np.zeros((4, 4, 3), np.uint8)
    coloured[...] = 10, 20, 30  # 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
    flat = xaimaps.explain(captum, coloured, "grad_cam", target=0, layer="conv")
    level = xaimaps.attribute(captum, np.full((1, 4, 4, 1), 18.0, np.float32), target=0)
    np.testing.assert_allclose(flat.scores, level.scores)


def test_a_preset_that_scales_channels_apart_is_refused_for_one_channel(captum):
    captum.info.preprocess = xaimaps.PRESETS["torch"]
    with pytest.raises(ArrayInputError, match=r"'torch' is for 3 channels .* got 1"):
        xaimaps.explain(captum, np.zeros((4, 4, 3), np.uint8), "saliency", target=0)


def test_fit_changes_the_preprocessing():
    whole = xaimaps.load("default", fit="stretch")
    assert whole.info.preprocess == dataclasses.replace(
        xaimaps.load("default").info.preprocess, fit="stretch"
    )
    with pytest.raises(ArrayInputError, match="`fit` must be one of crop, stretch, pad, got 'cut'"):
        xaimaps.load("default", fit="cut")


def test_layers_by_number(pooled, images):
    names = {
        number: xaimaps.attribute(pooled, images, "grad_cam", target=2, layer=number).layer
        for number in (-1, -2, 0)
    }
    assert names == {-1: "relu2", -2: "conv2", 0: "conv1"}
    fused = xaimaps.attribute(pooled, images, "grad_cam", target=2, layer=[-1, "relu1"])
    assert fused.layers == ("relu2", "relu1")
    assert parse_layer(("-1",)) == -1
    assert parse_layer(("-2", "relu1", "12")) == (-2, "relu1", "12")  # ONNX files have such names
