"""A manifest is enough to get the same maps again, for every kind of target."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps import targets
from xaimaps._cli import cli
from xaimaps.errors import InputImageError, ManifestError, ModelLoadError, TargetError

onnx = pytest.importorskip("onnx")
pytest.importorskip("xaimaps_jax")

PIXELS = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
LABELS = ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead"]


def write_model(path, *, seed=0, is_segmentation=False):
    """A convolution and ReLU; then pooling and dense weights, or a class for each pixel."""
    draw, node = np.random.default_rng(seed).normal, onnx.helper.make_node
    weights = {"kernel": draw(size=(8, 3, 3, 3))}
    nodes = [node("Conv", ["images", "kernel"], ["conv"]), node("Relu", ["conv"], ["relu"])]
    shape = ["N", 5, 10, 10] if is_segmentation else ["N", 5]
    if is_segmentation:
        weights["weights"] = draw(size=(5, 8, 1, 1))
        nodes += [node("Conv", ["relu", "weights"], ["logits"])]
    else:
        weights["weights"] = draw(size=(8, 5))
        nodes += [
            node("GlobalAveragePool", ["relu"], ["pool"]),
            node("Flatten", ["pool"], ["flat"]),
            node("Gemm", ["flat", "weights"], ["logits"]),
        ]
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [onnx.helper.make_tensor_value_info("images", 1, ["N", 3, 12, 12])],
        [onnx.helper.make_tensor_value_info("logits", 1, shape)],
        [onnx.numpy_helper.from_array(w.astype("f4"), name) for name, w in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.helper.set_model_props(model, {"xaimaps.preprocess": "unit"})
    Path(path).write_bytes(model.SerializeToString())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model("small.onnx")
    write_model("pixels.onnx", is_segmentation=True)
    Path("labels.txt").write_text("\n".join(LABELS))
    Image.fromarray(PIXELS).save("a.png")
    Image.fromarray(PIXELS[::-1]).save("b.png")
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 3:9] = 255
    Image.fromarray(mask).save("my mask.png")
    np.save("embedding.npy", np.arange(5, dtype=np.float32))
    return tmp_path


def saved(model="small.onnx", pictures="a.png", **settings):
    """The manifest of one explanation."""
    loaded = xaimaps.load(model, labels="labels.txt")
    return xaimaps.explain(loaded, pictures, **settings).save("out")[-1]


CLASSES = [None, 3, "goldfish", "top-2", "goldfish vs tench", "tench; 3; top-1 vs 2"]
CLASSES += ["output:2", "similarity:b.png", "similarity:embedding.npy", "4;"]
PIXELWISE = ["region:my mask.png@tench,axis=1", "box:1,2,5,6@3,axis=1", "output:1,2,3"]
PIXELWISE += ["box:0,0,9,9@1,axis=1 vs region:my mask.png@2,axis=1"]


@pytest.mark.parametrize(
    ("model", "target"),
    [*(("small.onnx", t) for t in CLASSES), *(("pixels.onnx", t) for t in PIXELWISE)],
)
def test_every_kind_of_target_comes_out_the_same(model, target):
    path = saved(model, target=target)
    again = xaimaps.reproduce(path)
    assert again.agrees
    assert max(again.differences.values()) < 1e-6
    assert str(again.result.target) == json.loads(path.read_text())["target"]


@pytest.mark.parametrize("method", ["saliency", "cam", "grad_cam", "expected_gradients", "rise"])
def test_methods_with_options_and_chance_come_out_the_same(method):
    options = {"rise": {"n_masks": 50}, "saliency": {"reduce": "sum", "augment": "flip"}}
    assert xaimaps.reproduce(saved(method=method, **options.get(method, {}))).agrees


def test_layers_preprocessing_and_backends_are_those_of_the_manifest():
    assert xaimaps.reproduce(saved(layer=("conv", "relu"), fuse="max")).agrees
    loaded = xaimaps.load("small.onnx", preprocess="tf", backend="onnxruntime", labels=LABELS)
    path = xaimaps.explain(loaded, "a.png", "cam", target="goldfish").save("out")[-1]
    again = xaimaps.reproduce(path)
    assert again.agrees
    assert again.result.backend == "onnxruntime"
    assert again.result.model.preprocess.name == "tf"


def test_each_picture_of_a_batch_comes_out_the_same():
    loaded = xaimaps.load("small.onnx")
    files = xaimaps.explain(loaded, ["a.png", "b.png"], "saliency", target=[1, 4]).save("out")
    manifests = [file for file in files if file.suffix == ".json"]
    assert len(manifests) == 2
    assert all(xaimaps.reproduce(path).agrees for path in manifests)


def test_the_embedded_model_and_several_methods_in_one_program():
    """Not by gradients at the image: rounding, which differs from program to program, moves some
    ReLU6 of this network across its corners."""
    picture = xaimaps.zoo.PICTURES["chelsea"]
    for result in xaimaps.explain("default", picture, ["grad_cam", "cam"], target="tabby"):
        path = result.save("out")[-1]
        assert json.loads(path.read_text())["model"]["source"] == "default"
        assert xaimaps.reproduce(path).agrees


def change(path, **values):
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, **values}))


def test_what_has_changed_is_named():
    path = saved(target="similarity:b.png")
    shutil.copy("a.png", "b.png")
    with pytest.raises(TargetError, match=r"file 'b\.png' has changed"):
        xaimaps.reproduce(path)
    path = saved(target="goldfish")
    Path("labels.txt").write_text("\n".join(LABELS[::-1]))
    with pytest.raises(ModelLoadError, match="labels have changed"):
        xaimaps.reproduce(path)
    Image.fromarray(PIXELS[::-1]).save("a.png")
    with pytest.raises(InputImageError, match=r"picture 'a\.png' has changed"):
        xaimaps.reproduce(path)
    Path("a.png").unlink()
    with pytest.raises(InputImageError, match=r"'a\.png' is missing; run this in the folder"):
        xaimaps.reproduce(path)


def test_a_model_that_changed_or_moved():
    path = saved(target=1)
    shutil.move("small.onnx", "moved.onnx")
    with pytest.raises(ModelLoadError, match=r"no model file 'small\.onnx'"):
        xaimaps.reproduce(path)
    assert xaimaps.reproduce(path, model="moved.onnx").agrees
    write_model("small.onnx", seed=1)
    with pytest.raises(ModelLoadError, match=r"'small\.onnx' has changed"):
        xaimaps.reproduce(path)


def test_what_cannot_be_reproduced_says_why(pooled):
    with pytest.raises(ManifestError, match="the target is the Python function"):
        xaimaps.reproduce(saved(target=lambda outputs: outputs[:, 0]))
    with pytest.raises(ManifestError, match="picture did not come from a file"):
        xaimaps.reproduce(saved(pictures=PIXELS))
    mask = targets.region(np.ones((10, 10)), 0, axis=1)
    with pytest.raises(ManifestError, match="save it and name the file"):
        xaimaps.reproduce(saved("pixels.onnx", target=mask))
    path = xaimaps.explain(pooled, "a.png", target=1).save("out")[-1]
    with pytest.raises(ManifestError, match="model did not come from a file"):
        xaimaps.reproduce(path)
    assert xaimaps.reproduce(path, model=pooled).agrees


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("{", "readable"), ("[]", "lacks"), ("{}", "lacks")],
)
def test_no_manifest(content, message):
    if content is not None:
        Path("x.json").write_text(content)
    with pytest.raises(ManifestError, match=message):
        xaimaps.reproduce("x.json")


def test_a_manifest_cannot_allow_unsafe_models(monkeypatch):
    path = saved(target=1)
    told = json.loads(path.read_text())
    told["model"]["load"]["allow_unsafe"] = True
    path.write_text(json.dumps(told))
    given = []
    monkeypatch.setattr("xaimaps._reproduce.load", lambda *args, **options: given.append(options))
    with pytest.raises(AttributeError):
        xaimaps.reproduce(path)
    assert "allow_unsafe" not in given[0]


def test_the_command_tells_and_ends_with_1_where_maps_differ(monkeypatch):
    from click.testing import CliRunner

    path = saved(target="goldfish; goldfish vs tench")
    done = CliRunner().invoke(cli, ["reproduce", str(path), "-o", "again", "--json"])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["agrees"]) == (0, True)
    assert list(told["differences"]) == ["goldfish", "goldfish vs tench"]
    assert all(Path(file).exists() for file in told["files"])
    change(path, target="tench; tench vs goldfish")
    done = CliRunner().invoke(cli, ["reproduce", str(path)])
    assert done.exit_code == 1
    assert "differs" in done.stdout
