"""Graphs: sizes that vary, folding, exact integers, control flow, taps, and one's own operators."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load, op, operators, run
from onnxjax._ops import control
from onnxjax.errors import ArrayInputError, UnsupportedModelError

RNG = np.random.default_rng(3)
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node


def value(name, kind=FLOAT, shape=(None,)):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, inputs, outputs, constants=None, opset=18, domains=(), functions=()):
    """A model in memory; constants are arrays by name."""
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)


def body_of(nodes, inputs, outputs, constants=None):
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    return helper.make_graph(nodes, "body", inputs, outputs, tensors)


def small_net():
    """Convolution, ReLU, a flattening that computes its own shape, and a dense layer."""
    constants = {
        "w": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "d": RNG.normal(size=(4, 5)).astype(np.float32),
        "tail": np.asarray([-1], np.int64),
        "zero": np.asarray(0, np.int64),
        "first": np.asarray([0], np.int64),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["g"]),
        node("Shape", ["g"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "first"], ["n1"]),
        node("Concat", ["n1", "tail"], ["to"], axis=0),
        node("Reshape", ["g", "to"], ["flat"]),
        node("MatMul", ["flat", "d"], ["y"]),
    ]
    shape = ("N", 3, "H", "W")
    return model_of(nodes, [value("x", shape=shape)], [value("y", shape=("N", 5))], constants)


def images(*shape):
    return jnp.asarray(RNG.normal(size=shape).astype(np.float32))


@pytest.fixture(scope="module")
def net():
    return load(small_net())


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (5, 3, 6, 10), (2, 3, 17, 4)])
def test_one_load_serves_every_size(net, shape):
    x = images(*shape)
    (got,) = jax.jit(net.apply)(net.params, x)
    (alone,) = net.apply(net.params, x[:1])
    assert got.shape == (shape[0], 5)
    np.testing.assert_allclose(got[:1], alone, rtol=1e-5, atol=1e-6)


def test_weights_are_parameters_and_the_rest_is_not(net):
    assert set(net.params) == {"w"}  # 20 numbers of the dense layer stay where they are
    assert net.graph.constants["tail"].dtype == np.int64


def test_constants_are_folded_at_load():
    constants = {"a": np.full((8, 8), 2, np.float32), "b": np.full((8, 8), 3, np.float32)}
    nodes = [node("Mul", ["a", "b"], ["w"]), node("MatMul", ["x", "w"], ["y"])]
    model = load(model_of(nodes, [value("x", shape=(1, 8))], [value("y")], constants))
    assert [n.operator for n in model.graph.nodes] == ["MatMul"]
    assert set(model.params) == {"w"}
    np.testing.assert_array_equal(model.params["w"], 6)


def test_jit_grad_vmap_and_export(net):
    x = images(2, 3, 8, 8)
    (expected,) = net.apply(net.params, x)

    def single(image):
        return net.apply(net.params, image[None])[0][0]

    np.testing.assert_allclose(jax.vmap(single)(x), expected, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: net.apply(net.params, x)[0][:, 2].sum()))(x)
    assert gradient.shape == x.shape
    assert np.abs(gradient).max() > 0
    exported = jax.export.export(jax.jit(net.apply))(net.params, x)
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_allclose(again.call(net.params, x)[0], expected, rtol=1e-5, atol=1e-6)


def test_weights_can_be_trained(net):
    x = images(2, 3, 8, 8)
    gradients = jax.grad(lambda params: net.apply(params, x)[0].sum())(net.params)
    assert gradients["w"].shape == net.params["w"].shape
    assert np.abs(gradients["w"]).max() > 0


def test_a_tap_has_the_gradient_of_its_value(net):
    x = images(1, 3, 6, 6)

    def score(eps):
        return net.apply(net.params, x, taps={"r": eps})[0][0, 1]

    zeros = jnp.zeros((1, 4, 6, 6))
    gradient = jax.grad(score)(zeros)
    direction = images(1, 4, 6, 6)
    slope = (score(0.5 * direction) - score(-0.5 * direction)) / 1.0  # linear behind the ReLU
    assert float(jnp.vdot(gradient, direction)) == pytest.approx(float(slope), rel=1e-4)
    assert score(zeros) == net.apply(net.params, x)[0][0, 1]


def test_a_tap_at_an_input(net):
    x = images(1, 3, 6, 6)
    (moved,) = net.apply(net.params, x, taps={"x": jnp.ones_like(x)})
    (expected,) = net.apply(net.params, x + 1)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


def test_any_value_can_be_asked_for_and_a_node_can_be_bypassed(net):
    x = images(1, 3, 6, 6)
    before, after = net.apply(net.params, x, outputs=["c", "r"])
    np.testing.assert_array_equal(after, np.maximum(before, 0))
    (same,) = net.apply(net.params, x, outputs=["r"], bypass=frozenset({"r"}))
    np.testing.assert_array_equal(same, before)


def test_unknown_names_and_wrong_counts_are_refused(net):
    x = images(1, 3, 6, 6)
    with pytest.raises(ArrayInputError, match="nearest: 'flat'"):
        net.apply(net.params, x, outputs=["flatt"])
    with pytest.raises(ArrayInputError, match="takes 1 inputs"):
        net.apply(net.params, x, x)


# Integers


def test_the_largest_int64_ends_a_slice_without_64_bits():
    constants = {
        "from": np.asarray([1], np.int64),
        "to": np.asarray([np.iinfo(np.int64).max], np.int64),
        "axis": np.asarray([1], np.int64),
    }
    nodes = [node("Slice", ["x", "from", "to", "axis"], ["y"])]
    model = load(model_of(nodes, [value("x", shape=("N", 4))], [value("y")], constants))
    (got,) = jax.jit(model.apply)({}, jnp.arange(8.0).reshape(2, 4))
    np.testing.assert_array_equal(got, [[1, 2, 3], [5, 6, 7]])


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**40])
def test_an_integer_that_does_not_fit_is_an_error(number):
    constants = {"big": np.asarray([number], np.int64)}
    nodes = [node("Add", ["x", "big"], ["y"])]
    model = load(model_of(nodes, [value("x", INT64)], [value("y", INT64)], constants))
    with pytest.raises(UnsupportedModelError, match=rf"{number}.*JAX_ENABLE_X64"):
        jax.jit(model.apply)({}, jnp.arange(3))


def test_a_big_integer_result_is_an_error_and_not_another_number():
    nodes = [node("Mul", ["x", "x"], ["y"])]
    model = load(model_of(nodes, [value("x", INT64)], [value("y", INT64)]))
    with pytest.raises(UnsupportedModelError, match="do not fit"):
        model.apply({}, np.asarray([2**20], np.int64))


def test_int64_is_int64_where_jax_has_it():
    nodes = [node("Shape", ["x"], ["s"]), node("ArgMax", ["x"], ["i"], axis=0, keepdims=0)]
    model = model_of(nodes, [value("x")], [value("s", INT64), value("i", INT64, ())])
    with jax.enable_x64(True):
        assert [y.dtype for y in run(model, [np.ones(3, np.float32)])] == [np.int64] * 2


# What is static, and what is too big


def test_a_shape_that_is_an_input_is_static_when_given_in_numpy():
    nodes = [node("Reshape", ["x", "shape"], ["y"])]
    model = model_of(nodes, [value("x"), value("shape", INT64)], [value("y")])
    loaded = load(model)
    x, shape = jnp.arange(6.0), np.asarray([2, 3])
    assert loaded.apply({}, x, shape)[0].shape == (2, 3)
    with pytest.raises(UnsupportedModelError, match=r"Reshape node 'y'.*'shape'.*numpy array"):
        jax.jit(loaded.apply)({}, x, jnp.asarray(shape))
    assert run(model, [np.arange(6, dtype=np.float32), shape])[0].shape == (2, 3)


HUGE = np.asarray([2**16, 2**16], np.int64)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", ["big"], ["y"])], {"big": HUGE}),
        ([node("Expand", ["one", "big"], ["y"])], {"big": HUGE, "one": np.float32(1)}),
        ([node("Tile", ["ones", "big"], ["y"])], {"big": HUGE, "ones": np.ones((1, 1))}),
        (
            [node("Range", ["zero", "end", "one"], ["y"])],
            {"zero": np.int64(0), "end": np.int64(2**40), "one": np.int64(1)},
        ),
        (
            [node("Range", ["zero", "end", "one"], ["y"])],
            {"zero": np.float32(0), "end": np.float32(np.inf), "one": np.float32(1)},
        ),
        (
            [node("OneHot", ["at", "depth", "values"], ["y"])],
            {"at": np.int64([0]), "depth": np.int64(2**40), "values": np.float32([0, 1])},
        ),
        (
            [node("Pad", ["ones", "pads"], ["y"])],
            {"ones": np.ones((1, 1), np.float32), "pads": np.int64([2**20] * 4)},
        ),
    ],
    ids=["ConstantOfShape", "Expand", "Tile", "Range", "Range-float", "OneHot", "Pad"],
)
def test_an_array_beyond_reason_is_refused_before_it_is_made(nodes, constants):
    model = model_of(nodes, [], [value("y")], constants)
    with pytest.raises(UnsupportedModelError, match="above the limit"):
        load(model)


def test_a_range_without_end_is_refused():
    constants = {"a": np.int64(0), "b": np.int64(9), "c": np.int64(0)}
    with pytest.raises(UnsupportedModelError, match="step of 0"):
        load(model_of([node("Range", ["a", "b", "c"], ["y"])], [], [value("y")], constants))


def test_constants_that_do_not_fit_each_other_are_a_load_error():
    constants = {"a": np.ones((2, 3), np.float32), "b": np.ones((4, 5), np.float32)}
    model = model_of([node("MatMul", ["a", "b"], ["y"])], [], [value("y")], constants)
    with pytest.raises(UnsupportedModelError, match=r"MatMul node 'y' .* float32\[2, 3\]"):
        load(model)


# Errors at load


def test_all_missing_operators_are_named_at_once():
    nodes = [
        node("NonMaxSuppression", ["x", "x"], ["a"], name="nms"),
        node("Strange", ["x"], ["b"], domain="my.ops"),
        node("Strange", ["b"], ["c"], domain="my.ops"),
        node("Relu", ["c"], ["y"]),
    ]
    model = model_of(nodes, [value("x")], [value("y")], domains=["my.ops"])
    with pytest.raises(UnsupportedModelError) as caught:
        load(model)
    for part in ("2 of", "ai.onnx.NonMaxSuppression (opset 18) at 'nms'", "my.ops.Strange"):
        assert part in str(caught.value)


def test_an_operator_inside_a_branch_is_missed_too():
    branch = body_of([node("Strange", ["x"], ["b"], domain="my.ops")], [], [value("b")])
    nodes = [node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    model = model_of(nodes, [value("x"), value("c", BOOL, ())], [value("y")], domains=["my.ops"])
    with pytest.raises(UnsupportedModelError, match=r"my\.ops\.Strange"):
        load(model)


def test_an_unknown_attribute_is_refused():
    @op("Fixed", domain="test.attributes")
    def fixed(xp, x, *, known=1):
        return x

    nodes = [node("Fixed", ["x"], ["y"], domain="test.attributes", strange=1)]
    model = model_of(nodes, [value("x")], [value("y")], domains=["test.attributes"])
    with pytest.raises(UnsupportedModelError, match=r"'strange'.*knows known"):
        load(model)


def test_an_output_that_the_rule_does_not_give_is_an_error():
    nodes = [node("Softmax", ["x"], ["y"])]
    model = model_of(nodes, [value("x")], [value("y")], domains=["test.outputs"])

    @op("Single", domain="test.outputs")
    def single(xp, x):
        return x

    model.graph.node[0].CopyFrom(node("Single", ["x"], ["y", "z"], domain="test.outputs"))
    with pytest.raises(UnsupportedModelError, match=r"2 outputs.*gives 1"):
        load(model).apply({}, jnp.ones(2))


def test_an_error_while_running_names_the_node():
    model = load(model_of([node("Add", ["a", "b"], ["y"])], [value("a"), value("b")], [value("y")]))
    with pytest.raises(UnsupportedModelError, match=r"Add node 'y' .* float32\[2\], float32\[3\]"):
        model.apply({}, jnp.ones(2), jnp.ones(3))


# Own operators, functions


def test_an_own_operator_runs_and_differentiates():
    @op("Cube", domain="test.own")
    def cube(xp, x, *, scale=1.0):
        return scale * x**3

    nodes = [node("Cube", ["x"], ["y"], domain="test.own", scale=2.0)]
    model = load(model_of(nodes, [value("x")], [value("y")], domains=["test.own"]))
    assert ("test.own", "Cube") in operators()
    x = jnp.asarray([1.0, 2.0])
    np.testing.assert_allclose(model.apply({}, x)[0], 2 * x**3)
    np.testing.assert_allclose(jax.grad(lambda x: model.apply({}, x)[0].sum())(x), 6 * x**2)


def test_a_later_rule_replaces_an_earlier_one():
    for factor in (2, 3):

        @op("Times", domain="test.replaced")
        def times(xp, x, factor=factor):
            return factor * x

    nodes = [node("Times", ["x"], ["y"], domain="test.replaced")]
    model = load(model_of(nodes, [value("x")], [value("y")], domains=["test.replaced"]))
    assert model.apply({}, jnp.ones(1))[0] == 3


def test_a_model_local_function_is_inlined():
    function = helper.make_function(
        "test.local",
        "Double",
        ["a"],
        ["b"],
        [node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    nodes = [node("Double", ["x"], ["y"], domain="test.local")]
    model = model_of(
        nodes, [value("x")], [value("y")], domains=["test.local"], functions=[function]
    )
    assert load(model).apply({}, jnp.ones(1))[0] == 2


def test_an_operator_without_a_rule_runs_through_its_function_body():
    assert ("", "SwiGLU") not in operators()
    inputs = [value("a"), value("b")]
    nodes = [node("SwiGLU", ["a", "b"], ["y"], alpha=2.0)]
    model = load(model_of(nodes, inputs, [value("y")], opset=onnx.defs.onnx_opset_version()))
    a, b = images(3), images(3)
    (got,) = jax.jit(model.apply)({}, a, b)
    swish = a * jax.nn.sigmoid(2 * a)
    np.testing.assert_allclose(got, swish * b, rtol=1e-6)


# Control flow


def if_model(constants=None):
    """x + 1 if the condition holds, else x * 10; the branches read x and w from outside."""
    then = body_of([node("Add", ["x", "one"], ["t"])], [], [value("t")], {"one": np.float32(1)})
    other = body_of([node("Mul", ["x", "ten"], ["e"])], [], [value("e")], {"ten": np.float32(10)})
    inputs = [value("x")] + ([] if constants else [value("c", BOOL, ())])
    nodes = [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    return load(model_of(nodes, inputs, [value("y")], constants))


@pytest.mark.parametrize(("condition", "expected"), [(True, 3.0), (False, 20.0)])
def test_if(condition, expected):
    x = jnp.asarray([2.0])
    assert if_model({"c": np.asarray(condition)}).apply({}, x)[0] == expected  # constant
    model = if_model()
    assert model.apply({}, x, np.asarray(condition))[0] == expected  # known at trace time
    assert jax.jit(model.apply)({}, x, jnp.asarray(condition))[0] == expected  # data
    slope = jax.grad(lambda x: model.apply({}, x, jnp.asarray(condition))[0].sum())(x)
    assert slope == (1 if condition else 10)


def test_if_on_data_needs_equal_shapes():
    then = body_of([node("Identity", ["x"], ["t"])], [], [value("t")])
    other = body_of([node("Concat", ["x", "x"], ["e"], axis=0)], [], [value("e")])
    nodes = [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    model = load(model_of(nodes, [value("x"), value("c", BOOL, ())], [value("y")]))
    with pytest.raises(UnsupportedModelError, match="different shapes"):
        model.apply({}, jnp.ones(2), jnp.asarray(True))
    assert model.apply({}, jnp.ones(2), np.asarray(False))[0].shape == (4,)


def loop_model(trips=None, stop_at=None, collect=False):
    """Double x in every round, until it reaches `stop_at` if that is given."""
    nodes = [node("Add", ["v", "v"], ["w"])]
    constants = {}
    if stop_at is None:
        nodes.append(node("Identity", ["on"], ["more"]))
    else:
        constants["bound"] = np.asarray(stop_at, np.float32)
        nodes.append(node("Less", ["w", "bound"], ["more"]))
    inputs = [value("i", INT64, ()), value("on", BOOL, ()), value("v", shape=())]
    outputs = [value("more", BOOL, ()), value("w", shape=())]
    if collect:
        nodes.append(node("Identity", ["v"], ["seen"]))
        outputs.append(value("seen", shape=()))
    results = ["y", "all"] if collect else ["y"]
    loop = node("Loop", ["m", "", "x"], results, body=body_of(nodes, inputs, outputs, constants))
    known = {} if trips is None else {"m": np.asarray(trips, np.int64)}
    outer = [value("x", shape=())] + ([] if known else [value("m", INT64, ())])
    return load(model_of([loop], outer, [value(name) for name in results], known))


def test_loop_of_known_length_is_written_out_and_collects():
    total, seen = jax.jit(loop_model(3, collect=True).apply)({}, 1.0)
    assert total == 8
    np.testing.assert_array_equal(seen, [1, 2, 4])
    assert jax.grad(lambda x: loop_model(3).apply({}, x)[0])(1.0) == 8


def test_long_loop_of_known_length_collects_and_differentiates():
    rounds = control.UNROLLED + 1
    model = loop_model(rounds, collect=True)
    assert model.apply({}, 2.0**-rounds)[1].shape == (rounds,)
    assert jax.grad(lambda x: model.apply({}, x)[1][6])(1.0) == 2**6


def test_loop_that_is_long_or_ends_with_the_data():
    assert loop_model(control.UNROLLED + 1).apply({}, 0.0)[0] == 0
    largest = np.iinfo(np.int64).max
    assert loop_model(largest, stop_at=50.0).apply({}, 1.0)[0] == 64
    assert loop_model(4, stop_at=50.0).apply({}, 1.0)[0] == 16
    assert jax.jit(loop_model().apply)({}, 1.0, jnp.asarray(5))[0] == 32


def test_loop_that_ends_with_the_data_cannot_collect():
    with pytest.raises(UnsupportedModelError, match="cannot collect"):
        loop_model(stop_at=50.0, collect=True).apply({}, 1.0, jnp.asarray(5))


def test_scan_goes_both_ways():
    body = body_of(
        [node("Add", ["s", "x"], ["t"]), node("Identity", ["t"], ["o"])],
        [value("s", shape=()), value("x", shape=())],
        [value("t", shape=()), value("o", shape=())],
    )
    for backwards, expected in ((0, [1, 3, 6]), (1, [3, 5, 6])):
        nodes = [
            node(
                "Scan",
                ["start", "xs"],
                ["last", "sums"],
                body=body,
                num_scan_inputs=1,
                scan_input_directions=[backwards],
            )
        ]
        inputs = [value("start", shape=()), value("xs")]
        model = load(model_of(nodes, inputs, [value("last", shape=()), value("sums")]))
        last, sums = jax.jit(model.apply)({}, jnp.asarray(0.0), jnp.asarray([1.0, 2.0, 3.0]))
        assert last == 6
        np.testing.assert_array_equal(sums, expected)
