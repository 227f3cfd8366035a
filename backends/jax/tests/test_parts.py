"""Tokens that nothing reads are not computed: the same numbers from smaller products."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from xaimaps_jax import _program
from xaimaps_jax._calls import equations_in

import xaimaps
from xaimaps.graph import INPUT
from xaimaps.targets import as_target

DRAW = np.random.default_rng(0)
IMAGES = DRAW.normal(size=(3, 8, 8, 3)).astype(np.float32)
WEIGHTS = {
    **dict.fromkeys(("wq", "wk", "wv", "wo"), (8, 8)),
    **dict.fromkeys(("g1", "b1", "g2", "b2", "g3", "b3"), (8,)),
    "wp": (8, 3, 2, 2),
    "token": (1, 1, 8),
    "w1": (8, 32),
    "c1": (32,),
    "w2": (32, 8),
    "c2": (8,),
    "positions": (1, 17, 8),
    "mixing": (17, 17),
    "head": (8, 5),
}
WEIGHTS = {name: (0.5 * DRAW.normal(size=n)).astype(np.float32) for name, n in WEIGHTS.items()}
SHAPES = {
    "zero": 0,
    "one": [1],
    "last_start": [16],
    "last_stop": [17],
    "two": [2],
    "start": [0],
    "five": 5,
    "one_eight": [1, 8],
    "flat_shape": [0, 8, -1],
    "heads_shape": [0, 0, 2, 4],
    "merged_shape": [0, 0, 8],
    "rows_shape": [-1, 8],
    "tokens_shape": [-1, 17, 8],
}

ATTENTION = """
    patches = Conv <strides = [2, 2]> (x, wp)
    flat = Reshape (patches, flat_shape)
    places = Transpose <perm = [0, 2, 1]> (flat)
    batch = Shape <start = 0, end = 1> (x)
    size = Concat <axis = 0> (batch, one_eight)
    extra = Expand (token, size)
    tokens = Concat <axis = 1> (extra, places)
    norm = LayerNormalization (tokens, g1, b1)
    q = MatMul (norm, wq)
    k = MatMul (norm, wk)
    v = MatMul (norm, wv)
    q1 = Reshape (q, heads_shape)
    k1 = Reshape (k, heads_shape)
    v1 = Reshape (v, heads_shape)
    q2 = Transpose <perm = [0, 2, 1, 3]> (q1)
    k2 = Transpose <perm = [0, 2, 3, 1]> (k1)
    v2 = Transpose <perm = [0, 2, 1, 3]> (v1)
    scores = MatMul (q2, k2)
    weights = Softmax <axis = -1> (scores)
    mixed = MatMul (weights, v2)
    mixed1 = Transpose <perm = [0, 2, 1, 3]> (mixed)
    mixed2 = Reshape (mixed1, merged_shape)
    out = MatMul (mixed2, wo)
    block = Add (out, tokens)
"""
BEHIND = {
    "dense": """
        norm2 = LayerNormalization (block, g2, b2)
        wide = MatMul (norm2, w1)
        act = Relu (wide)
        narrow = MatMul (act, w2)
        last = Add (narrow, block)
    """,
    "rows": """
        mean = GlobalAveragePool (block)
        centred = Sub (block, mean)
        rows = Reshape (centred, rows_shape)
        wide = Gemm (rows, w1, c1)
        act = Erf (wide)
        narrow = Gemm (act, w2, c2)
        back = Reshape (narrow, tokens_shape)
        last = Add (back, block)
    """,
    "skip": """
        norm2, mean2, inverse2, total = com.microsoft.SkipLayerNormalization (out, tokens, g2, b2)
        wide = MatMul (norm2, w1)
        act = Relu (wide)
        narrow = MatMul (act, w2)
        last = Add (narrow, total)
    """,
    "positions": "last = Add (block, positions)",
    "mixing": "last = MatMul (mixing, block)",
    "squared": "turned = Transpose <perm = [0, 2, 1]> (block) gram = MatMul (block, turned)"
    " last = MatMul (gram, block)",
}
READ = {
    "first": "read = Gather <axis = 1> (last, zero)",
    "last": "kept = Slice (last, last_start, last_stop, one) read = Squeeze (kept, one)",
    "patch": "read = Gather <axis = 1> (last, five)",
    "two": "kept = Slice (last, start, two, one) read = ReduceMean <keepdims = 0> (kept, one)",
    "grid": "kept = Slice (last, one, last_stop, one) read = ReduceMean <keepdims = 0> (kept, one)",
    "each": "a = Gather <axis = 1> (last, zero) b = Gather <axis = 1> (last, five)"
    " read = Add (a, b)",
    "all": "read = ReduceMean <keepdims = 0> (last, one)",
}


def model(behind, read, batch="N"):
    text = f"""
        <ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]>
        network (float[{batch}, 3, 8, 8] x) => (float[{batch}, 5] y) {{
            {ATTENTION} {BEHIND[behind]} {READ[read]}
            normed = LayerNormalization (read, g3, b3)
            y = MatMul (normed, head)
        }}
    """
    proto = parser.parse_model(text)
    weights = {**WEIGHTS, **{name: np.array(n, np.int64) for name, n in SHAPES.items()}}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    for node in proto.graph.node:
        if node.op_type == "SkipLayerNormalization":
            node.output[1] = node.output[2] = ""
    onnx.checker.check_model(proto)
    return proto


def whole(monkeypatch):
    """Run every node on all of its inputs."""
    monkeypatch.setattr(_program, "in_parts", lambda *arguments: arguments[-1])


def gradient(backend, wrt, images=IMAGES):
    return backend.grad(images, as_target(1, len(images), None), wrt=wrt).gradients


@pytest.mark.parametrize(
    ("behind", "read"),
    [
        *(("dense", read) for read in READ),
        ("rows", "last"),
        ("rows", "two"),
        ("skip", "first"),
        ("positions", "patch"),
        ("mixing", "first"),
        ("squared", "patch"),
    ],
)
def test_scores_and_gradients_are_those_of_all_tokens(behind, read, monkeypatch):
    proto = model(behind, read)
    backend = xaimaps.load(proto, backend="jax")
    runtime = xaimaps.load(proto, backend="onnxruntime")
    np.testing.assert_allclose(backend.forward(IMAGES), runtime.forward(IMAGES), atol=1e-5)
    layers = {layer.name for layer in backend.network.all_layers()}
    names = (INPUT, *(name for name in ("tokens", "norm", "block", "last") if name in layers))
    found = {name: gradient(backend, name) for name in names}
    kept = backend.forward_with_activations(IMAGES, names[1:])[1]
    assert np.any(found["norm"])
    whole(monkeypatch)
    plain = xaimaps.load(proto, backend="jax")
    values = plain.forward_with_activations(IMAGES, names[1:])[1]
    for name in names:
        np.testing.assert_allclose(found[name], gradient(plain, name), atol=1e-6)
    for name, value in values.items():
        np.testing.assert_allclose(kept[name], value, atol=1e-6)


def test_a_file_for_one_image_runs_on_the_tokens_that_are_read():
    backend = xaimaps.load(model("rows", "first", batch=1), backend="jax")
    plain = xaimaps.load(model("rows", "first"), backend="jax")
    np.testing.assert_allclose(backend.forward(IMAGES), plain.forward(IMAGES), atol=1e-5)
    found, expected = (gradient(one, "norm") for one in (backend, plain))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def products(backend, images):
    """Return the multiplications of all matrix products in a forward pass."""
    body = jax.make_jaxpr(backend.forward)(images)
    found = 0
    for equation in equations_in(body):
        if equation.primitive.name == "dot_general":
            ((axes, _), _) = equation.params["dimension_numbers"]
            left, _ = (atom.aval.shape for atom in equation.invars)
            summed = np.prod([left[axis] for axis in axes])
            found += int(np.prod(equation.outvars[0].aval.shape) * summed)
    return found


PATCHES, KEYS, HEAD = 16 * 12 * 8, 2 * 17 * 64, 40
"""The multiplications of one image, whichever token is read."""

ONE = 64 + 17 * 8 + 17 * 8 + 64
"""Those of one token's query, its similarities, its mean of the values, and the matrix behind."""


@pytest.mark.parametrize(
    ("behind", "read", "each"),
    [
        *(("dense", read, ONE + 2 * 256) for read in ("first", "last", "patch")),
        *(("rows", read, ONE + 2 * 256) for read in ("first", "last", "patch")),
        ("dense", "two", 2 * (ONE + 2 * 256)),
        *(("dense", read, 17 * (ONE + 2 * 256)) for read in ("each", "all", "grid")),
        ("skip", "first", ONE + 2 * 256),
        ("positions", "patch", ONE),
        ("mixing", "first", 17 * (ONE + 17 * 8)),
    ],
)
def test_only_the_tokens_that_are_read_are_multiplied(behind, read, each):
    backend = xaimaps.load(model(behind, read), backend="jax")
    assert products(backend, IMAGES[:2]) == 2 * (PATCHES + KEYS + HEAD + each)


def softmax(scores):
    scores = jnp.exp(scores)
    return scores / scores.sum(axis=-1, keepdims=True)


def function(params, x, act=jnp.tanh, normalised=softmax):
    """The same network with the class token read, without normalisations."""
    patches = x.reshape(len(x), 4, 2, 4, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(len(x), 16, 12)
    patches = patches @ params["wp"].reshape(8, 12).T
    token = jnp.broadcast_to(params["token"], (len(x), 1, 8))
    tokens = jnp.concatenate([token, patches], axis=1) + params["positions"]
    q, k, v = (
        (tokens @ params[name]).reshape(len(x), 17, 2, 4).transpose(0, 2, 1, 3)
        for name in ("wq", "wk", "wv")
    )
    mixed = (
        (normalised(q @ k.transpose(0, 1, 3, 2) / 4) @ v)
        .transpose(0, 2, 1, 3)
        .reshape(len(x), 17, 8)
    )
    block = mixed @ params["wo"] + tokens
    wide = act(block @ params["w1"] + params["c1"])
    return (wide @ params["w2"] + block)[:, 0] @ params["head"]


def test_the_structure_of_a_function_may_depend_on_its_batch():
    """The analysis is of two images; it says nothing about the equations for another number."""

    def first_of_two(params, x):
        tokens = jnp.concatenate([jnp.ones((len(x), 1, 3)), x.reshape(len(x), 64, 3)], axis=1)
        tokens = jnp.tanh(tokens @ params["wp"][:3, :, 0, 0])
        return tokens[:, 0 if len(x) == 2 else 5] @ params["wp"][:3, :, 0, 0]

    backend = xaimaps.load(first_of_two, params=WEIGHTS, input_shape=(8, 8, 3))
    for count in (1, 2, 3):
        expected = first_of_two(WEIGHTS, IMAGES[:count])
        np.testing.assert_allclose(backend.forward(IMAGES[:count]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("act", "normalised", "each"),
    [
        *((one, softmax, ONE + 2 * 256) for one in (jnp.tanh, jax.nn.gelu, jax.nn.silu)),
        *((one, softmax, ONE + 2 * 256) for one in (jax.nn.relu, jax.nn.relu6, jax.nn.elu)),
        # JAX's softmax is a call with a derivative of its own, which runs on all queries
        (jnp.tanh, jax.nn.softmax, 17 * (64 + 17 * 8) + 17 * 8 + 64 + 2 * 256),
    ],
)
def test_a_function_multiplies_the_tokens_that_are_read(act, normalised, each):
    fn = functools.partial(function, act=act, normalised=normalised)
    backend = xaimaps.load(fn, params=WEIGHTS, input_shape=(8, 8, 3))
    assert products(backend, IMAGES[:2]) == 2 * (PATCHES + KEYS + HEAD + each)
    np.testing.assert_allclose(backend.forward(IMAGES), fn(WEIGHTS, IMAGES), atol=1e-5)
    expected = jax.grad(lambda x: fn(WEIGHTS, x)[:, 1].sum())(IMAGES)
    np.testing.assert_allclose(gradient(backend, INPUT), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_every_precision_multiplies_the_tokens_that_are_read(precision, monkeypatch):
    proto = model("rows", "first")
    backend = xaimaps.load(proto, backend="jax", precision=precision)
    assert products(backend, IMAGES[:2]) == 2 * (PATCHES + KEYS + HEAD + ONE + 2 * 256)
    found = gradient(backend, INPUT)
    whole(monkeypatch)
    plain = gradient(xaimaps.load(proto, backend="jax", precision=precision), INPUT)
    np.testing.assert_allclose(found, plain, rtol=0.05, atol=0.02 * np.abs(plain).max())


def test_the_gradient_of_weights_is_that_of_all_tokens(monkeypatch):
    backend = xaimaps.load(model("dense", "first"), backend="jax")

    def score(params):
        return backend._program.apply(params, jnp.asarray(IMAGES), (), None)[0][:, 1].sum()

    found = jax.grad(score, allow_int=True)(backend.params)
    whole(monkeypatch)
    expected = jax.grad(score, allow_int=True)(backend.params)
    assert {"w1", "wo", "wv", "head"} <= found.keys()
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    for name in WEIGHTS.keys() & found.keys():
        jax.tree.map(close, found[name], expected[name])
