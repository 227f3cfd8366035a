"""Exported files, run in ONNX Runtime alone, against formulas written out in numpy."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from xaimaps_onnx.export import _network
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps._form import require_same, score_rounding
from xaimaps._results.render import blend, colorize
from xaimaps.errors import (
    LayerError,
    MethodError,
    ModelLoadError,
    OutputError,
    TargetError,
    UnsupportedModelError,
    XaimapsError,
)
from xaimaps.methods import METHODS
from xaimaps.testing import pooled_network

pytest.importorskip("jax")

IMAGES = np.random.default_rng(7).normal(size=(4, 9, 9, 3)).astype(np.float32)


def saved(path, *, opset=18, change=None, **options):
    model = as_onnx(pooled_network(), **options)
    model.opset_import[0].version = opset
    if change:
        change(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def file(tmp_path):
    return saved(tmp_path / "model.onnx", end="Softmax")


def run(path, images=IMAGES, layers=(), **given):
    """Run a file of images with channels first; `layers` are values to return too."""
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=one) for one in layers)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [one.name for one in session.get_outputs()]
    name = session.get_inputs()[0].name
    planar = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return dict(zip(names, session.run(names, {name: planar, **given}), strict=True))


def pooled(path, images=IMAGES):
    """Return the pooled activations `(N, C, h, w)`, the dense weights and the outputs."""
    model = onnx.load(path)
    pool = next(node for node in model.graph.node if "Pool" in node.op_type)
    dense = next(node for node in model.graph.node if node.op_type in ("Gemm", "MatMul"))
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    is_turned = any(a.name == "transB" and a.i for a in dense.attribute)
    matrix = weights[dense.input[1]].T if is_turned else weights[dense.input[1]]
    found = run(path, images, layers=[pool.input[0]])
    return found[pool.input[0]], matrix, found[model.graph.output[0].name]


def cams(path, images=IMAGES):
    """Return the map of each class, `(N, classes, h, w)`: weights times activations."""
    activations, matrix, outputs = pooled(path, images)
    return np.einsum("nkhw,kc->nchw", activations, matrix), outputs


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_grad_cam_of_the_top_class(tmp_path, opset):
    file = saved(tmp_path / "model.onnx", opset=opset, end="Softmax")
    out = xaimaps.export(file, tmp_path / "out.onnx", "grad_cam")
    found, (maps, plain) = run(out.file), cams(file)
    expected = np.maximum(maps[np.arange(4), plain.argmax(1)], 0) / maps[0, 0].size
    close(found["map"], expected)
    np.testing.assert_array_equal(next(iter(found.values())), plain)


@pytest.mark.parametrize("batch", [1, "N"])
def test_cam_of_a_class(tmp_path, batch):
    file = saved(tmp_path / "model.onnx", batch=batch)
    out = xaimaps.export(file, tmp_path / "out.onnx", "cam", target=2)
    for image in IMAGES:
        maps, _ = cams(file, image[None])
        close(run(out.file, image[None])["map"], maps[:, 2])


def test_the_class_as_an_input(file, tmp_path):
    out = xaimaps.export(file, tmp_path / "out.onnx", "cam", target="input")
    classes = np.array([3, 0, 2, 1])
    maps, _ = cams(file)
    close(run(out.file, target=classes)["map"], maps[np.arange(4), classes])
    assert not run(out.file, target=np.full(4, 99))["map"].any()


def test_the_maps_of_all_classes(file, tmp_path):
    out = xaimaps.export(
        file, tmp_path / "out.onnx", "cam", target="all", output_name="saliency_map"
    )
    maps, _ = cams(file)
    close(run(out.file)["saliency_map"], maps)
    assert out.outputs == {"saliency_map": ["N", *maps.shape[1:]]}


def test_eigen_cam_is_the_first_singular_vector(file, tmp_path):
    out = xaimaps.export(file, tmp_path / "out.onnx", "eigen_cam", relu=False)
    activations, _, _ = pooled(file)
    rows = activations.reshape(*activations.shape[:2], -1).transpose(0, 2, 1)
    u, s, _ = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    first = u[..., 0] * s[:, :1]
    first *= np.sign((first * rows.mean(-1)).sum(-1, keepdims=True))
    close(run(out.file)["map"].reshape(4, -1), first)


def test_maps_of_the_input_and_their_colours(file, tmp_path):
    raw = run(xaimaps.export(file, tmp_path / "a.onnx", "grad_cam", target=1).file)["map"]
    options = {"target": 1, "form": "normalised", "heat_map": True}
    found = run(xaimaps.export(file, tmp_path / "b.onnx", "grad_cam", **options).file)
    assert found["map"].shape == (4, 9, 9)
    assert found["map"].min() >= 0
    for one, small in zip(found["map"], raw, strict=True):
        assert one.max() == pytest.approx(1) or not small.any()
    np.testing.assert_array_equal(found["heat_map"], colorize(found["map"]))


def test_colours_over_the_picture(file, tmp_path):
    out = xaimaps.export(
        file, tmp_path / "out.onnx", "grad_cam", target=1, form="normalised", overlay=True,
        loading={"preprocess": "imagenet"},
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)
    found = run(out.file, xaimaps.load(file, preprocess="imagenet").info.pixels.values(pixels))
    expected = [blend(*pair, 0.5) for pair in zip(pixels, colorize(found["map"]), strict=True)]
    assert set(out.outputs) == {"map", "overlay"}
    assert np.abs(found["overlay"].astype(int) - expected).max() <= 1


def test_channels_last(tmp_path):
    file = saved(tmp_path / "model.onnx", channels_last=True)
    out = xaimaps.export(file, tmp_path / "out.onnx", "grad_cam", target=0)
    session = onnxruntime.InferenceSession(out.file)
    found = session.run(["map"], {session.get_inputs()[0].name: IMAGES})[0]
    planar = saved(tmp_path / "planar.onnx")
    maps, _ = cams(planar)
    close(found, np.maximum(maps[:, 0], 0) / maps[0, 0].size)


def test_a_file_says_what_it_is(file, tmp_path):
    out = tmp_path / "out.onnx"
    xaimaps.export(file, out, "grad_cam", target=2)
    said = {one.key: one.value for one in onnx.load(out).metadata_props}
    assert said["xaimaps.method"] == "grad_cam"
    assert said["xaimaps.target"] == "2"
    assert said["xaimaps.source_sha256"] == xaimaps.load(file).info.sha256
    assert any("was exported by xaimaps" in note for note in xaimaps.load(out).info.notes)
    with pytest.raises(ModelLoadError, match="export the original model"):
        xaimaps.export(out, tmp_path / "again.onnx")


def test_the_difference_is_named_and_nothing_is_written(file, tmp_path, monkeypatch):
    """A wrong gradient in the writer must not reach a file."""
    right = _network.class_weights
    monkeypatch.setattr(_network, "class_weights", lambda *given: right(*given) * 1.001)
    with pytest.raises(UnsupportedModelError, match="differs from grad_cam on 'jax' by"):
        xaimaps.export(file, tmp_path / "out.onnx", "grad_cam")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.onnx"]


def test_a_map_of_scores_is_held_to_their_rounding(file):
    """What a window changes may be a small part of a score, which runtimes round differently."""
    model, row = xaimaps.load(file), METHODS["occlusion"]
    result = xaimaps.attribute(model, IMAGES, "occlusion", target=1, window=3, stride=3)
    expected, score = 1e-3 * result.maps, np.abs(result.target_scores).max()
    for apart, is_rounding in ((1e-6, True), (1e-5, False)):
        found = expected + apart * score
        for form in ("raw", "normalised"):
            given = (found, expected, row, model, score_rounding(row, result, form))
            if is_rounding and form == "raw":
                assert require_same(*given) > 1e-4
            else:
                with pytest.raises(UnsupportedModelError, match="differs from occlusion on 'jax'"):
                    require_same(*given)
    assert score_rounding(METHODS["grad_cam"], result, "raw") == 0


REFUSED = [
    (XaimapsError, "cannot be exported", {"method": "guided_ig"}),
    (MethodError, "nothing writes its function 'clip'", {"method": "sess"}),
    (OutputError, "needs the model's preprocessing", {"overlay": True}),
    (XaimapsError, "cannot be exported to ONNX, as it needs biases", {"method": "fullgrad"}),
    (LayerError, "must be one of the model's", {"layer": "nowhere"}),
    (TargetError, "must be a class, a label", {"target": lambda outputs: outputs[:, 0]}),
    (TargetError, "must be a class, a label", {"target": "top-2"}),
    (TargetError, "must be a class from 0", {"target": 99}),
    (TargetError, "must be None for 'eigen_cam'", {"method": "eigen_cam", "target": 1}),
    (MethodError, "`form` must be", {"form": "large"}),
    (OutputError, "is that of a value of the file", {"output_name": "relu1"}),
    (OutputError, "must be a name other than", {"output_name": "heat_map"}),
]


@pytest.mark.parametrize(("error", "words", "options"), REFUSED)
def test_refusals(file, tmp_path, error, words, options):
    with pytest.raises(error, match=words) as raised:
        xaimaps.export(file, tmp_path / "out.onnx", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out.onnx").exists()


def test_the_model_itself_is_not_replaced(file):
    before = file.read_bytes()
    with pytest.raises(OutputError, match="must be another than the model"):
        xaimaps.export(file, file)
    assert file.read_bytes() == before


def test_weights_in_other_files(tmp_path):
    model = as_onnx(pooled_network())
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.bin"
    )
    with pytest.raises(UnsupportedModelError, match="are in other files"):
        xaimaps.export(tmp_path / "m.onnx", tmp_path / "out.onnx")


def test_old_opsets(tmp_path):
    with pytest.raises(UnsupportedModelError, match="must have opset 13 or newer"):
        xaimaps.export(saved(tmp_path / "model.onnx", opset=12), tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("name", "words"), [("out.txt", "must end in .onnx"), ("a/b.onnx", "folder")]
)
def test_places_that_cannot_be_written(file, tmp_path, name, words):
    with pytest.raises(OutputError, match=words):
        xaimaps.export(file, tmp_path / name)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelLoadError, match="is not valid as an ONNX model"):
        xaimaps.export(tmp_path / "model.onnx", tmp_path / "out.onnx")
