"""What benchmarks/model_files.py does without a network."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")


@pytest.fixture
def model_files(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from benchmarks import model_files

    return model_files


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        (["batch", 3, 224, 224], None, [1, 3, 224, 224]),
        (["batch", 3, "height", "width"], (48, 320), [1, 3, 48, 320]),
        (["batch", "height", "width", 3], (48, 320), [1, 48, 320, 3]),
        ([1, 1, 64, "width"], (64, 256), [1, 1, 64, 256]),
        ([-1, 3, -1, None], (48, 192), [1, 3, 48, 192]),
    ],
)
def test_free_axes_take_the_size(model_files, shape, size, expected):
    assert model_files.one_image(shape, size) == expected


def test_chunks_are_joined_by_offset(model_files, tmp_path):
    chunks = [{"hash": "b", "offsets": [3, 5]}, {"hash": "a", "offsets": [0, 3]}]
    (tmp_path / "resources.json").write_text(json.dumps({"/models/small": {"chunks": chunks}}))
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"tw")
    model_files.join_chunks(tmp_path / "resources.json")
    assert (tmp_path / "models" / "small.onnx").read_bytes() == b"onetw"


def test_rows_that_were_not_measured_stay(model_files, tmp_path):
    page = tmp_path / "page.md"
    first, second = (file.name for file in model_files.MODEL_FILES[:2])
    for name, status in ((second, 0), (first, 0), (second, 2)):
        model_files.put(page, name, model_files.as_line({"file": name, "explain": status}))
    rows = [line.split(" | ") for line in page.read_text().splitlines()[-2:]]
    explain = model_files.COLUMNS.index("explain")
    assert [(row[0], row[explain]) for row in rows] == [(f"| {first}", "0"), (f"| {second}", "2")]


def test_constant_maps_are_told(model_files, tmp_path):
    result = {"notes": ["one", "two"], "methods": [], "files": ["figure.png"]}
    for method, value in (("saliency", 1.0), ("grad_cam", 0.0)):
        path = tmp_path / f"a-b-{method}-class 1-maps.npz"
        np.savez(path, maps=np.array([[0.0, value]]))
        result["methods"].append({"method": method})
        result["files"].append(str(path))
    found = model_files.maps_of(json.dumps({"results": [result]}))
    assert found == {"maps": "saliency, grad_cam (constant)", "message": "one; two"}
