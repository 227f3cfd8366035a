"""Model files that nobody vouches for: what each must get, and what loading may touch."""

import ctypes
import itertools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load
from onnxjax._limits import Budget
from onnxjax.errors import (
    ArrayInputError,
    ModelLoadError,
    OnnxJaxError,
    UnsupportedModelError,
)
from onnxjax.read._tensors import TensorReader

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(5)
KERNEL = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
DENSE = RNG.normal(size=(4, 5)).astype(np.float32)


def value(name, kind=FLOAT, shape=("N", 3, 8, 8)):
    return helper.make_tensor_value_info(name, kind, shape)


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs, outputs, name=f"the_{outputs[0]}", **attributes)


def classifier(extra=(), weights=None, source="x", functions=(), **changes):
    """Conv, Relu, pooling and a dense layer; `extra` nodes come first."""
    weights = {"kernel": KERNEL, "dense": DENSE} | (weights or {})
    nodes = [
        *extra,
        node("Conv", [source, "kernel"], ["conv"]),
        node("Relu", ["conv"], ["relu"]),
        node("GlobalAveragePool", ["relu"], ["pool"]),
        node("Flatten", ["pool"], ["flat"]),
        node("MatMul", ["flat", "dense"], ["y"]),
    ]
    return model_of(nodes, weights=weights, functions=functions, **changes)


def model_of(nodes, weights=None, inputs=None, outputs=None, functions=(), opsets=None, ir=10):
    tensors = [
        array if isinstance(array, TensorProto) else numpy_helper.from_array(array, name)
        for name, array in (weights or {}).items()
    ]
    inputs = [value("x")] if inputs is None else inputs
    outputs = [value("y", shape=("N", 5))] if outputs is None else outputs
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    opsets = {"": 17} | {f.domain: 1 for f in functions} if opsets is None else opsets
    ids = [helper.make_opsetid(*item) for item in opsets.items()]
    return helper.make_model(graph, opset_imports=ids, functions=functions, ir_version=ir)


def external(location="weights.bin", offset="0", length=str(KERNEL.nbytes), **more):
    """The classifier with its kernel in another file."""
    tensor = TensorProto(name="kernel", data_type=FLOAT, dims=KERNEL.shape)
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length} | more
    for key, text in entries.items():
        if text is not None:
            tensor.external_data.add(key=key, value=text)
    return classifier(weights={"kernel": tensor})


def at(folder, model):
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


ROWS = {}


def row(name, expected):
    """Register a builder: it fills a folder and returns the path to load."""

    def register(build):
        ROWS[name] = (build, expected)
        return build

    return register


def case(name, expected, make):
    """A row that is one file."""
    row(name, expected)(lambda folder: at(folder, make()))


# M01 to M05: the bytes

WHOLE = classifier().SerializeToString()
case("M01 zero bytes", "empty file", lambda: b"")
case("M02 truncated", "not a readable ONNX file", lambda: WHOLE[: len(WHOLE) // 2])
case("M03 text", "not a readable ONNX file", lambda: b"<html>not a model</html>" * 9)
case("M04 random", "not a readable ONNX file", lambda: RNG.bytes(1024))
case("M05 byte flip", "not a readable ONNX file", lambda: bytes([WHOLE[0] ^ 7]) + WHOLE[1:])
case(
    "M05 no text",
    "not a readable ONNX file.*UTF-8",
    lambda: WHOLE.replace(b"kernel", b"\xff" * 6),
)
row("M00 missing", "No such file")(lambda folder: folder / "model.onnx")
row("M00 folder", "must be a file")(lambda folder: folder)
row("M00 null byte", "not valid")(lambda folder: folder / "mod\0el.onnx")


@row("M00 pipe", "must be a file")
def _(folder):
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


@row("M00 link in a loop", "symbolic links")
def _(folder):
    (folder / "model.onnx").symlink_to(folder / "model.onnx")
    return folder / "model.onnx"


# M06 to M12: data in other files


def outside(folder):
    """A file outside the model's folder that must stay unread."""
    canary = folder.parent / "canary.bin"
    if not canary.exists():
        KERNEL.tofile(canary)
    return canary


def escape(name, location, expected="own folder"):
    def build(folder):
        canary = outside(folder)
        (folder / "a").mkdir()
        return at(folder, external(location.format(canary=canary)))

    row(name, f"'kernel'.*{expected}")(build)


escape("M06 parent", "../canary.bin")
escape("M07 absolute", "{canary}")
escape("M08 down and up", "a/../../canary.bin")
escape("M08 windows", "a\\..\\..\\canary.bin")
escape("M08 drive", "C:/canary.bin")


@row("M09 symlink", "'kernel'.*symbolic link")
def _(folder):
    (folder / "weights.bin").symlink_to(outside(folder))
    return at(folder, external())


@row("M10 symlinked folder", "'kernel'.*symbolic link")
def _(folder):
    (folder / "a").symlink_to(outside(folder).parent)
    return at(folder, external("a/canary.bin"))


@row("M11 hard link", "'kernel'.*hard-linked")
def _(folder):
    os.link(outside(folder), folder / "weights.bin")
    return at(folder, external())


@row("M11 pipe", "'kernel'.*not a regular file")
def _(folder):
    os.mkfifo(folder / "weights.bin")
    return at(folder, external())


def beside(name, expected, size=KERNEL.nbytes, **entries):
    def build(folder):
        (folder / "weights.bin").write_bytes(bytes(size))
        return at(folder, external(**entries))

    row(name, expected)(build)


beside("M12 missing", "'kernel'.*No such file", location="other.bin")
beside("M12 empty location", "'kernel'.*own folder", location="")
beside("M12 no location", "'kernel'.*own folder", location=None)
beside("M12 the folder", "'kernel'.*(own folder|not a regular file)", location=".")
beside("M12 negative offset", "'kernel'.*offset", offset="-4")
beside("M12 offset no number", "'kernel'.*offset", offset="1_0")
beside("M12 long offset", "'kernel'.*offset", offset="9" * 5000)
beside("M12 length 2^50", "'kernel'.*length", length=str(2**50))
beside("M12 length differs", "'kernel'.*432 bytes, but.*428", length="428")
beside("M12 too short", "'kernel'.*length", size=100)
beside("M12 rest too long", "'kernel'.*432 bytes, but.*500", size=500, length=None)
beside("M12 unknown key", "'kernel'.*unknown key '__class__'", __class__="x")
beside("M12 good", None)
beside("M12 good without length", None, length=None)


@row("M12 good, unsorted", None)
def _(folder):
    (folder / "weights.bin").write_bytes(bytes(KERNEL.nbytes))
    model = external()
    reorder(model.graph)
    return at(folder, model)


@row("M12 duplicate key", "'kernel'.*'location' twice")
def _(folder):
    (folder / "weights.bin").write_bytes(bytes(KERNEL.nbytes))
    model = external()
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    return at(folder, model)


@row("M12 one file claimed often", "claim")
def _(folder):
    (folder / "weights.bin").write_bytes(bytes(KERNEL.nbytes))
    model = external()
    for i in range(9):
        model.graph.initializer.append(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"copy{i}"
    return at(folder, model)


@row("M12 in a function", "'inside'.*own folder")
def _(folder):
    tensor = external("../canary.bin").graph.initializer[0]
    tensor.name = "inside"
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    function = helper.make_function(
        "my", "F", ["a"], ["b"], [constant, node("Identity", ["a"], ["b"])], [OPSET]
    )
    call = helper.make_node("F", ["x"], ["z"], domain="my")
    return at(folder, classifier([call], source="z", functions=[function]))


OPSET = helper.make_opsetid("", 17)


# M13, M14: sizes


def with_kernel(dims, **fields):
    tensor = TensorProto(name="kernel", data_type=fields.pop("data_type", FLOAT), dims=dims)
    for name, data in fields.items():
        setattr(tensor, name, data) if name == "raw_data" else getattr(tensor, name).extend(data)
    return classifier(weights={"kernel": tensor})


RAW = KERNEL.tobytes()
case("M13 huge", "'kernel'.*2147483648.*bytes", lambda: with_kernel([2**31, 2**31], raw_data=RAW))
case("M13 huge, typed", "'kernel'.*numbers", lambda: with_kernel([2**62], float_data=[1.0]))
case("M13 no data", "'kernel'", lambda: with_kernel([2**31, 2**31]))
case("M13 short", "'kernel'.*432 bytes.*428", lambda: with_kernel(KERNEL.shape, raw_data=RAW[:-4]))
case(
    "M13 long",
    "'kernel'.*432 bytes.*436",
    lambda: with_kernel(KERNEL.shape, raw_data=RAW + b"1234"),
)
case("M13 negative", "'kernel'.*zero on", lambda: with_kernel([-4, 3, 3, -3], raw_data=RAW))
case("M13 rank 1000", "'kernel'.*axes", lambda: with_kernel([1] * 1000, raw_data=b"1234"))
case("M13 type 99", "'kernel'.*type 99", lambda: with_kernel([1], raw_data=b"1234", data_type=99))
case("M13 type 0", "'kernel'.*type 0", lambda: with_kernel([1], raw_data=b"1234", data_type=0))
case("M13 raw text", "'kernel'", lambda: with_kernel([1], raw_data=b"12345678", data_type=8))


def filled(shape, *after):
    nodes = [node("ConstantOfShape", ["shape"], ["big"]), *after]
    last = after[-1].output[0] if after else "big"
    nodes += [node("ReduceMax", [last], ["most"], keepdims=0), node("Add", ["x", "most"], ["z"])]
    return classifier(nodes, {"shape": np.array(shape)}, source="z")


def sparse(dims, index):
    tensor = onnx.SparseTensorProto(dims=dims)
    tensor.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "sparse"))
    tensor.indices.CopyFrom(numpy_helper.from_array(np.array([index]), "at"))
    model = classifier([node("Add", ["x", "sparse"], ["z"])], source="z")
    model.graph.sparse_initializer.append(tensor)
    return model


def doubling():
    names = ["seed", *(f"double{i}" for i in range(60))]
    nodes = [node("Concat", [a, a], [b], axis=0) for a, b in itertools.pairwise(names)]
    nodes += [
        node("ReduceMax", [names[-1]], ["most"], keepdims=0),
        node("Add", ["x", "most"], ["z"]),
    ]
    return classifier(nodes, {"seed": np.ones(64, np.float32)}, source="z")


def outer_products():
    names = ["seed", *(f"outer{i}" for i in range(6))]
    nodes = [
        node("Einsum", [a, a], [b], equation="i,j->ij") if i == 0 else node("Mul", [a, "wide"], [b])
        for i, (a, b) in enumerate(itertools.pairwise(names))
    ]
    nodes += [
        node("ReduceMax", [names[-1]], ["most"], keepdims=0),
        node("Add", ["x", "most"], ["z"]),
    ]
    wide = np.ones((4096, 1, 1), np.float32)
    return classifier(nodes, {"seed": np.ones(4096, np.float32), "wide": wide}, source="z")


def laughs():
    """Functions that call each other twice, fifty deep."""
    functions = [
        helper.make_function("my", "F0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [OPSET])
    ]
    for i in range(1, 50):
        calls = [
            helper.make_node(f"F{i - 1}", ["a"], ["c"], domain="my"),
            helper.make_node(f"F{i - 1}", ["c"], ["b"], domain="my"),
        ]
        functions.append(helper.make_function("my", f"F{i}", ["a"], ["b"], calls, [OPSET, MINE]))
    call = helper.make_node("F49", ["x"], ["z"], domain="my")
    return classifier([call], source="z", functions=functions, opsets={"": 17, "my": 1})


MINE = helper.make_opsetid("my", 1)
TOO_BIG = "a constant, would take|above the limit"
case("M14 fill 2^40", f"ConstantOfShape.*({TOO_BIG})", lambda: filled([2**20, 2**20]))
case("M14 fill 2^30", f"ConstantOfShape.*({TOO_BIG})", lambda: filled([2**30]))
case("M14 expand", f"Expand.*({TOO_BIG})", lambda: expanded())
case("M14 doubling", f"Concat.*({TOO_BIG})", doubling)
case("M14 outer products", f"(Einsum|Mul).*({TOO_BIG})", outer_products)
case("M14 sparse", f"({TOO_BIG})", lambda: sparse([2**20, 2**20], 3))
case("M14 sparse index", "indices outside|not valid", lambda: sparse([4], 9))
case("M14 functions that double", "unfold", laughs)


def expanded():
    nodes = [
        node("Expand", ["one", "shape"], ["big"]),
        node("ReduceMax", ["big"], ["most"], keepdims=0),
        node("Add", ["x", "most"], ["z"]),
    ]
    weights = {"one": np.ones(1, np.float32), "shape": np.array([10**6, 10**6])}
    return classifier(nodes, weights, source="z")


def without_end():
    body = helper.make_graph(
        [node("Identity", ["on"], ["still"]), node("Add", ["s", "s"], ["t"])],
        "body",
        [value("i", INT64, ()), value("on", BOOL, ()), value("s", FLOAT, (1,))],
        [value("still", BOOL, ()), value("t", FLOAT, (1,))],
    )
    nodes = [
        helper.make_node("Loop", ["", "yes", "one"], ["end"], body=body),
        node("Add", ["x", "end"], ["z"]),
    ]
    weights = {"yes": np.array(True), "one": np.ones(1, np.float32)}
    return classifier(nodes, weights, source="z")


# M15 to M18: operators and versions

case("M15 unknown op", "Strange", lambda: classifier([node("Strange", ["x"], ["z"])], source="z"))
case(
    "M16 custom domain",
    r"my\.ops\.Strange.*'the_z'",
    lambda: classifier(
        [node("Strange", ["x"], ["z"], domain="my.ops")], source="z", opsets={"": 17, "my.ops": 1}
    ),
)
case(
    "M17 PyOp",
    r"com\.microsoft\.PyOp",
    lambda: classifier(
        [node("PyOp", ["x"], ["z"], domain="com.microsoft", module="os", class_name="system")],
        source="z",
        opsets={"": 17, "com.microsoft": 1},
    ),
)
case("M18 opset 99", r"opset 99, outside 1\.\.", lambda: classifier(opsets={"": 99}))
case("M18 opset -1", r"opset -1, outside 1\.\.", lambda: classifier(opsets={"": -1}))
case("M18 no opset", "names no ONNX operator set", lambda: classifier(opsets={}))
case("M18 ir 99", "not valid", lambda: classifier(ir=99))
case("M18 no ir", "not valid", lambda: classifier(ir=0))
case("M18 opset 1", None, lambda: classifier(opsets={"": 1}))


# M19 to M21: the graph


def edited(change):
    model = classifier()
    change(model.graph)
    return model


def cycle(graph):
    graph.node[0].input[0] = "relu"


def reorder(graph):
    first = onnx.NodeProto()
    first.CopyFrom(graph.node[0])
    del graph.node[0]
    graph.node.append(first)


def unknown_attribute(graph):
    graph.node[1].attribute.append(helper.make_attribute("secret", 1))


def wrong_attribute(graph):
    graph.node[0].attribute.append(helper.make_attribute("strides", "12"))


case("M19 cycle", "'the_conv', 'the_relu'.*cycle", lambda: edited(cycle))
case("M19 duplicate output", "not valid", lambda: edited(lambda g: g.node.append(g.node[0])))
case("M19 dangling", "not valid", lambda: edited(lambda g: g.node[0].input.__setitem__(0, "no")))
case("M19 unsorted", None, lambda: edited(reorder))
case("M19 unsorted in a branch", None, lambda: branching(reorder))
case("M19 cycle in a branch", "'the_b', 'the_out'.*cycle", lambda: branching(tangle))
case("M19 unsorted in a function", None, lambda: unsorted_function())
case("M19 before its opset", None, lambda: normalised())
case("M19 no nodes", "'y'|not valid", lambda: edited(lambda g: g.ClearField("node")))
case("M19 no output", "output", lambda: edited(lambda g: g.ClearField("output")))
case("M19 output of nobody", "'y9'", lambda: edited(lambda g: setattr(g.output[0], "name", "y9")))
case("M19 unknown attribute", "secret", lambda: edited(unknown_attribute))
case("M19 attribute of another type", "strides", lambda: edited(wrong_attribute))


def branching(change):
    """An If whose branch reads a value of the outer graph that a later node computes."""
    branch = helper.make_graph(
        [node("Relu", ["early"], ["b"]), node("Neg", ["b"], ["out"])], "branch", [], [value("out")]
    )
    change(branch)
    other = helper.make_graph([node("Neg", ["x"], ["other"])], "branch", [], [value("other")])
    choice = helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=other)
    late = node("Abs", ["x"], ["early"])
    return classifier([choice, late], {"yes": np.array(True)}, source="z")


def tangle(graph):
    graph.node[0].input[0] = "out"


def unsorted_function():
    inner = [node("Neg", ["c"], ["b"]), node("Relu", ["a"], ["c"])]
    function = helper.make_function("my", "F", ["a"], ["b"], inner, [OPSET])
    call = helper.make_node("F", ["x"], ["z"], domain="my")
    return classifier([call], source="z", functions=[function])


def normalised():
    """LayerNormalization at opset 14, as ONNX Runtime's optimiser writes it."""
    weights = {"scale": np.ones(8, np.float32)}
    layer = node("LayerNormalization", ["x", "scale"], ["z"])
    return classifier([layer], weights, source="z", opsets={"": 14})


def nested_functions(depth):
    inner = helper.make_function("my", "F0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [OPSET])
    functions = [inner]
    for i in range(1, depth):
        call = helper.make_node(f"F{i - 1}", ["a"], ["b"], domain="my")
        functions.append(helper.make_function("my", f"F{i}", ["a"], ["b"], [call], [OPSET, MINE]))
    call = helper.make_node(f"F{depth - 1}", ["x"], ["z"], domain="my")
    return classifier([call], source="z", functions=functions, opsets={"": 17, "my": 1})


def recursive():
    call = helper.make_node("F", ["a"], ["b"], domain="my")
    function = helper.make_function("my", "F", ["a"], ["b"], [call], [OPSET, MINE])
    first = helper.make_node("F", ["x"], ["z"], domain="my")
    return classifier([first], source="z", functions=[function], opsets={"": 17, "my": 1})


def nested_ifs(depth):
    """Written as bytes, since protobuf itself refuses to nest as deep as the file may."""
    leaf = helper.make_graph([node("Neg", ["x"], ["out"])], "leaf", [], [value("out")])
    shell = helper.make_graph([], "branch", [], [value("out")]).SerializeToString()
    inner = leaf.SerializeToString()
    for _ in range(depth):
        inner = shell + field(1, an_if(inner, leaf, "out"))
    model = classifier(weights={"yes": np.array(True)}, source="z")
    return field(7, field(1, an_if(inner, leaf, "z"))) + model.SerializeToString()


def an_if(branch, leaf, output):
    outer = node("If", ["yes"], [output], else_branch=leaf)
    attribute = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH)
    return outer.SerializeToString() + field(5, attribute.SerializeToString() + field(6, branch))


def field(number, data):
    """A length and data, as protobuf has them."""
    length, size = bytearray(), len(data)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data


def without_result():
    inner = [node("Relu", ["a"], ["c"])]
    function = helper.make_function("my", "F", ["a"], ["b"], inner, [OPSET])
    call = helper.make_node("F", ["x"], ["z"], domain="my")
    return classifier([call], source="z", functions=[function])


case("M19 function without its result", "'z' before the Conv node 'the_conv'", without_result)
case("M20 3000 functions", "not valid", lambda: nested_functions(3000))
case("M20 30 functions", None, lambda: nested_functions(30))
case("M20 recursive", "itself|not valid", recursive)
case("M21 80 Ifs", "not a readable ONNX file|not valid", lambda: nested_ifs(80))
case("M21 20 Ifs", None, lambda: nested_ifs(20))


# M22 to M30: values, shapes and types


def kernel_with(number):
    kernel = KERNEL.copy()
    kernel[1, 2, 0, 1] = number
    return classifier(weights={"kernel": kernel})


case("M22 NaN", "'kernel' holds NaN", lambda: kernel_with(np.nan))
case("M22 Inf", "'kernel' holds an infinite", lambda: kernel_with(np.inf))
case("M22 half", "'half' holds an infinite", lambda: edited_half())
case("M23 zeros", None, lambda: classifier(weights={"kernel": np.zeros_like(KERNEL)}))


def edited_half():
    kernel = KERNEL.astype(np.float16)
    kernel[0, 0, 0, 0] = -np.inf
    cast = node("Cast", ["half"], ["kernel"], to=FLOAT)
    model = classifier([cast], {"half": kernel})
    del model.graph.initializer[0]
    return model


def masked():
    mask = np.triu(np.full((8, 8), -np.inf, np.float32), 1)
    nodes = [
        node("Add", ["x", "mask"], ["scores"]),
        node("Softmax", ["scores"], ["z"]),
        node("Clip", ["z", "low", "high"], ["clipped"]),
    ]
    bounds = {"low": np.array(-np.inf, np.float32), "high": np.array(np.inf, np.float32)}
    return classifier(nodes, {"mask": mask} | bounds, source="clipped")


case("M22 a mask and bounds", None, masked)


def shaped(*shape, kind=FLOAT):
    cast = node("Cast", ["x"], ["z"], to=FLOAT)
    return classifier([cast], source="z", inputs=[value("x", kind, shape)])


case("M24 dynamic batch", None, lambda: shaped("N", 3, 8, 8))
case("M24 fixed batch", None, lambda: shaped(1, 3, 8, 8))
case("M25 dynamic size", None, lambda: shaped("N", 3, "H", "W"))
case("M25 all dynamic", None, lambda: shaped(None, None, None, None))
case("M25 stored as -1", None, lambda: shaped(-1, 3, -1, -1))
case("M25 stored as 0", None, lambda: shaped(0, 3, 0, 0))
case("M26 unknown rank", "shape", lambda: classifier(inputs=[value("x", shape=None)]))
case("M27 half", None, lambda: shaped("N", 3, 8, 8, kind=TensorProto.FLOAT16))


def sequence():
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    model = classifier()
    model.graph.input.append(helper.make_value_info("s", kind))
    return model


case("M27 sequence", "'s'", sequence)


def mismatch():
    return classifier(weights={"dense": RNG.normal(size=(7, 5)).astype(np.float32)})


case("inconsistent shapes", r"MatMul node 'the_y'.*\[2, 4\].*\[7, 5\]", mismatch)


@row("M31 2.1 GB in one file", "external data")
def _(folder):
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(2**31 + 10**8)
    return folder / "model.onnx"


# The tests


@pytest.fixture(params=ROWS, ids=lambda name: name.replace(" ", "-"))
def built(request, tmp_path):
    build, expected = ROWS[request.param]
    folder = tmp_path / "model"
    folder.mkdir()
    return build(folder), expected


def used(path):
    """Load a model and let it see images."""
    model = load(path)
    (source,) = model.inputs
    (scores,) = model.apply(model.params, np.zeros((2, 3, 8, 8), source.dtype))
    return scores.shape


def test_every_row_ends_as_the_table_says(built):
    path, expected = built
    if expected is None:
        assert used(path) == (2, 5)
        return
    with pytest.raises(OnnxJaxError, match=f"(?s){expected}") as caught:
        used(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000


def test_a_model_in_memory_must_hold_its_own_weights():
    with pytest.raises(ModelLoadError, match="'kernel' is stored in another file"):
        load(external())


def test_a_model_in_memory_stays_as_it_is():
    model = nested_functions(3)
    before = model.SerializeToString(deterministic=True)
    assert load(model).params.keys() == {"kernel"}
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("place", [edited, branching])
def test_unsorted_nodes_compute_what_onnx_runtime_computes(place):
    proto, x = place(lambda graph: None), RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    loaded = load(place(reorder))
    np.testing.assert_allclose(loaded.apply(loaded.params, x)[0], expected, rtol=1e-5, atol=1e-6)


def test_sorted_nodes_stay_in_their_order():
    names = [node.name for node in load(classifier()).graph.nodes]
    assert names == ["the_conv", "the_relu", "the_pool", "the_flat", "the_y"]
    moved = [node.name for node in load(edited(reorder)).graph.nodes]
    assert moved == names


def unknown_last():
    """A classifier whose logits go into an operator without a rule, beside a second output."""
    model = classifier(outputs=[value("strange"), value("y", shape=("N", 5))])
    model.graph.node.append(node("Softmax", ["y"], ["p"]))
    model.graph.node.append(node("Strange", ["p", "dense"], ["strange"], domain="my"))
    model.opset_import.add(domain="my", version=1)
    return model


def test_an_operator_without_a_rule_counts_only_if_it_is_needed():
    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    plain = load(classifier())
    for output in ("y", "relu"):
        part = load(unknown_last(), output=output)
        (found,) = part.apply(part.params, x)
        np.testing.assert_array_equal(found, plain.apply(plain.params, x, outputs=[output])[0])
    assert load(unknown_last(), output="relu").params.keys() == {"kernel"}
    with pytest.raises(UnsupportedModelError, match=r"my.Strange.*'the_strange'.*such as 'p', run"):
        load(unknown_last())
    with pytest.raises(ArrayInputError, match=r"one of strange, y, .*'rel'; nearest: 'relu'"):
        load(unknown_last(), output="rel")


def test_names_inside_functions_do_not_meet_those_of_weights():
    inner = [node("Relu", ["a"], ["kernel"]), node("Relu", ["kernel"], ["b"])]
    function = helper.make_function("my", "F", ["a"], ["b"], inner, [OPSET])
    call = helper.make_node("F", ["x"], ["z"], domain="my")
    loaded = load(classifier([call], source="z", functions=[function]))
    plain = load(classifier([node("Relu", ["x"], ["z"])], source="z"))
    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(*(model.apply(model.params, x)[0] for model in (loaded, plain)))


def test_external_data_are_read_from_their_offset(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(b"12345678" + KERNEL.tobytes() + b"9")
    loaded = load(at(tmp_path, external("sub/weights.bin", offset="8", checksum="any")))
    np.testing.assert_array_equal(loaded.params["kernel"], KERNEL)


@pytest.mark.parametrize("name", ["FLOAT16", "BFLOAT16", "INT8", "INT4", "UINT2", "FLOAT8E4M3FN"])
@pytest.mark.parametrize("place", ["raw", "typed", "external"])
def test_every_type_from_every_place(tmp_path, name, place):
    kind = getattr(TensorProto, name)
    values = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)
    tensor = helper.make_tensor("w", kind, values.shape, values.reshape(-1), raw=False)
    if place != "typed":
        array = numpy_helper.to_array(tensor)
        tensor = numpy_helper.from_array(array, "w")
    if place == "external":
        (tmp_path / "w.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    got = TensorReader(tmp_path).array(tensor)
    assert got.dtype == helper.tensor_dtype_to_np_dtype(kind)
    np.testing.assert_array_equal(got.astype(np.float32), values)


def test_a_loop_with_known_rounds_still_folds():
    body = helper.make_graph(
        [node("Identity", ["on"], ["still"]), node("Mul", ["s", "s"], ["t"])],
        "body",
        [value("i", INT64, ()), value("on", BOOL, ()), value("s", INT64, (1,))],
        [value("still", BOOL, ()), value("t", INT64, (1,)), value("t", INT64, (1,))],
    )
    loop = helper.make_node("Loop", ["three", "yes", "two"], ["end", "each"], body=body)
    weights = {"yes": np.array(True), "three": np.array(3), "two": np.array([2])}
    output = [value("each", INT64, (3, 1)), value("end", INT64, (1,))]
    loaded = load(model_of([loop], weights, [], output))
    assert not loaded.graph.nodes
    np.testing.assert_array_equal(loaded.graph.constants["each"], [[4], [16], [256]])


def test_a_loop_without_end_is_not_run_while_it_is_loaded(tmp_path):
    model = load(at(tmp_path, without_end()))
    images = jax.ShapeDtypeStruct((2, 3, 8, 8), np.float32)
    (scores,) = jax.eval_shape(model.apply, model.params, images)
    assert scores.shape == (2, 5)


def test_the_budget_counts_each_and_all():
    budget = Budget(each=10_000, left=25_000)
    for size in (10_000, 10_000, 1):
        budget.spend(size)
    with pytest.raises(UnsupportedModelError, match="would take 9,000 bytes, above the limit"):
        budget.spend(9_000)
    with pytest.raises(UnsupportedModelError, match="above the limit of 10,000"):
        Budget(10_000).spend(10_001)


# What loading touches (G2) and how much memory it takes (G3)


def child(script, *arguments, limit=None):
    """Run a script in a process of its own, perhaps with so many bytes of address space."""
    prelude = f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
    done = subprocess.run(
        [sys.executable, "-c", (prelude if limit else "") + textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


WATCH = """
import json, os, sys
from pathlib import Path
import onnxjax

def attempt(path):
    try:
        onnxjax.load(path)
    except onnxjax.errors.OnnxJaxError:
        pass

root, *paths = sys.argv[1:]
for path in paths:  # what JAX and ONNX import late, they import now
    attempt(path)
events = []
WATCHED = ("open", "exec", "import", "os.", "subprocess.", "socket.", "shutil.", "ctypes.")

def hear(name, args):
    if watching and name.startswith(WATCHED):
        events.append((name, str(args[0]) if args else ""))

watching = False
sys.addaudithook(hear)
watching = True
for path in paths:
    attempt(path)
watching = False
print(json.dumps(events))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel watches the canary by inotify")
def test_loading_touches_nothing_outside_the_folder(tmp_path):
    paths = []
    for i, (build, _) in enumerate(ROWS.values()):
        folder = tmp_path / f"row{i}" / "model"
        folder.mkdir(parents=True)
        paths.append(str(build(folder)))
    paths = [path for path in paths if "\0" not in path]
    canaries = list(tmp_path.glob("row*/canary.bin"))
    with Watch(canaries) as watch:
        events = child(WATCH, str(tmp_path), *paths)
        assert not watch.events()
    assert len(canaries) >= 8
    assert {name for name, _ in events} <= {"open"}
    opened = {Path(path) for _, path in events if not path.isdecimal()}  # a descriptor is open
    assert opened <= {Path(path) for path in paths} | {
        Path(path).parent / "weights.bin" for path in paths
    }


class Watch:
    """Tells of every opening of some files, by Python or by any library."""

    OPEN = 0x20

    def __init__(self, paths):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self.libc.inotify_init1(os.O_NONBLOCK)
        for path in paths:
            assert self.libc.inotify_add_watch(self.descriptor, os.fsencode(path), self.OPEN) >= 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.descriptor)

    def events(self):
        try:
            return os.read(self.descriptor, 4096)
        except BlockingIOError:
            return b""


def test_the_watch_sees_an_opening(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    with Watch([tmp_path / "file"]) as watch:
        assert not watch.events()
        (tmp_path / "file").read_bytes()
        assert watch.events()


MEASURE = """
import json, sys
from pathlib import Path
import jax, numpy as np, onnxjax

def peak():
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
    return 1024 * int(line.split()[1])  # unlike ru_maxrss, this does not start at the parent's

jax.device_put(np.ones(3)).block_until_ready()
before = peak()
try:
    model = onnxjax.load(sys.argv[1])
    jax.block_until_ready(jax.device_put(model.params))
except onnxjax.errors.OnnxJaxError:
    pass
print(json.dumps(peak() - before))
"""
BIG = 50 * 2**20  # numbers; 200 MiB


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
def test_external_weights_are_held_once(tmp_path):
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(4 * BIG)
    tensor = TensorProto(name="big", data_type=FLOAT, dims=[4, BIG // 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    grown = child(MEASURE, str(at(tmp_path, with_big(tensor))))
    assert grown < 1.3 * 4 * BIG


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
def test_weights_in_the_file_need_three_times_its_size(tmp_path):
    big = numpy_helper.from_array(np.zeros((4, BIG // 4), np.float32), "big")
    grown = child(MEASURE, str(at(tmp_path, with_big(big))))
    assert grown < 3.3 * 4 * BIG


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
def test_functions_do_not_cost_another_copy(tmp_path):
    big = numpy_helper.from_array(np.zeros((4, BIG // 4), np.float32), "big")
    function = helper.make_function("my", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [OPSET])
    grown = child(MEASURE, str(at(tmp_path, with_big(big, function))))
    assert grown < 3.3 * 4 * BIG


def with_big(tensor, function=None):
    nodes = [
        node("GlobalAveragePool", ["x"], ["pool"]),
        node("Flatten", ["pool"], ["flat"]),
        node("MatMul", ["flat", "small"], ["four"]),
        helper.make_node("F", ["four"], ["five"], domain="my")
        if function
        else node("Identity", ["four"], ["five"]),
        node("MatMul", ["five", "big"], ["y"]),
    ]
    weights = {"big": tensor, "small": np.ones((3, 4), np.float32)}
    functions = [function] if function else []
    return model_of(nodes, weights, outputs=[value("y", shape=("N", "M"))], functions=functions)


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
@pytest.mark.parametrize("name", [name for name in ROWS if name[:3] in ("M13", "M14")])
def test_sizes_are_checked_before_anything_is_allocated(tmp_path, name):
    grown = child(MEASURE, str(ROWS[name][0](tmp_path)))
    assert grown < 200 * 2**20
