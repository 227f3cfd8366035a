"""The snippets of the README run."""

import math
import re
from pathlib import Path

import onnx.parser

README = Path(__file__).parents[1] / "README.md"
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
MODEL = """
    <ir_version: 10, opset_import: ["": 20]>
    graph (float[N, 3, 224, 224] images) => (float[N, 1000] logits)
    <float[4, 3, 3, 3] kernel, float[1000, 4] dense>
    {
        a = Conv <strides = [2, 2]> (images, kernel)
        relu_3 = Relu (a)
        pooled = GlobalAveragePool (relu_3)
        flat = Flatten (pooled)
        logits = Gemm <transB = 1> (flat, dense)
    }
"""


def with_weights(model):
    """The graph, its declared weights filled with ones."""
    for declared in model.graph.value_info:
        shape = [d.dim_value for d in declared.type.tensor_type.shape.dim]
        model.graph.initializer.append(
            onnx.helper.make_tensor(declared.name, 1, shape, [1.0] * math.prod(shape))
        )
    return model


def test_the_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(with_weights(onnx.parser.parse_model(MODEL)), "model.onnx")
    names = {}
    for code in SNIPPET.findall(README.read_text()):
        exec(compile(code, README.name, "exec"), names)
    assert names["gradients"].keys() == names["model"].params.keys() == {"kernel", "dense"}
    assert names["value"] > names["loss"](names["params"])
