"""Small graphs, one for each operator whose gradient is compared, in ONNX's own text form.

Each takes `x`, a float32 (2, 4, 6, 4), and gives `y`. Read by `make_onnx_ad.py` and by the test.
"""

import zlib

import numpy as np
from onnx import ModelProto, numpy_helper, parser, shape_inference

OPSET = 21
SHAPE = (2, 4, 6, 4)

ELEMENTWISE = (
    *("Relu", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "LeakyRelu", "HardSigmoid", "HardSwish"),
    *("Softplus", "Softsign", "Gelu", "Mish", "Erf", "Exp", "Abs", "Atan"),
    "ThresholdedRelu",
)
REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare")

GRAPHS = {
    **{name: (f"y = {name} (x)", {}) for name in ELEMENTWISE},
    **{
        f"Reduce{name}": (
            f"axes = Constant <value_ints = [2, 3]> () y = Reduce{name} (x, axes)",
            {},
        )
        for name in REDUCTIONS
    },
    "Sqrt": ("a = Exp (x) y = Sqrt (a)", {}),
    "Log": ("a = Exp (x) b = Add (a, a) y = Log (b)", {}),
    "Reciprocal": ("a = Exp (x) y = Reciprocal (a)", {}),
    "PRelu": ("y = PRelu (x, slope)", {"slope": (4, 1, 1)}),
    "Clip": (
        "low = Constant <value_float = -0.5> () high = Constant <value_float = 0.8> () "
        "y = Clip (x, low, high)",
        {},
    ),
    "Add": ("y = Add (x, w)", {"w": (4, 1, 1)}),
    "Sub": ("y = Sub (w, x)", {"w": (4, 1, 1)}),
    "Mul": ("a = Sigmoid (x) y = Mul (x, a)", {}),
    "Div": ("a = Exp (x) y = Div (w, a)", {"w": (4, 1, 1)}),
    "Pow": ("p = Constant <value_float = 3.0> () y = Pow (x, p)", {}),
    "Max": ("y = Max (x, w)", {"w": (4, 1, 1)}),
    "Min": ("y = Min (x, w)", {"w": (4, 1, 1)}),
    "Where": (
        "z = Constant <value_float = 0.2> () c = Less (x, z) a = Neg (x) y = Where (c, a, z)",
        {},
    ),
    "Conv": ("y = Conv <pads = [1, 1, 1, 1]> (x, w, b)", {"w": (6, 4, 3, 3), "b": (6,)}),
    "Conv strided": (
        "y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)",
        {"w": (6, 4, 3, 3)},
    ),
    "Conv uneven": (
        "y = Conv <pads = [0, 0, 1, 1], strides = [2, 2]> (x, w)",
        {"w": (6, 4, 3, 3)},
    ),
    "Conv dilated": (
        "y = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, w)",
        {"w": (6, 4, 3, 3)},
    ),
    "Conv pointwise": ("y = Conv <strides = [2, 2]> (x, w)", {"w": (6, 4, 1, 1)}),
    "Conv grouped": ("y = Conv <group = 2> (x, w)", {"w": (6, 2, 3, 3)}),
    "Conv depthwise": (
        "y = Conv <group = 4, pads = [2, 2, 2, 2], strides = [2, 2]> (x, w)",
        {"w": (4, 1, 5, 5)},
    ),
    "ConvTranspose": (
        "y = ConvTranspose <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)",
        {"w": (4, 3, 3, 3)},
    ),
    "MaxPool": ("y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)", {}),
    "MaxPool padded": (
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)",
        {},
    ),
    "AveragePool": (
        "y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)",
        {},
    ),
    "AveragePool of pads": (
        "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)",
        {},
    ),
    "MaxPool uneven": (
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]> (x)",
        {},
    ),
    "LpPool": ("y = LpPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", {}),
    "GlobalAveragePool": ("y = GlobalAveragePool (x)", {}),
    "GlobalMaxPool": ("y = GlobalMaxPool (x)", {}),
    "GlobalLpPool": ("y = GlobalLpPool (x)", {}),
    "BatchNormalization": (
        "y = BatchNormalization (x, scale, bias, mean, variance)",
        {"scale": (4,), "bias": (4,), "mean": (4,), "variance": (4,)},
    ),
    "InstanceNormalization": (
        "y = InstanceNormalization (x, scale, bias)",
        {"scale": (4,), "bias": (4,)},
    ),
    "LayerNormalization": (
        "y = LayerNormalization <axis = -1> (x, scale, bias)",
        {"scale": (4,), "bias": (4,)},
    ),
    "MeanVarianceNormalization": (
        "n = MeanVarianceNormalization (x) "
        "s = Constant <value_ints = [2, 4, 24]> () y = Reshape (n, s)",
        {},
    ),
    "LpNormalization": ("y = LpNormalization <axis = 1> (x)", {}),
    "LRN": ("y = LRN <size = 3, alpha = 0.1> (x)", {}),
    "Softmax": ("y = Softmax <axis = 1> (x)", {}),
    "LogSoftmax": ("y = LogSoftmax <axis = 1> (x)", {}),
    "Gemm": (
        "a = Flatten (x) y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (a, w, b)",
        {"w": (5, 96), "b": (5,)},
    ),
    "MatMul": ("y = MatMul (x, w)", {"w": (4, 5)}),
    "MatMul of itself": ("a = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul (x, a)", {}),
    "Einsum": ('y = Einsum <equation = "nchw,cd->ndhw"> (x, w)', {"w": (4, 3)}),
    "Concat": ("a = Neg (x) y = Concat <axis = 1> (x, a, x)", {}),
    "Split": ("a, b = Split <axis = 1, num_outputs = 2> (x) y = Mul (a, b)", {}),
    "Slice": (
        "s = Constant <value_ints = [1, 2]> () e = Constant <value_ints = [6, 3]> () "
        "axes = Constant <value_ints = [2, 3]> () steps = Constant <value_ints = [1, 1]> () "
        "y = Slice (x, s, e, axes, steps)",
        {},
    ),
    "Gather": ("i = Constant <value_ints = [3, 0, 3]> () y = Gather <axis = 1> (x, i)", {}),
    "Pad": ("p = Constant <value_ints = [0, 0, 1, 2, 0, 0, 0, 1]> () y = Pad (x, p)", {}),
    "Expand": (
        "a = GlobalAveragePool (x) s = Constant <value_ints = [2, 4, 3, 3]> () y = Expand (a, s)",
        {},
    ),
    "Tile": ("r = Constant <value_ints = [1, 1, 2, 1]> () y = Tile (x, r)", {}),
    "Reshape": ("s = Constant <value_ints = [2, -1, 8]> () y = Reshape (x, s)", {}),
    "DepthToSpace": ("y = DepthToSpace <blocksize = 2> (x)", {}),
    "SpaceToDepth": ("y = SpaceToDepth <blocksize = 2> (x)", {}),
    "CumSum": ("a = Constant <value_int = 2> () y = CumSum (x, a)", {}),
    "TopK": ("k = Constant <value_ints = [3]> () y, i = TopK (x, k)", {}),
    "Resize linear": (
        "s = Constant <value_floats = [1.0, 1.0, 2.0, 1.5]> () "
        'y = Resize <mode = "linear"> (x, , s)',
        {},
    ),
    "Resize cubic": (
        "s = Constant <value_floats = [1.0, 1.0, 2.0, 1.5]> () "
        'y = Resize <mode = "cubic", coordinate_transformation_mode = "align_corners"> (x, , s)',
        {},
    ),
    "Resize nearest": (
        "s = Constant <value_floats = [1.0, 1.0, 2.0, 0.5]> () y = Resize (x, , s)",
        {},
    ),
    "GridSample": ("g = Tanh (w) y = GridSample (x, g)", {"w": (2, 5, 5, 2)}),
    "residual network": (
        "a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) r1 = Relu (a) "
        "b = Conv <pads = [1, 1, 1, 1]> (r1, w2, b2) s = Add (b, x) r2 = Relu (s) "
        "q = GlobalAveragePool (r2) e = Conv (q, w3) g = Sigmoid (e) h = Mul (r2, g) "
        "m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (h) p = GlobalAveragePool (m) "
        "f = Flatten (p) l = Gemm (f, w4, b4) y = Softmax (l)",
        {
            **{"w1": (6, 4, 3, 3), "b1": (6,), "w2": (4, 6, 3, 3), "b2": (4,), "w3": (4, 4, 1, 1)},
            **{"w4": (4, 5), "b4": (5,)},
        },
    ),
    "attention": (
        "s = Constant <value_ints = [2, 4, 24]> () c = Reshape (x, s) "
        "t = Transpose <perm = [0, 2, 1]> (c) n = LayerNormalization (t, scale, bias) "
        "q = MatMul (n, wq) k = MatMul (n, wk) v = MatMul (n, wv) "
        "kt = Transpose <perm = [0, 2, 1]> (k) z = MatMul (q, kt) a = Softmax <axis = -1> (z) "
        "o = MatMul (a, v) r = Add (o, t) g = Gelu (r) y = MatMul (g, wo)",
        {
            **{"scale": (4,), "bias": (4,), "wq": (4, 4), "wk": (4, 4), "wv": (4, 4)},
            "wo": (4, 3),
        },
    ),
}
"""For each name the body of the graph, and the shapes of its weights."""


def small_model(name: str) -> ModelProto:
    """The model of that name, its weights drawn from a seed of its own."""
    body, shapes = GRAPHS[name]
    sizes = ", ".join(map(str, SHAPE))
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {OPSET}]> '
        f"small (float[{sizes}] x) => (float y) {{ {body} }}"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    for weight, shape in shapes.items():
        array = draw.normal(size=shape) * np.prod(shape[1:]) ** -0.5
        array = 0.5 + np.abs(array) if weight == "variance" else array
        model.graph.initializer.append(numpy_helper.from_array(np.float32(array), weight))
    return shape_inference.infer_shapes(model)


def small_input() -> np.ndarray:
    """What every small model is given."""
    return np.random.default_rng(7).normal(size=SHAPE).astype(np.float32)


def weights_of(y: np.ndarray) -> np.ndarray:
    """What the outputs are multiplied by before they are summed to the number to differentiate."""
    return np.random.default_rng(8).normal(size=y.shape).astype(np.float32)
