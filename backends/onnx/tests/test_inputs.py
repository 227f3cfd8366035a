"""Files with several inputs: one is explained, the others have values that the user gives."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import xaimaps
from xaimaps._cli import cli
from xaimaps.errors import ArrayInputError, ModelLoadError, UnsupportedModelError
from xaimaps.targets import as_target

pytest.importorskip("xaimaps_jax")

IMAGES = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32)
ROW = [0.5, -2.0]
BACKENDS = ("jax", "onnxruntime")


def made(nodes, inputs, outputs, weights):
    graph = helper.make_graph(
        [helper.make_node(*args[:3], args[2][0], **kw) for *args, kw in nodes],
        "network",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.helper.set_model_props(model, {"xaimaps.preprocess": "unit"})
    return model


def with_table(batch="N"):
    """Return a network of an image and a table, with the table as its first input."""
    draw = np.random.default_rng(0).normal
    shapes = {"kernel": (4, 3, 3, 3), "bias": (4,), "first": (2, 5), "shift": (5,), "last": (9, 4)}
    return made(
        [
            ("Conv", ["image", "kernel", "bias"], ["conv"], {"pads": [1] * 4}),
            ("Relu", ["conv"], ["relu"], {}),
            ("GlobalAveragePool", ["relu"], ["pool"], {}),
            ("Flatten", ["pool"], ["flat"], {}),
            ("Gemm", ["table", "first", "shift"], ["dense"], {}),
            ("Tanh", ["dense"], ["tanh"], {}),
            ("Concat", ["flat", "tanh"], ["joined"], {"axis": 1}),
            ("MatMul", ["joined", "last"], ["logits"], {}),
        ],
        [("table", TensorProto.FLOAT, [batch, 2]), ("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        ["logits"],
        {name: draw(size=shape).astype(np.float32) for name, shape in shapes.items()},
    )


def in_runtime(model, images, batch, **others):
    """Return the first output of ONNX Runtime on batches of a size, with all inputs in full."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    planar = images.transpose(0, 3, 1, 2)
    parts = np.split(planar, len(images) // batch)
    return np.concatenate([session.run(None, {"image": p, **others})[0] for p in parts])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_outputs_equal_those_of_the_file_with_all_inputs(backend, batch):
    model = with_table(batch)
    size = batch if isinstance(batch, int) else 3
    expected = in_runtime(model, IMAGES, size, table=np.array([ROW] * size, np.float32))
    loaded = xaimaps.load(model, backend=backend, inputs={"table": ROW})
    found = loaded.to_numpy(loaded.forward(loaded.asarray(IMAGES)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    names = [layer.name for layer in loaded.layers()]
    assert names == ["conv", "relu", "pool", "joined", "logits"]  # none of the table alone
    assert loaded.default_layer().name == "relu"


def test_maps_equal_those_by_hand_and_bias_terms_sum_to_the_score():
    loaded = xaimaps.load(with_table(), inputs={"table": ROW})
    weights = {t.name: numpy_helper.to_array(t) for t in with_table().graph.initializer}
    result = xaimaps.attribute(loaded, IMAGES, "grad_cam", target=2)
    relu = loaded.forward_with_activations(loaded.asarray(IMAGES), ("relu",))[1]["relu"]
    expected = np.maximum(np.asarray(relu) @ weights["last"][:4, 2] / 64, 0)
    np.testing.assert_allclose(result.maps, expected, atol=1e-6)
    gradients, terms = loaded.biases(loaded.asarray(IMAGES), as_target(2, 3))
    parts = (np.asarray(gradients.gradients) * IMAGES).sum((1, 2, 3))
    whole = parts + sum(np.asarray(term).reshape(3, -1).sum(1) for term in terms)
    np.testing.assert_allclose(whole, result.scores[:, 2], atol=1e-6)


@pytest.mark.parametrize("method", ["occlusion", "ablation_cam", "score_cam"])
def test_runs_without_gradients_are_the_same_in_both_backends(method):
    options = {"window": 3, "stride": 2} if method == "occlusion" else {}
    first, second = (
        xaimaps.attribute(
            xaimaps.load(with_table(), backend=backend, inputs={"table": ROW}),
            IMAGES, method, target=2, **options,
        ).maps
        for backend in BACKENDS
    )  # fmt: skip
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_without_a_batch_and_of_integers(backend):
    """A scalar condition chooses a branch, and an index chooses a row of a table."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["mean"], [name])],
            name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None])],
        )
        for name, operator in (("then", "Neg"), ("else", "Identity"))
    }  # fmt: skip
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    model = made(
        [
            ("ReduceMean", ["image", "axes"], ["mean"], {"keepdims": 0}),
            ("If", ["flips"], ["signed"], branches),
            ("Gather", ["rows", "kind"], ["chosen"], {}),
            ("Add", ["signed", "chosen"], ["logits"], {}),
        ],
        [
            ("image", TensorProto.FLOAT, ["N", 3, 8, 8]),
            ("flips", TensorProto.BOOL, []),
            ("kind", TensorProto.INT64, ["N"]),
        ],
        ["logits"],
        {"rows": rows, "axes": np.array([2, 3])},
    )
    for flips, sign in ((True, -1), (False, 1)):
        loaded = xaimaps.load(model, backend=backend, inputs={"flips": flips, "kind": 2})
        found = loaded.to_numpy(loaded.forward(loaded.asarray(IMAGES)))
        expected = sign * IMAGES.mean((1, 2)) + rows[2]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ArrayInputError, match="'kind' must be numbers that int64 can hold, got"):
        xaimaps.load(model, backend=backend, inputs={"flips": True, "kind": 0.5})


@pytest.mark.parametrize("backend", BACKENDS)
def test_either_image_of_a_pair_is_explained(backend):
    planes = [TensorProto.FLOAT, ["N", 3, 8, 8]]
    model = made(
        [
            ("Mul", ["left", "right"], ["product"], {}),
            ("GlobalAveragePool", ["product"], ["pool"], {}),
            ("Flatten", ["pool"], ["logits"], {}),
        ],
        [("left", *planes), ("right", *planes)],
        ["logits"],
        {},
    )
    for name in ("left", "right"):
        given = {name: IMAGES[0].transpose(2, 0, 1)}
        loaded = xaimaps.load(model, backend=backend, inputs=given)
        found = loaded.to_numpy(loaded.forward(loaded.asarray(IMAGES[1:])))
        np.testing.assert_allclose(found, (IMAGES[0] * IMAGES[1:]).mean((1, 2)), atol=1e-6)


WRONG = [
    ({}, r"without a value, .* got 'table' \(any, 2\) float32 and 'image' .*--input NAME=VALUE"),
    ({"table": ROW, "image": IMAGES[0]}, "the images to explain, got none"),
    ({"tabel": ROW}, "are 'table', 'image', got 'tabel'; nearest: 'table'"),
    ({"table": [1, 2, 3]}, r"'table' must have the shape \(2,\), got \(3,\)"),
    ({"table": np.ones((3, 2))}, r"the shape \(2,\), got \(3, 2\); give the value for one image"),
    ({"table": "table.txt"}, "'table' must be numbers, a .npy file or a picture, got 'table.txt'"),
    ({"table": [[1], [2, 3]]}, "'table' must be an array of numbers"),
    ([ROW], "`inputs` must be a dictionary"),
    ({"table": None}, "'table' must be an array of numbers"),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("inputs", "message"), WRONG)
def test_values_that_do_not_fit_are_refused_in_one_sentence(backend, inputs, message):
    with pytest.raises((ArrayInputError, UnsupportedModelError), match=message):
        xaimaps.load(with_table(), backend=backend, inputs=inputs)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("two.onnx").write_bytes(with_table().SerializeToString())
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save("a.png")
    np.save("table.npy", np.array([ROW], np.float32))


@pytest.mark.parametrize("value", ["0.5,-2", "table.npy"])
def test_a_manifest_holds_the_values(folder, value):
    given = [
        "-m",
        "two.onnx",
        "--input",
        f"table={value}",
        "-M",
        "saliency",
        "-t",
        "2",
        "-o",
        "out",
    ]
    done = CliRunner().invoke(cli, ["explain", "a.png", *given])
    assert done.exit_code == 0, done.output
    (path,) = Path("out").glob("*manifest.json")
    assert xaimaps.reproduce(path).agrees
    told = json.loads(path.read_text())
    assert told["inputs"] == {"table": "table.npy" if value == "table.npy" else ROW}
    other = xaimaps.load("two.onnx", inputs={"table": [0, 0]})
    with pytest.raises(ModelLoadError, match="must have the inputs"):
        xaimaps.reproduce(path, model=other)


def test_a_file_of_a_value_that_changed_is_named(folder):
    loaded = xaimaps.load("two.onnx", inputs={"table": Path("table.npy")})
    path = xaimaps.explain(loaded, "a.png", "saliency", target=2).save("out")[-1]
    np.save("table.npy", np.zeros(2, np.float32))
    with pytest.raises(ModelLoadError, match=r"input 'table\.npy' has changed"):
        xaimaps.reproduce(path)
