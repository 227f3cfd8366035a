"""Damages small models at random and uses each: it must work, or end in an error of ours.

Run as a script, in a process of its own: it limits its memory, and what kills it is a find.

    python fuzzing.py --count 2000 --seed 1 --finds folder

Its last line is a summary in JSON. The find number 7 of seed 1 comes back with
`--first 7 --count 1 --seed 1`.
"""

import argparse
import collections
import contextlib
import faulthandler
import json
import resource
import signal
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import jax
import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnxjax import _limits as limits
from onnxjax import operators
from onnxjax._ops import common
from xaimaps_jax import JaxBackend
from xaimaps_onnx.errors import onnxjax_errors

from xaimaps.errors import LayerError, XaimapsError

SECONDS = 10
HANGING = 120
ROOM = 3 * 2**30
MOST_ELEMENTS = 2**22
LOOPS = frozenset({"Loop", "Scan"})

RNG = np.random.default_rng(0)
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    5,
    7,
    8,
    16,
    64,
    255,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**40,
    2**62,
    -(2**63),
]
FLOATS = [0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("nan"), float("inf"), -float("inf")]


# The models


def value(name, kind=FLOAT, shape=("N", 3, 8, 8)):
    return helper.make_tensor_value_info(name, kind, shape)


def weights_like(**shapes):
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def model_of(nodes, weights, opset=17, shape=("N", 3, 8, 8), functions=(), domains=()):
    tensors = [
        array
        if isinstance(array, TensorProto)
        else numpy_helper.from_array(np.asarray(array), name)
        for name, array in weights.items()
    ]
    ids = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    graph = helper.make_graph(
        [helper.make_node(*args, **attributes) for args, attributes in nodes],
        "graph",
        [value("x", FLOAT, shape)],
        [value("y", FLOAT, ("N", 5))],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=ids, functions=functions, ir_version=10)
    onnx.checker.check_model(model)
    return model


def n(operator, inputs, outputs, **attributes):
    return (operator, inputs.split(), outputs.split()), attributes


END = [
    n("GlobalAveragePool", "last", "pool"),
    n("Flatten", "pool", "flat"),
    n("Gemm", "flat d e", "y"),
]


def convolutional():
    nodes = [
        n("Conv", "x k", "conv", pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3]),
        n("BatchNormalization", "conv s b m v", "norm", epsilon=1e-3),
        n("Relu", "norm", "relu"),
        n("MaxPool", "relu", "max", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]),
        n("Conv", "max g", "last", group=4, auto_pad="SAME_UPPER"),
        *END[:2],
        n("Gemm", "flat d e", "logits", transB=1, alpha=0.5),
        n("Softmax", "logits", "y", axis=-1),
    ]
    weights = weights_like(k=(4, 3, 3, 3), s=4, b=4, m=4, g=(4, 1, 3, 3), d=(5, 4), e=5)
    model = model_of(nodes, weights | {"v": np.ones(4, np.float32)})
    helper.set_model_props(model, {"xaimaps.preprocess": "tf", "note": "seed"})
    return model


def branching():
    then = helper.make_graph([helper.make_node("Relu", ["a"], ["t"])], "then", [], [value("t")])
    other = helper.make_graph([helper.make_node("Neg", ["a"], ["o"])], "other", [], [value("o")])
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "one"], ["s2"]),
            helper.make_node("Identity", ["on"], ["on2"]),
            helper.make_node("ReduceMean", ["s2"], ["each"], keepdims=0),
        ],
        "body",
        [value("i", INT64, ()), value("on", BOOL, ()), value("s")],
        [value("on2", BOOL, ()), value("s2"), value("each", FLOAT, ())],
    )
    step = helper.make_graph(
        [helper.make_node("Add", ["p", "q"], ["r"]), helper.make_node("Abs", ["r"], ["u"])],
        "step",
        [value("p", FLOAT, (4,)), value("q", FLOAT, (4,))],
        [value("r", FLOAT, (4,)), value("u", FLOAT, (4,))],
    )
    nodes = [
        n("Conv", "x k", "a"),
        n("ReduceMean", "a", "mean", keepdims=0),
        n("Greater", "mean one", "sign"),
        n("If", "sign", "b", then_branch=then, else_branch=other),
        n("Loop", "two yes b", "c each", body=body),
        n("Scan", "four rows", "sum all", body=step, num_scan_inputs=1),
        n("ReduceMean", "all", "middle", keepdims=0),
        n("Add", "c middle", "last"),
        *END,
    ]
    weights = weights_like(k=(4, 3, 3, 3), d=(4, 5), e=5, rows=(3, 4), four=4)
    return model_of(
        nodes, weights | {"one": np.float32(1), "two": np.int64(2), "yes": np.array(True)}
    )


def functional():
    opset = helper.make_opsetid("", 17)
    inner = helper.make_function(
        "my",
        "Swish",
        ["a"],
        ["b"],
        [helper.make_node("Sigmoid", ["a"], ["c"]), helper.make_node("Mul", ["a", "c"], ["b"])],
        [opset],
    )
    scaled = helper.make_node("LeakyRelu", ["c"], ["b"])
    scaled.attribute.append(
        AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    )
    outer = helper.make_function(
        "my",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Swish", ["a"], ["c"], domain="my"), scaled],
        [opset, helper.make_opsetid("my", 1)],
        ["slope"],
    )
    nodes = [n("Conv", "x k", "a"), n("Twice", "a", "last", domain="my", slope=0.2), *END]
    weights = weights_like(k=(4, 3, 3, 3), d=(4, 5), e=5)
    return model_of(nodes, weights, functions=[inner, outer], domains=["my"])


def quantized():
    nodes = [
        n("QuantizeLinear", "x scale zero", "xq"),
        n("DequantizeLinear", "xq scale zero", "xd"),
        n("DequantizeLinear", "kq scales zeros", "k", axis=0),
        n("Conv", "xd k", "conv"),
        n("Clip", "conv low high", "last"),
        *END,
    ]
    integers = RNG.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8)
    weights = weights_like(d=(4, 5), e=5) | {
        "scale": np.float32(0.02),
        "zero": np.uint8(128),
        "kq": integers,
        "scales": np.full(4, 0.01, np.float32),
        "zeros": np.zeros(4, np.int8),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    return model_of(nodes, weights)


def outside():
    model = convolutional()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": "weights.bin", "offset": "16", "length": "432"}.items():
        tensor.external_data.add(key=key, value=text)
    return model


def attentive():
    nodes = [
        n("Conv", "x k", "patches", strides=[4, 4]),
        n("Shape", "patches", "shape"),
        n("Slice", "shape zero1 two1", "front"),
        n("Concat", "front minus1", "wanted", axis=0),
        n("Reshape", "patches wanted", "rows"),
        n("Transpose", "rows", "tokens", perm=[0, 2, 1]),
        n("Gather", "shape zero", "batch", axis=0),
        n("Unsqueeze", "batch zero1", "batch1"),
        n("Concat", "batch1 ones2", "many", axis=0),
        n("Expand", "class many", "first"),
        n("Concat", "first tokens", "all", axis=1),
        n("Range", "zero five one", "places"),
        n("Gather", "table places", "position", axis=0),
        n("Add", "all position", "in"),
        n("LayerNormalization", "in s b", "normal", axis=-1),
        n("MatMul", "normal q", "queries"),
        n("Split", "queries", "l r", axis=-1),
        n("Transpose", "r", "turned", perm=[0, 2, 1]),
        n("MatMul", "l turned", "scores"),
        n("Softmax", "scores", "attention", axis=-1),
        n("MatMul", "attention in", "out"),
        n("Gather", "out zero", "token", axis=1),
        n("Gemm", "token d e", "y"),
    ]
    weights = weights_like(k=(4, 3, 4, 4), d=(4, 5), e=5, table=(5, 4), s=4, b=4, q=(4, 8))
    weights["class"] = np.ones((1, 1, 4), np.float32)
    integers = {
        "zero": 0,
        "five": 5,
        "one": 1,
        "zero1": [0],
        "two1": [2],
        "minus1": [-1],
        "ones2": [1, 4],
    }
    return model_of(nodes, weights | {k: np.array(v) for k, v in integers.items()})


def resizing():
    nodes = [
        n("Pad", "x pads half", "padded", mode="constant"),
        n("ConvTranspose", "padded t", "up", strides=[2, 2], output_padding=[1, 1]),
        n("Shape", "up", "shape"),
        n("Resize", "up  factors", "big", mode="linear"),
        n(
            "ConstantOfShape",
            "four",
            "filled",
            value=numpy_helper.from_array(np.ones(1, np.float32)),
        ),
        n("Tile", "filled four", "tiled"),
        n("ReduceSum", "tiled", "total", keepdims=0),
        n("Mul", "big total", "scaled"),
        n("TopK", "scaled one", "most where", axis=-1),
        n("OneHot", "where two onoff", "hot", axis=-1),
        n("ReduceMean", "hot", "average", keepdims=0),
        n("Add", "most average", "last"),
        *END,
    ]
    nodes[3] = (("Resize", ["up", "", "factors"], ["big"]), {"mode": "linear"})
    weights = weights_like(t=(3, 4, 3, 3), d=(4, 5), e=5) | {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "half": np.float32(0.5),
        "factors": np.array([1, 1, 2, 2], np.float32),
        "four": np.array([2, 2]),
        "one": np.array([1]),
        "two": np.array([2]),
        "onoff": np.array([0, 1], np.float32),
    }
    return model_of(nodes, weights)


def old():
    nodes = [
        n("Conv", "x k", "conv"),
        n("Mul", "conv c", "scaled", broadcast=1, axis=1),
        n("Pad", "scaled", "padded", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        n("Upsample", "padded", "last", height_scale=2.0, width_scale=2.0),
        n("AveragePool", "last", "pool", kernel_shape=[16, 16]),
        n("Flatten", "pool", "flat"),
        n("Gemm", "flat d e", "y", broadcast=1),
    ]
    nodes[3] = n("LRN", "padded", "last", size=3)
    nodes[4] = n("AveragePool", "last", "pool", kernel_shape=[8, 8])
    return model_of(nodes, weights_like(k=(4, 3, 3, 3), c=4, d=(4, 5), e=5), opset=6)


SEEDS = [
    *(convolutional, branching, functional, quantized, outside, attentive, resizing, old),
]
EXTERNAL = b"0123456789abcdef" + RNG.normal(size=108).astype(np.float32).tobytes()


# The damage


def damaged(rng, models):
    """The bytes of a model after a few mutations."""
    model = onnx.ModelProto()
    model.CopyFrom(models[rng.integers(len(models))])
    times = range(pick(rng, [1, 1, 1, 2, 3]))
    if rng.random() < 0.75:
        for _ in times:
            mutate_structure(rng, model)
        return model.SerializeToString()
    data = model.SerializeToString()
    for _ in times:
        data = mutate_data(rng, data, models)
    return data


def mutate_data(rng, data, models):
    if not data:
        return data
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
    other = models[rng.integers(len(models))].SerializeToString()
    there = int(rng.integers(len(other)))
    middle = [
        bytes([data[start] ^ 1 << int(rng.integers(8))]),
        rng.bytes(1),
        b"",
        data[start : start + length] * 2,
        other[there : there + length],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        None,
    ][rng.integers(7)]
    if middle is None:
        return data[:start]
    return data[:start] + middle + data[start + max(len(middle), 1) :]


def mutate_structure(rng, model):
    kind = rng.random()
    if kind < 0.2:
        change_weight(rng, model)
    elif kind < 0.4:
        change_node(rng, model)
    else:
        change_field(rng, model)


def change_weight(rng, model):
    """Another shape, type or content, all consistent."""
    tensors = model.graph.initializer
    if not tensors:
        return
    tensor = tensors[rng.integers(len(tensors))]
    try:
        array = numpy_helper.to_array(tensor)
    except Exception:  # an earlier change has broken it
        return
    choice = rng.integers(4)
    if choice == 0:
        array = np.resize(array, rng.integers(0, 6, rng.integers(0, 6)))
    elif choice == 1:
        dtype = rng.choice(["f2", "f4", "f8", "i1", "u1", "i4", "i8", "?"])
        with np.errstate(all="ignore"):
            array = array.astype(dtype)
    elif array.size and array.dtype.kind in "iu":
        low, high = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
        array = array.copy()
        array.reshape(-1)[rng.integers(array.size)] = np.clip(pick(rng, NUMBERS), low, high)
    elif array.size and array.dtype.kind == "f":
        array = array.copy()
        array.reshape(-1)[rng.integers(array.size)] = pick(rng, FLOATS)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def change_node(rng, model):
    nodes = model.graph.node
    if not nodes:
        return
    node = nodes[rng.integers(len(nodes))]
    choice = rng.integers(5)
    if choice == 0:
        node.domain, node.op_type = pick(rng, list(operators()))
    elif choice == 1 and node.input:
        node.input[rng.integers(len(node.input))] = pick(rng, names(model))
    elif choice == 2:
        node.attribute.add().CopyFrom(pick(rng, attributes(model)))
    elif choice == 3:
        node.input.append(pick(rng, names(model)))
    elif node.input:
        del node.input[-1]


def names(model):
    made = [output for node in model.graph.node for output in node.output]
    return [*made, *(tensor.name for tensor in model.graph.initializer), "x", "y", ""]


def attributes(model):
    found = [attribute for node in model.graph.node for attribute in node.attribute]
    return [*found, helper.make_attribute("axis", -7), helper.make_attribute("to", 10**6)]


def change_field(rng, model):
    """Any field of any message."""
    message, field = pick(rng, list(fields(model)))
    content = getattr(message, field.name)
    if isinstance(content, str | bytes | int | float):
        setattr(message, field.name, changed(rng, content, model, field))
    elif not hasattr(content, "append") and not hasattr(content, "add"):
        message.ClearField(field.name)
    elif rng.random() < 0.3 or not len(content):
        del content[int(rng.integers(len(content) + 1)) :]
    elif hasattr(content, "add"):
        change_messages(rng, content)
    else:
        index = int(rng.integers(len(content)))
        content[index] = changed(rng, content[index], model, field)


def change_messages(rng, content):
    index = int(rng.integers(len(content)))
    if rng.random() < 0.5:
        content.add().CopyFrom(content[index])
    else:
        del content[index]


def fields(message):
    for field, content in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for part in content if hasattr(content, "add") else [content]:
                yield from fields(part)


def changed(rng, content, model, field):
    if isinstance(content, bytes):
        return mutate_data(rng, content, [model])
    if isinstance(content, str):
        return pick(
            rng, [*names(model), "\0", "../" + content, "é" * 300, content + "0", "-1", "9" * 30]
        )
    if isinstance(content, float):
        return pick(rng, FLOATS)
    if field.type == field.TYPE_ENUM:
        return pick(rng, [value.number for value in field.enum_type.values])
    number = pick(rng, [*NUMBERS, content + 1, content - 1, -content])
    bits = 31 if field.type == field.TYPE_INT32 else 63
    if field.type == field.TYPE_UINT64:
        return abs(number)
    return int(min(max(number, -(2**bits)), 2**bits - 1))


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


# The use


class Late(BaseException):
    """Not an `Exception`, so that no boundary takes it for a fault of the model."""


def late(*_):
    raise Late


def use(path, name=0):
    """Load a model, ask for its layers and its head, and let it see black images.

    Compiling takes most of the time, so that only every third case by number runs.
    """
    backend = JaxBackend.load(path)
    backend.layers()
    for question in (backend.default_layer, backend.classifier):
        with contextlib.suppress(LayerError):
            question()
    nodes = {node.operator for node in backend.network.nodes}
    height, width, channels = (size or 8 for size in backend.input_shape)
    images = np.zeros((2, height, width, channels or 3), np.float32)
    lowered = jax.jit(lambda params, x: backend._program.apply(params, x, (), None)[0])
    endless = nodes & LOOPS or images.size > MOST_ELEMENTS
    with onnxjax_errors():
        if endless or (isinstance(name, int) and name % 3):
            jax.eval_shape(lowered, backend.params, images)
        else:
            jax.block_until_ready(lowered(backend.params, images))


def outcome(path, name):
    """What becomes of a model: "used", the name of our error, or of anything else."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of this process, however busy the machine
    faulthandler.dump_traceback_later(HANGING, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use(path, name)
        return "used", ""
    except XaimapsError as error:
        cause = type(error.__cause__).__name__ if error.__cause__ else ""
        return type(error).__name__ + (f" from {cause}" if cause else ""), str(error)
    except (Exception, Late) as error:
        trace = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in trace if "xaimaps" in f.filename]
        return (
            "FIND",
            f"{type(error).__name__}: {str(error)[:200]} at {' < '.join(ours[-4:][::-1])}",
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()


def limit_memory():
    """So many bytes of address space on top of what JAX has taken."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def peak():
    """The most bytes that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--finds", type=Path)
    parser.add_argument("--corpus", type=Path, help="use these files instead of damaged ones")
    options = parser.parse_args()
    signal.signal(signal.SIGPROF, late)
    limits.TRACED_ELEMENTS = common.MOST_ELEMENTS = MOST_ELEMENTS
    finds = options.finds or Path(tempfile.mkdtemp())
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(Path(folder), finds, options)))  # noqa: T201


def cases(options, models):
    if options.corpus:
        yield from (
            (path.name, path.read_bytes()) for path in sorted(options.corpus.glob("*.onnx"))
        )
        return
    for number in range(options.first, options.first + options.count):
        yield number, damaged(np.random.default_rng([options.seed, number]), models)


def run(folder, finds, options):
    path, counts, found, slowest = folder / "model.onnx", collections.Counter(), [], (0.0, "")
    (folder / "weights.bin").write_bytes(EXTERNAL)
    models = [seed() for seed in SEEDS]
    for model in models:
        path.write_bytes(model.SerializeToString())
        use(path)
    limit_memory()
    start = time.perf_counter()
    for name, data in cases(options, models):
        path.write_bytes(data)
        (finds / "current.onnx").write_bytes(data)  # what remains if this kills the process
        before = time.process_time()
        result, detail = outcome(path, name)
        slowest = max(slowest, (time.process_time() - before, str(name)))
        counts[result] += 1
        if result == "FIND":
            (finds / f"find_{options.seed}_{name}.onnx").write_bytes(data)
            found.append(f"{name}: {detail}")
            print(found[-1], flush=True)  # noqa: T201
    (finds / "current.onnx").unlink()
    return {
        "counts": dict(counts.most_common()),
        "finds": found,
        "seconds": round(time.perf_counter() - start, 1),
        "slowest": slowest,
        "peak": peak(),
    }


if __name__ == "__main__":
    main()
