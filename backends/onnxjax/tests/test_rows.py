"""What each operator's row says, and that nothing else has to know an operator's name."""

import jax
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load, op
from onnxjax.registry import Rule, describe, find_rule, find_traits, operators

NEWEST = 10**6

VIEWS = frozenset("Identity Dropout Cast Reshape Flatten Squeeze Unsqueeze".split())
BOUNDED = frozenset(
    "Add And Cast Ceil Concat DequantizeLinear Div Equal Exp Floor Gather Greater Identity Less "
    "Log Max Min Mod Mul Neg Not Or Pow QuantizeLinear ReduceProd ReduceSum Reshape Shape Size "
    "Slice Split Sqrt Squeeze Sub Transpose Unsqueeze Where".split()
)
HOMOGENEOUS = VIEWS | frozenset(
    "Relu LeakyRelu PRelu MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum "
    "Transpose Split Slice Expand Resize DepthToSpace SpaceToDepth Neg".split()
)
PLANAR = frozenset(
    "AveragePool BatchNormalization Conv ConvTranspose LRN LpPool MaxPool GlobalAveragePool "
    "GlobalMaxPool InstanceNormalization GroupNormalization DepthToSpace SpaceToDepth QLinearConv "
    "FusedConv DeformConv QLinearGlobalAveragePool QLinearAveragePool".split()
)
STEPS = frozenset(
    "And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Equal Floor "
    "Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual NonZero Not OneHot Or Round Sign "
    "Xor".split()
)
INTEGER = {
    "Conv": ("", "QLinearConv"),
    "MatMul": ("", "QLinearMatMul"),
    "Gemm": ("com.microsoft", "QGemm"),
    "Add": ("com.microsoft", "QLinearAdd"),
    "Mul": ("com.microsoft", "QLinearMul"),
    "GlobalAveragePool": ("com.microsoft", "QLinearGlobalAveragePool"),
}
RECTIFIERS = frozenset("Relu Clip LeakyRelu PRelu ThresholdedRelu Elu Selu Celu".split())
WEIGHING = frozenset(
    "Conv ConvTranspose DeformConv ConvInteger QLinearConv Gemm MatMul Einsum MatMulInteger "
    "QLinearMatMul LSTM GRU RNN If Loop Scan".split()
)
LINEAR = frozenset(
    "Add Sub Sum Concat Pad Gemm BatchNormalization MatMul Mul Conv ConvTranspose".split()
)
"""The tables of names that this project kept before it had one row per operator."""


def rows() -> dict[str, Rule]:
    """The newest rule of each operator of the two domains, by name."""
    found = {}
    for domain, name in operators():
        if domain in ("", "com.microsoft"):
            rule = find_rule(domain, name, NEWEST)
            assert rule is not None
            found[name] = rule
    return found


def having(trait):
    return {name for name, rule in rows().items() if trait(rule)}


def of_kind(*kinds):
    return having(lambda rule: rule.kind in kinds)


def test_what_was_bounded_is_and_so_is_every_elementwise_operator():
    found = having(lambda rule: rule.bounded or rule.elementwise)
    assert found >= BOUNDED
    elementwise = having(lambda rule: rule.elementwise)
    reductions = {name for name in rows() if name.startswith("Reduce")}
    assert found - BOUNDED - elementwise == reductions - BOUNDED


def test_what_was_homogeneous_is_and_what_scales_with_its_input():
    found = having(lambda rule: rule.homogeneous)
    # They were computed as `h - J x`, which is the rounding error of 0.
    forgotten = (
        "Abs CastLike CenterCropPad Col2Im Compress CumSum Gather GatherElements GatherND "
        "GlobalLpPool LpPool MaxUnpool NhwcMaxPool ReduceL1 ReduceL2 ReduceMax ReduceMin Tile TopK "
        "Trilu Upsample"
    )
    assert found == HOMOGENEOUS | {*forgotten.split()}


def test_what_was_linear_is():
    # The bias of a mean of tensors, of a quotient and of an einsum was a rounding error too.
    forgotten = {"Div", "Einsum", "FusedMatMul", "Mean", "TransposeMatMul"}
    assert having(lambda rule: rule.linear) == LINEAR | forgotten


def test_what_was_planar_is_and_what_has_the_same_axes():
    # GridSample and the pools of Lp norms were taken for elementwise operators.
    forgotten = {"ConvInteger", "GlobalLpPool", "GridSample", "MaxUnpool"}
    assert having(lambda rule: rule.planar) == PLANAR | forgotten


def test_what_has_no_derivative():
    assert having(lambda rule: not rule.differentiable) == STEPS
    assert find_traits("", "RandomNormalLike")["differentiable"] is False


def test_integer_operators():
    found = {name: rule.integer for name, rule in rows().items() if rule.integer}
    assert found == INTEGER
    assert all(find_rule(*integer, NEWEST) for integer in INTEGER.values())


def test_kinds_cover_the_old_tables():
    assert of_kind("view") == VIEWS | {"CastLike"}
    assert of_kind("relu") == RECTIFIERS | {"QLinearLeakyRelu"}
    assert of_kind("size") == {"Shape", "Size", "EyeLike"}
    described = {name for name in ("LSTM", "GRU", "RNN") if find_traits("", name)}
    # What ONNX Runtime fuses has weights as well.
    fused = (
        "DynamicQuantizeMatMul FusedConv FusedGemm FusedMatMul MatMulIntegerToFloat QGemm "
        "TransposeMatMul"
    )
    weighing = of_kind("conv", "dense", "matmul", "einsum", "recurrent", "control") | described
    assert weighing == WEIGHING | {*fused.split()}
    assert of_kind("quantize", "dequantize") == {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    }
    assert of_kind("softmax", "sigmoid") == {
        *("Softmax", "LogSoftmax", "Sigmoid", "QLinearSoftmax", "QLinearSigmoid"),
    }


def test_what_is_of_no_kind_is_known():
    others = (
        "AffineGrid Col2Im ConstantOfShape CumProd CumSum Det GridSample Hardmax MaxUnpool "
        "NonZero OneHot Range Scatter ScatterElements ScatterND Unique"
    )
    assert of_kind("other") == {*others.split()}


def test_every_opset_of_an_operator_has_the_same_traits():
    for domain, name in operators():
        rules = [find_rule(domain, name, opset) for opset in range(1, 30)]
        kinds = {(r.kind, r.homogeneous, r.linear, r.differentiable, r.planar) for r in rules if r}
        assert len(kinds) == 1, name


def test_a_function_body_has_the_traits_of_its_operator():
    names = {"q": ["N", 1, 4, 8], "k": ["N", 1, 4, 8], "v": ["N", 1, 4, 8]}
    graph = helper.make_graph(
        [helper.make_node("Attention", [*names], ["y"])],
        "attention",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in names.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
    )
    opsets = [helper.make_opsetid("", 23)]
    (node,) = load(helper.make_model(graph, opset_imports=opsets, ir_version=10)).graph.nodes
    assert node.rule.kind == "attention"


@pytest.fixture
def my_relu():
    @op("MyRelu", domain="com.example", kind="relu", elementwise=True, homogeneous=True)
    def my_relu(xp, x):
        return xp.where(x > 0, x, xp.zeros_like(x))


def test_an_operator_of_ones_own_has_every_right_of_a_built_in(my_relu):
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("MyRelu", ["a"], ["b"], domain="com.example"),
            helper.make_node("Conv", ["b", "v"], ["y"]),
        ],
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [
            numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w"),
            numpy_helper.from_array(np.ones((8, 8, 3, 3), np.float32), "v"),
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    loaded = load(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    rule = loaded.graph.nodes[1].rule
    assert (rule.kind, rule.homogeneous, rule.differentiable) == ("relu", True, True)
    own = find_rule("com.example", "MyRelu", 1)
    assert own is not None
    assert rule.fn is not own.fn, "it runs in the order of axes of the convolutions"
    x = np.random.default_rng(0).normal(size=(1, 3, 9, 9)).astype(np.float32)
    (result,) = jax.jit(loaded.apply)(loaded.params, x)
    assert result.shape == (1, 8, 5, 5)


def test_a_rule_that_replaces_ours_is_described_as_ours(monkeypatch):
    monkeypatch.setattr("onnxjax.registry._RULES", {("", "Relu"): []})

    @op("Relu")
    def relu(xp, x):
        return x

    rule = find_rule("", "Relu", 14)
    assert rule is not None
    assert (rule.fn, rule.kind, rule.elementwise) == (relu, "relu", False)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"must be one of view, .*, got 'conw'"):
        describe("X", domain="com.example", kind="conw")
    with pytest.raises(TypeError, match="no trait 'homogenous' of X; the traits are kind, homog"):
        op("X", domain="com.example", homogenous=True)
