"""Reading a graph needs no JAX, and what needs it says so."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxjax
import pytest
from onnx import TensorProto, helper, numpy_helper

SOURCE = Path(onnxjax.__file__).parent


def model():
    """A convolution, an If, a function's call, and an operator that has no rule here."""
    branches = {
        f"{branch}_branch": helper.make_graph(
            [helper.make_node(operator, ["a"], [operator])],
            branch,
            [],
            [helper.make_tensor_value_info(operator, TensorProto.FLOAT, None)],
        )
        for branch, operator in (("then", "Relu"), ("else", "Neg"))
    }
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["two", "two"], ["four"], "folded"),
            helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
            helper.make_node("If", ["yes"], ["b"], "if", **branches),
            helper.make_node("Twice", ["b"], ["c"], "twice", domain="here"),
            helper.make_node("Reshape", ["c", "shape"], ["d"], "reshape"),
            helper.make_node("LSTM", ["d", "W", "R"], ["y"], "lstm", hidden_size=3),
            helper.make_node("Mystery", ["y"], ["z"], "mystery", domain="com.example", depth=2),
        ],
        "read",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", None, None, 3])],
        [
            numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"),
            numpy_helper.from_array(np.ones((1, 12, 6), np.float32), "W"),
            numpy_helper.from_array(np.ones((1, 12, 3), np.float32), "R"),
            numpy_helper.from_array(np.float32([2]), "two"),
            numpy_helper.from_array(np.int64([-1, 1, 6]), "shape"),
            numpy_helper.from_array(np.asarray(True), "yes"),
        ],
    )
    opsets = [helper.make_opsetid(d, v) for d, v in (("", 20), ("com.example", 1), ("here", 1))]
    body = [helper.make_node("Add", ["v", "v"], ["w"])]
    twice = helper.make_function("here", "Twice", ["v"], ["w"], body, opsets[:1])
    return helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=10)


def test_every_node_is_read_as_it_is_in_the_file():
    read = onnxjax.read_graph(model())
    operators = [node.operator for node in read.graph.nodes]
    assert operators == ["Add", "Conv", "If", "Add", "Reshape", "LSTM", "Mystery"]
    kinds = [node.rule.kind for node in read.graph.nodes]
    assert kinds == ["sum", "conv", "control", "sum", "view", "recurrent", "other"]
    assert read.graph.nodes[-1].attributes == {"depth": 2}
    then = read.graph.nodes[2].subgraphs["then_branch"]
    assert [node.rule.kind for node in then.nodes] == ["relu"]
    assert read.params.keys() == {"w", "W", "R"}
    assert read.graph.constants.keys() == {"two", "shape", "yes"}
    assert [value.name for value in (*read.inputs, *read.outputs)] == ["x", "z"]


def test_a_graph_that_was_only_read_runs_as_far_as_there_are_rules():
    read, x = onnxjax.read_graph(model()), np.ones((1, 3, 8, 8), np.float32)
    (result,) = read.apply(read.params, x, outputs=["d"])
    np.testing.assert_array_equal(result, np.full((24, 1, 6), 54))
    with pytest.raises(
        onnxjax.errors.UnsupportedModelError, match="Mystery node 'mystery': there is no"
    ):
        read.apply(read.params, x)


WITHOUT = """
import sys
sys.modules["jax"] = sys.modules["jaxlib"] = None
import onnxjax
read = onnxjax.read_graph("model.onnx")
print(*(node.rule.kind for node in read.graph.nodes))
print(len(onnxjax.operators()) > 180, onnxjax.registry.find_rule("", "HardSwish", 14).kind)
for call in (lambda: onnxjax.load("model.onnx"), lambda: read.apply(read.params, read.params["w"])):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)
"""


def test_a_graph_is_read_where_jax_is_not_installed(tmp_path):
    onnx.save(model(), tmp_path / "model.onnx")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    kinds, known, *refused = done.stdout.splitlines()
    assert kinds == "sum conv control sum view recurrent other"
    assert known == "True activation"
    sentence = (
        "onnxjax computes with JAX, which is not installed here; "
        "install it with: pip install 'onnxjax[cpu]', or [cuda12], or [tpu]"
    )
    assert refused == [sentence] * 2


def test_jax_is_imported_when_it_is_used():
    code = "import sys, onnxjax; onnxjax.operators(); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_engine_knows_nothing_of_who_uses_it():
    imported = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                imported.add(str(node.module).partition(".")[0])
    ours = imported - set(sys.stdlib_module_names)
    assert ours == {"google", "jax", "ml_dtypes", "numpy", "onnx", "onnxjax"}
