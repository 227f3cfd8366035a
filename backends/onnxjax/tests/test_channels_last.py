"""What stands between convolutions, in the order of axes that is fast, equals ONNX Runtime."""

import functools
import inspect
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load, registry
from onnxjax._ops.channels import elementwise
from onnxjax._ops.convolution import Kernel, conv
from onnxjax._passes.channels_last import kernels_by_place
from onnxjax.errors import UnsupportedModelError

RNG = np.random.default_rng(11)
CHANNELS = RNG.normal(size=(6, 1, 1)).astype(np.float32)
COLUMNS = RNG.normal(size=9).astype(np.float32)
MAP = RNG.normal(size=(1, 6, 9, 9)).astype(np.float32)


def between(*nodes, constants=None, size=(9, 9), channels=6, **attributes):
    """A convolution, some nodes from "a" to "b", another convolution, and the sum over places."""
    rank = len(size)
    weights = {
        "w1": RNG.normal(size=(6, 3, *[3] * rank)).astype(np.float32),
        "w2": RNG.normal(size=(4, channels, *[1] * rank)).astype(np.float32),
        **(constants or {}),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 2 * rank),
            *nodes,
            helper.make_node("Conv", ["b", "w2"], ["c"], **attributes),
            helper.make_node("GlobalAveragePool", ["c"], ["y"]),
        ],
        "between",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"] + [None] * (rank + 1))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def node(operator, *inputs, output="b", **attributes):
    return helper.make_node(operator, inputs or ["a"], [output], **attributes)


def images(size=(9, 9)):
    return RNG.normal(size=(2, 3, *size)).astype(np.float32)


def expected(model, x, *names):
    for name in names:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})


CASES = {
    "unary": (node("Relu"),),
    "per channel": (node("Mul", "a", "k"),),
    "first of two": (node("Sub", "k", "a"),),
    "per column": (node("Add", "a", "columns"),),
    "number": (node("Pow", "a", "two"),),
    "slope per channel": (node("PRelu", "a", "k"),),
    "bounds": (node("Clip", "a", "", "two"),),
    "whole map": (node("Max", "a", "map", "two"),),
    "two maps": (node("Sigmoid", output="s"), node("Mul", "a", "s")),
    "squeeze and excite": (
        node("GlobalAveragePool", output="p"),
        node("Conv", "p", "square", output="q"),
        node("HardSigmoid", "q", output="s"),
        node("Mul", "a", "s"),
    ),
    "type": (node("Cast", output="s", to=TensorProto.DOUBLE), node("Cast", "s", to=1)),
    "borders": (node("Pad", "a", "pads"),),
    "borders of some axes": (node("Pad", "a", "pads2", "two", "axes"),),
    "cut off and reflected": (node("Pad", "a", "pads3", mode="reflect"),),
    "pooled": (node("MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),),
    "averaged": (node("AveragePool", kernel_shape=[3, 3], pads=[1] * 4),),
    "beside each other": (node("Relu", output="r"), node("Concat", "a", "r", "a", axis=2)),
    "one after another": (node("Relu", output="r"), node("Concat", "a", "r", axis=-1)),
}
CONSTANTS = {
    "k": CHANNELS,
    "columns": COLUMNS,
    "map": MAP,
    "two": np.float32(2),
    "square": RNG.normal(size=(6, 6, 1, 1)).astype(np.float32),
    "pads": np.int64([0, 0, 1, 2, 0, 0, 0, 1]),
    "pads2": np.int64([1, 2, 0, 1]),
    "pads3": np.int64([0, 0, -1, 2, 0, 0, 3, -2]),
    "axes": np.int64([-1, 2]),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_every_inner_value(case):
    nodes = CASES[case]
    read = {name for each in nodes for name in each.input}
    model = between(*nodes, constants={k: v for k, v in CONSTANTS.items() if k in read})
    loaded, x = load(model), images()
    names = ["b", "y"]
    found = jax.jit(lambda x: loaded.apply(loaded.params, x, outputs=names))(x)
    result, inner = expected(model, x, "b")
    np.testing.assert_allclose(found[0], inner, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found[1], result, rtol=2e-5, atol=2e-5)


def test_channels_are_joined_and_padded_as_channels():
    joined = (node("Relu", output="r"), node("Concat", "a", "r", output="j", axis=-3))
    padded = node("Pad", "j", "pads", output="b")
    constants = {"pads": np.int64([0, 1, 0, 0, 0, 0, 0, 0])}
    model, x = between(*joined, padded, constants=constants, channels=13), images()
    loaded = load(model)
    np.testing.assert_allclose(loaded.apply(loaded.params, x)[0], expected(model, x)[0], atol=2e-5)


@pytest.mark.parametrize("name", ["number", "k"])
def test_a_type_that_is_taken_from_a_map(name):
    """The other input of CastLike gives its type, and not its shape."""
    constants = {"number": np.float32(2), "k": CHANNELS}
    nodes = (node("CastLike", name, "a", output="s"), node("Mul", "a", "s"))
    model, x = between(*nodes, constants={name: constants[name]}), images()
    loaded = load(model)
    np.testing.assert_allclose(loaded.apply(loaded.params, x)[0], expected(model, x)[0], atol=2e-5)


def flagged():
    """Every rule that is said to be elementwise, with the number of its inputs, if it has one."""
    for (domain, name), rules in sorted(registry._RULES.items()):
        for rule in rules:
            kinds = inspect.signature(rule.fn).parameters.values()
            positional = [p for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
            if rule.elementwise:
                label = f"{domain}{name}{rule.since}"
                yield pytest.param(rule.fn, len(positional) or (1, 2), id=label)


@pytest.mark.parametrize(("fn", "count"), list(flagged()))
def test_an_elementwise_rule_gives_the_same_in_any_order(fn, count):
    """For inputs of whatever ranks, in whatever order, of the first type that it takes."""
    every = {"to": TensorProto.DOUBLE, "direction": "LEFT"}
    options = {k: v for k, v in every.items() if k in inspect.signature(fn).parameters}
    shapes = [(2, 6, 4, 5), (6, 1, 1), ()]
    counts = count if isinstance(count, tuple) else (count,)
    each = itertools.chain(*(itertools.permutations(shapes, n) for n in counts))
    taken: set[type] = set()
    for chosen, dtype in itertools.product(list(each), (np.float32, np.int32, np.bool_)):
        if taken - {dtype}:
            continue
        inputs = [jnp.asarray(RNG.uniform(0.5, 3, shape).astype(dtype)) for shape in chosen]
        try:
            plain = fn(jnp, *inputs, **options)
        except (TypeError, ValueError):  # not of this type
            continue
        moved = elementwise(functools.partial(fn, jnp, **options))(*inputs)
        assert (moved.shape, moved.dtype) == (plain.shape, plain.dtype)
        np.testing.assert_allclose(moved, plain, rtol=1e-6)
        taken.add(dtype)
    assert taken


@pytest.mark.parametrize("shape", [(6, 1, 3, 3), (60, 3), (60, 3, 1), (60, 2, 1, 1)])
def test_weights_that_do_not_fit(shape):
    """Broadcasting would give numbers."""
    group = 6 if shape[1] == 1 else 1
    nodes = (node("GlobalAveragePool", "a", output="p"), node("ReduceMean", "p", "axes"))
    model = between(*nodes, constants={"axes": np.int64([1])}, channels=1)
    model.graph.node.append(helper.make_node("Conv", ["b", "wrong"], ["z"], group=group))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), "wrong"))
    loaded = load(model)
    with pytest.raises(UnsupportedModelError, match="do not fit a map of shape"):
        loaded.apply(loaded.params, images(), outputs=["z"])


def test_four_spatial_axes():
    """As XLA has them, though ONNX Runtime does not."""
    x = jnp.asarray(RNG.normal(size=(1, 3, 4, 4, 4, 4)).astype(np.float32))
    w = jnp.asarray(RNG.normal(size=(6, 3, 2, 2, 2, 2)).astype(np.float32))
    found = conv(jnp, x, w)
    ends = itertools.product(range(2), repeat=4)
    parts = (
        jnp.einsum("nc...,oc->no...", x[(..., *(slice(i, i + 3) for i in at))], w[(..., *at)])
        for at in ends
    )
    np.testing.assert_allclose(found, functools.reduce(jnp.add, parts), atol=1e-4)


@pytest.mark.parametrize("size", [(9,), (5, 6, 7)])
def test_other_numbers_of_spatial_axes(size):
    model, x = between(node("Mul", "a", "a"), size=size), images(size)
    loaded = load(model)
    found = loaded.apply(loaded.params, x)[0]
    np.testing.assert_allclose(found, expected(model, x)[0], rtol=2e-5, atol=2e-5)


def block():
    """A piece of a mobile network."""
    constants = {
        "k": CHANNELS,
        "deep": RNG.normal(size=(6, 1, 3, 3)).astype(np.float32),
    }
    return between(
        node("Relu", output="r"),
        node("Pad", "r", "pads", output="p"),
        node("Conv", "p", "deep", output="d", group=6),
        node("Mul", "d", "k", output="m"),
        node("MaxPool", "m", output="x3", kernel_shape=[3, 3], pads=[1] * 4),
        node("Add", "x3", "a"),
        constants={**constants, "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1])},
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the order of axes is that of the CPU")
def test_no_map_is_transposed_between_operators():
    """Images come with channels last, and pooled values have no places."""
    loaded = load(block())
    params = kernels_by_place(loaded.graph, loaded.params)

    def scores(params, images):
        return loaded.apply(params, jnp.moveaxis(images, -1, 1))[0]

    program = jax.jit(scores).lower(params, jnp.zeros((2, 9, 9, 3))).compile().as_text()
    maps = r"f32\[\d+,\d+,[2-9],\d+\]\S* (?:transpose|copy)\("
    assert "f32[2,9,9,6]" in program
    assert not re.findall(maps, program)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the order of axes is that of the CPU")
def test_kernels_in_their_order_give_the_same_values_and_gradients():
    loaded, x = load(block()), images()
    params = kernels_by_place(loaded.graph, loaded.params)
    assert {name for name, value in params.items() if isinstance(value, Kernel)} == {
        "w1",
        "deep",
    }  # a matrix of a few numbers is a constant

    def score(params, x):
        return jnp.sum(loaded.apply(params, x)[0] ** 2)

    value, (by_place, to_x) = jax.value_and_grad(score, (0, 1))(params, x)
    other, (plain, to_x2) = jax.value_and_grad(score, (0, 1))(loaded.params, x)
    np.testing.assert_allclose(value, other, rtol=1e-5)
    np.testing.assert_allclose(to_x, to_x2, atol=1e-5 * np.abs(to_x2).max())
    for name in ("w1", "deep"):
        np.testing.assert_allclose(by_place[name].weights, plain[name], rtol=1e-4, atol=1e-4)


def test_accelerators_keep_the_order_of_the_file(monkeypatch):
    """They choose the order of axes themselves; nothing is transposed for them."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    model, x = block(), images()
    loaded = load(model)
    assert kernels_by_place(loaded.graph, loaded.params) is loaded.params
    traced = jax.make_jaxpr(loaded.apply)(loaded.params, x)
    assert "transpose" not in str(traced)
    result = expected(model, x)[0]
    for params in (loaded.params, {**loaded.params, "w1": Kernel.of(loaded.params["w1"])}):
        found = loaded.apply(params, x)[0]
        np.testing.assert_allclose(found, result, rtol=2e-5, atol=2e-5)


def test_a_weight_that_is_read_twice_stays():
    again = (node("Conv", "x", "w1", output="a2", pads=[1] * 4), node("Add", "a", "a2"))
    loaded = load(between(*again))
    assert not isinstance(kernels_by_place(loaded.graph, loaded.params)["w1"], Kernel)
