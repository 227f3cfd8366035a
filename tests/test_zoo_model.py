"""The embedded model: its file, its labels, its maker, and its agreement with PyTorch."""

import hashlib
import os
import pickle
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

import xaimaps

onnx = pytest.importorskip("onnx")
maker = pytest.importorskip("xaimaps_network.make_efficientnet_lite0")

ZOO = Path(xaimaps.__file__).parent / "zoo"
REFERENCES = Path(__file__).parent / "references" / "efficientnet_lite0.npz"
MOTORCYCLE = Path(skimage.__file__).parent / "data" / "motorcycle_left.png"


@pytest.fixture(scope="module")
def model():
    return onnx.load(xaimaps.zoo.MODELS["default"])


@pytest.fixture(scope="module")
def references():
    with np.load(REFERENCES) as file:
        return dict(file)


@pytest.fixture(scope="module")
def images(references):
    paths = {name: ZOO / f"{name}.png" for name in references["names"]}
    paths["motorcycle_left"] = MOTORCYCLE
    return np.stack([load(paths[name]) for name in references["names"]])


def load(path):
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = ((size - side) // 2 for size in image.size)
    square = image.crop((left, top, left + side, top + side))
    pixels = square.resize((224, 224), Image.Resampling.BICUBIC)
    return (np.asarray(pixels, np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5


def weights(model):
    """The checkpoint's values; the two bounds of ReLU6 are not among them."""
    tensors = [t for t in model.graph.initializer if not t.name.startswith("relu6/")]
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}


def test_model_is_valid_and_versions_are_fixed(model):
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (10, 18)


def test_signature_is_one_batch_of_images_to_logits(model):
    (images,), (logits,) = model.graph.input, model.graph.output
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (images, logits)
    ]
    assert (images.name, logits.name) == ("images", "logits")
    assert shapes == [["N", 3, 224, 224], ["N", 1000]]


def test_operators_are_those_of_the_network(model):
    assert Counter(node.op_type for node in model.graph.node) == {
        "Conv": 49,
        "BatchNormalization": 49,
        "Clip": 33,
        "Add": 9,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }


def test_every_node_names_its_output(model):
    *layers, classifier = model.graph.node
    assert [node.name for node in layers] == [node.output[0] for node in layers]
    assert (classifier.name, list(classifier.output)) == ("classifier", ["logits"])
    tail = [node.name for node in layers[-3:]]
    assert tail == ["head/relu6", "pool", "flatten"]


def test_weights_are_bit_for_bit_those_that_pytorch_reads(model, references):
    values = weights(model)
    trained = [v.size for name, v in values.items() if not name.endswith(("/mean", "/var"))]
    assert sum(trained) == 4_652_008
    digest = hashlib.sha256(b"".join(value.tobytes() for value in values.values()))
    assert digest.digest() == references["weights_sha256"].tobytes()


def test_metadata_says_how_to_use_the_model(model):
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["xaimaps.name"] == "efficientnet-lite0"
    assert properties["xaimaps.preprocess"] == "tf"
    assert properties["xaimaps.labels"] == "imagenet-1k"
    assert properties["licence"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("index", "label"),
    [
        (0, "tench"),
        (134, "crane (bird)"),
        (251, "dalmatian"),
        (285, "Egyptian cat"),
        (517, "crane (machine)"),
        (638, "maillot"),
        (639, "tank suit"),
        (665, "moped"),
        (967, "espresso"),
        (999, "toilet tissue"),
    ],
)
def test_label_of_a_known_index(index, label):
    assert (ZOO / "imagenet-1k.txt").read_text("utf-8").splitlines()[index] == label


def test_labels_stay_apart_when_case_is_ignored():
    labels = (ZOO / "imagenet-1k.txt").read_text("utf-8").splitlines()
    assert len({label.casefold().strip() for label in labels}) == len(labels) == 1000


def test_onnxruntime_agrees_with_pytorch(images, references):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        xaimaps.zoo.MODELS["default"], providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"images": images})
    expected = references["logits_float64"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_references_are_of_the_documented_pictures_and_crop(references):
    logits = references["logits_float64"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    top = (odds / odds.sum(axis=1, keepdims=True)).max(axis=1)
    assert references["targets"].tolist() == logits.argmax(axis=1).tolist() == [285, 967, 665]
    np.testing.assert_allclose(top, [0.385645, 0.939673, 0.718004], rtol=0, atol=1e-6)


def test_zoo_stays_within_the_wheel_budget():
    files = [path for path in ZOO.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 24_000_000


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo > '{self.marker}'",)


def checkpoint(path, state, keys=(), storages=b""):
    """Writes PyTorch's file layout before 1.6: five pickles, then raw storages."""
    header = [pickle.dumps(part, 2) for part in (maker.MAGIC, 1001, {"little_endian": True})]
    path.write_bytes(b"".join([*header, state, pickle.dumps(list(keys), 2), storages]))
    return path


def state(storage="torch\nFloatStorage", length=6, offset=0, strides=(1, 2)):
    """A pickle of one 2x3 tensor, spelled out because PyTorch is not there to write it."""
    reference = f"(Vstorage\nc{storage}\nVkey\nVcpu\nI{length}\nNtQ"
    shape = f"(I2\nI3\nt(I{strides[0]}\nI{strides[1]}\nt"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({reference}I{offset}\n{shape}I00\n(dtR"
    return f"ccollections\nOrderedDict\n(tRVweight\n{tensor}s.".encode()


STORAGE = struct.pack("<q6f", 6, *range(6))


def test_maker_reads_strided_tensors(tmp_path):
    path = checkpoint(tmp_path / "good.pth", state(), ["key"], STORAGE)
    tensors = maker.read_checkpoint(path)
    assert tensors["weight"].tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("change", [{"offset": 1}, {"strides": (9, 1)}, {"strides": (-1, 2)}])
def test_maker_never_reads_outside_a_storage(tmp_path, change):
    path = checkpoint(tmp_path / "wide.pth", state(**change), ["key"], STORAGE)
    with pytest.raises((ValueError, TypeError)):
        maker.read_checkpoint(path)


def test_maker_refuses_a_truncated_storage(tmp_path):
    path = checkpoint(tmp_path / "short.pth", state(), ["key"], STORAGE[:-4])
    with pytest.raises(maker.CheckpointError, match="length"):
        maker.read_checkpoint(path)


def test_malicious_pickle_would_run_elsewhere(tmp_path):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Malicious(marker), 2))
    assert marker.exists()


def test_maker_refuses_a_malicious_checkpoint(tmp_path):
    marker = tmp_path / "marker"
    path = checkpoint(tmp_path / "bad.pth", pickle.dumps({"weight": Malicious(marker)}, 2))
    with pytest.raises(maker.CheckpointError, match=r"refused \w+\.system"):
        maker.read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "torch\nload", "collections\ndefaultdict"])
def test_maker_refuses_every_other_name(tmp_path, name):
    path = checkpoint(tmp_path / "bad.pth", state(storage=name), ["key"], STORAGE)
    with pytest.raises(maker.CheckpointError, match="refused"):
        maker.read_checkpoint(path)


def test_maker_refuses_another_network():
    tensors = {"_fc.weight": np.zeros((1000, 1280), np.float32)}
    with pytest.raises(KeyError, match="_conv_stem"):
        maker.build_graph(tensors)
