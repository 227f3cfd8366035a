"""LSTM, GRU and RNN: ONNX Runtime's values, and central differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxjax import load

STEPS, BATCH, WIDTH, SIZE = 6, 3, 4, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
PARAMETRIC = {
    "LSTM": ["HardSigmoid", "LeakyRelu", "ScaledTanh"],
    "GRU": ["HardSigmoid", "LeakyRelu"],
    "RNN": ["Elu"],
}
BACKWARDS = {"LSTM": ["Softsign", "Tanh", "Relu"], "GRU": ["Softsign", "Tanh"], "RNN": ["Relu"]}
ALPHA = {"LSTM": [0.3, 0.2, 0.9], "GRU": [0.3, 0.2], "RNN": [0.7]}
BETA = {"LSTM": [0.4, 0.8], "GRU": [0.4], "RNN": []}


def layer(operator, *, opset=14, given=(), dtype=np.float32, lengths=(6, 2, 4), **attributes):
    """Build a layer, and return the model and its inputs.

    Args:
        operator: LSTM, GRU or RNN.
        opset: the opset.
        given: the optional inputs to give, of B, lengths, states and P.
        dtype: the type of the numbers.
        lengths: the lengths of the sequences.
        attributes: those of the node.
    """
    rng = np.random.default_rng(4)
    n = 2 if attributes.get("direction") == "bidirectional" else 1
    is_first = attributes.get("layout")
    state = (BATCH, n, SIZE) if is_first else (n, BATCH, SIZE)
    rows = GATES[operator] * SIZE
    shapes = {"X": (BATCH, STEPS, WIDTH) if is_first else (STEPS, BATCH, WIDTH)}
    shapes |= {"W": (n, rows, WIDTH), "R": (n, rows, SIZE), "B": (n, 2 * rows)}
    shapes |= {"h": state, "c": state, "P": (n, 3 * SIZE)}
    arrays = {name: rng.normal(size=s).astype(dtype) * 0.7 for name, s in shapes.items()}
    arrays["lengths"] = np.array(lengths, np.int32)
    order = ["X", "W", "R", "B", "lengths", "h", *(["c", "P"] if operator == "LSTM" else [])]
    names = [name if name in {"X", "W", "R", *given} else "" for name in order]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + STATES[operator]]
    attributes = {name: setting for name, setting in attributes.items() if setting != []}
    node = helper.make_node(operator, names, outputs, hidden_size=SIZE, **attributes)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("X", kind, shapes["X"])],
        [
            helper.make_tensor_value_info(name, kind, [None] * rank)
            for name, rank in zip(outputs, (4, 3, 3), strict=False)
        ],
        [numpy_helper.from_array(arrays[name], name) for name in names if name not in ("", "X")],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), arrays["X"]


def forms(operator):
    """Return the options of a layer by a name for each test."""
    ways = 1 + (operator == "LSTM")
    states = ["h", "c"][:ways]
    found = {
        "plain": {},
        "bias": {"given": ["B"]},
        "opset 7": {"given": ["B"], "opset": 7},
        "opset 22": {"given": ["B"], "opset": 22},
        "reverse": {"given": ["B"], "direction": "reverse"},
        "both ways": {"given": ["B", *states], "direction": "bidirectional"},
        "lengths": {"given": ["B", "lengths", *states]},
        "lengths, reverse": {"given": ["B", "lengths", *states], "direction": "reverse"},
        "lengths, both ways": {
            "given": ["B", "lengths", *states],
            "direction": "bidirectional",
        },
        "clip": {"given": ["B"], "clip": 0.4},
        "functions": {
            "given": ["B"],
            "activations": PARAMETRIC[operator],
            "activation_alpha": ALPHA[operator],
            "activation_beta": BETA[operator],
        },
        "functions, both ways": {
            "given": ["B"],
            "direction": "bidirectional",
            "activations": [
                *PARAMETRIC[operator],
                *["Softsign", "Tanh", "Relu"][: len(PARAMETRIC[operator])],
            ],
            "activation_alpha": ALPHA[operator],
            "activation_beta": BETA[operator],
        },
    }
    if operator == "GRU":
        found["linear before reset"] = {"given": ["B", "h"], "linear_before_reset": 1}
    if operator == "LSTM":
        found["peepholes"] = {"given": ["B", "h", "c", "P"]}
        found["peepholes, clip"] = {"given": ["B", "h", "c", "P"], "clip": 0.5}
        found["coupled"] = {"given": ["B", "P"], "input_forget": 1}
    return found


CASES = [
    pytest.param(operator, options, id=f"{operator}, {name}".replace(" ", "-"))
    for operator in GATES
    for name, options in forms(operator).items()
]


@pytest.mark.parametrize(("operator", "options"), CASES)
def test_a_layer_gives_what_onnx_runtime_gives(operator, options):
    proto, x = layer(operator, **options)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"X": x})
    model = load(proto)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(model.apply)(model.params, x)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=5e-6 * np.abs(other).max())


DIFFERENTIATED = ("lengths, both ways", "clip", "functions", "linear before reset", "coupled")


@pytest.mark.parametrize(
    ("operator", "options"),
    [case for case in CASES if case.id.partition(",-")[2].replace("-", " ") in DIFFERENTIATED],
)
def test_the_gradient_is_that_of_central_differences(operator, options):
    with jax.enable_x64(True):
        proto, x = layer(operator, dtype=np.float64, **options)
        model = load(proto)
        rng = np.random.default_rng(5)
        along = rng.normal(size=x.shape)
        shapes = jax.eval_shape(model.apply, model.params, x)
        seeds = [rng.normal(size=y.shape) for y in shapes]

        @jax.jit
        def score(x):
            outputs = model.apply(model.params, x)
            return sum(jnp.vdot(seed, y) for seed, y in zip(seeds, outputs, strict=True))

        slope = np.vdot(jax.jit(jax.grad(score))(x), along)
        step = 1e-6
        expected = (score(x + step * along) - score(x - step * along)) / (2 * step)
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize("operator", GATES)
def test_the_batch_may_come_first(operator):
    """ONNX Runtime does not run layout 1."""
    options = {"given": ["B", "lengths"], "direction": "bidirectional"}
    proto, x = layer(operator, **options)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"X": x})
    proto.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    proto.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("X", TensorProto.FLOAT, [BATCH, STEPS, WIDTH])
    )
    model = load(proto)
    y, *last = model.apply(model.params, x.swapaxes(0, 1))
    np.testing.assert_allclose(y, expected[0].transpose(2, 0, 1, 3), atol=5e-6)
    for one, other in zip(last, expected[1:], strict=True):
        np.testing.assert_allclose(one, other.swapaxes(0, 1), atol=5e-6)


def test_an_unknown_activation_is_named():
    proto, x = layer("RNN", activations=["Swirl"])
    model = load(proto)
    with pytest.raises(NotImplementedError, match=r"RNN node 'Y'.*'Swirl' is not supported, only"):
        model.apply(model.params, x)
