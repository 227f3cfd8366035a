"""Configurations of Hugging Face and timm beside a model file."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import xaimaps
from xaimaps.errors import ArrayInputError

pytest.importorskip("xaimaps_onnx")

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.5],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 8, "width": 12},
}
TIMM = {
    "architecture": "resnet18",
    "label_names": ["a", "b", "c"],
    "pretrained_cfg": {
        "input_size": [3, 8, 8],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.5],
        "interpolation": "bilinear",
        "crop_pct": 0.8,
        "crop_mode": "center",
    },
}


def write(folder, metadata=None, size=("h", "w"), **configs):
    """Write a network whose scores are the means of the channels, and files beside it."""
    folder.mkdir(exist_ok=True)
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["relu"]),
            helper.make_node("Sub", ["x", "relu"], ["below"]),
            helper.make_node("Add", ["relu", "below"], ["same"]),
            helper.make_node("GlobalAveragePool", ["same"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, folder / "model.onnx")
    for name, config in configs.items():
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / f"{name}.json").write_text(text)
    return folder / "model.onnx"


def scores(path, **options):
    model = xaimaps.load(path, backend="onnxruntime", **options)
    return xaimaps.explain(model, PIXELS, "eigen_cam", layer="same").scores[0]


def expected(pixels, size, resample=Image.Resampling.BILINEAR, scale=1 / 255):
    """The means of the channels by the steps of the image processors, in Pillow and NumPy."""
    resized = Image.fromarray(pixels).resize(size[::-1], resample)
    values = np.asarray(resized) * scale
    return ((values - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]).mean(axis=(0, 1))


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        ({}, lambda: expected(PIXELS, (8, 12))),
        ({"size": 8}, lambda: expected(PIXELS, (8, 8))),
        ({"resample": 3}, lambda: expected(PIXELS, (8, 12), Image.Resampling.BICUBIC)),
        ({"rescale_factor": 1 / 127.5}, lambda: expected(PIXELS, (8, 12), scale=1 / 127.5)),
        ({"do_rescale": False}, lambda: expected(PIXELS, (8, 12), scale=1)),
        (
            {"size": {"shortest_edge": 10}, "do_center_crop": True, "crop_size": 8},
            lambda: expected(PIXELS[3:27, 8:32], (8, 8)),
        ),
        ({"size": {"shortest_edge": 8}, "crop_pct": 0.8},
         lambda: expected(PIXELS[3:27, 8:32], (8, 8))),
    ],
)  # fmt: skip
def test_the_image_processor_of_hugging_face(tmp_path, changes, reference):
    path = write(tmp_path / "net", preprocessor_config={**VIT, **changes})
    np.testing.assert_allclose(scores(path), reference(), rtol=1e-4, atol=1e-4)


def test_the_processor_of_a_detector_keeps_the_aspect_ratio(tmp_path):
    size = {"shortest_edge": 800, "longest_edge": 1333}
    path = write(tmp_path / "net", preprocessor_config={**VIT, "size": size})
    found = xaimaps.load(path).info
    assert (found.preprocess.fit, found.input_size) == ("pad", None)


def test_channels_in_the_other_order(tmp_path):
    plain = {**VIT, "do_normalize": False, "do_flip_channel_order": True}
    path = write(tmp_path / "net", preprocessor_config=plain)
    resized = Image.fromarray(PIXELS).resize((12, 8), Image.Resampling.BILINEAR)
    means = np.asarray(resized).mean(axis=(0, 1)) / 255
    np.testing.assert_allclose(scores(path), means[::-1], rtol=1e-5)


def test_the_configuration_of_timm(tmp_path):
    path = write(tmp_path / "net", config=TIMM)
    model = xaimaps.load(path)
    assert model.info.labels == ("a", "b", "c")
    assert model.info.input_size == (8, 8)
    assert [note for note in model.info.notes if "'config.json'" in note] == [
        "the class names are read from 'config.json' next to the model",
        "the preprocessing is read from 'config.json' next to the model",
    ]
    np.testing.assert_allclose(scores(path), expected(PIXELS[3:27, 8:32], (8, 8)), atol=1e-5)


def test_class_names_of_hugging_face_are_in_the_order_of_their_indices(tmp_path):
    names = {"2": "c", "0": "a", "1": "b"}
    path = write(tmp_path / "net", config={"id2label": names}, preprocessor_config=VIT)
    assert xaimaps.load(path).info.labels == ("a", "b", "c")
    (tmp_path / "net" / "onnx").mkdir()
    moved = path.rename(tmp_path / "net" / "onnx" / "model.onnx")
    assert xaimaps.load(moved).info.labels == ("a", "b", "c")


def test_the_user_and_the_file_come_first(tmp_path):
    path = write(tmp_path / "net", {"xaimaps.preprocess": "tf"}, config=TIMM)
    found = xaimaps.load(path, labels=["x", "y", "z"]).info
    assert (found.labels, found.preprocess.name) == (("x", "y", "z"), "tf")
    assert not [note for note in found.notes if "next to the model" in note]
    assert xaimaps.load(path, preprocess="raw").info.preprocess.name == "raw"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("config", "{"),
        ("config", "[" * 100_000),
        ("config", []),
        ("config", {"id2label": {"1": "a"}, "pretrained_cfg": 3}),
        ("config", {"pretrained_cfg": {**TIMM["pretrained_cfg"], "std": [0, 0, 0]}}),
        ("config", {"pretrained_cfg": {**TIMM["pretrained_cfg"], "interpolation": "random"}}),
        ("preprocessor_config", {**VIT, "image_mean": [0.5]}),
        ("preprocessor_config", {**VIT, "resample": 9}),
        ("preprocessor_config", {**VIT, "do_center_crop": True, "crop_size": 8}),
        ("preprocessor_config", {"size": 224}),
    ],
)
def test_what_is_not_as_expected_is_ignored(tmp_path, name, config):
    model = xaimaps.load(write(tmp_path / "net", **{name: config}))
    assert (model.info.labels, model.info.preprocess) == (None, None)
    with pytest.raises(ArrayInputError, match="the preprocessing of the model 'model' is unknown"):
        xaimaps.explain(model, PIXELS)
