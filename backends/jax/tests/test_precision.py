"""Float32, tf32 and bfloat16: the same promise in every way to compute with a model."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxjax
import pytest
from xaimaps_jax import function
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps.errors import BackendError
from xaimaps.methods import METHODS
from xaimaps.targets import Classes
from xaimaps.testing import ReferenceBackend, pooled_network

NETWORK = pooled_network()
IMAGES = np.random.default_rng(0).normal(size=(2, *NETWORK.input_shape)).astype(np.float32)
TARGET = Classes(np.array([0, 2], np.int32))
PRECISIONS = ("float32", "tf32", "bfloat16")


def block(x, weights):
    """A residual layer, written as functions that JAX calls and does not inline."""
    return x + jax.nn.relu(jax.jit(jnp.matmul)(x, weights)), None


def scanned(params, x):
    """Equal blocks in a scan, a softmax over positions, and a dense layer."""
    y, _ = jax.lax.scan(block, x, params["blocks"])
    weights = jax.nn.softmax(y, axis=(1, 2))
    return jax.checkpoint(lambda y: (y * weights).sum((1, 2)))(y) @ params["dense"]


PARAMS = {
    "blocks": np.random.default_rng(1).normal(size=(2, 3, 3)).astype(np.float32),
    "dense": np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32),
}


def of_file(precision="float32"):
    return xaimaps.load(as_onnx(NETWORK), backend="jax", precision=precision)


def of_function(precision="float32"):
    return xaimaps.load(scanned, PARAMS, input_shape=IMAGES.shape[1:], precision=precision)


SOURCES = {"file": of_file, "function": of_function}


def by(name):
    """A method, called directly."""
    return lambda m: lambda x: METHODS[name].fn(m, x, TARGET).maps


WAYS = {
    "forward": lambda m: m.forward,
    "gradient": lambda m: lambda x: m.grad(x, TARGET),
    "layer": lambda m: lambda x: m.grad(x, TARGET, wrt=m.layers()[0].name),
    "biases": lambda m: lambda x: m.biases(x, TARGET),
    "guided": by("guided_backprop"),
    "relevance": by("lrp"),
    "jit": lambda m: lambda x: jax.jit(function(m, "saliency"))(m.params, x, TARGET.indices),
}


def equations(jaxpr):
    """Every equation, those of called functions included."""
    for one in jaxpr.eqns:
        yield one
        for inner in jax.tree.leaves(
            list(one.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            if hasattr(inner, "jaxpr") or hasattr(inner, "eqns"):
                yield from equations(getattr(inner, "jaxpr", inner))


def products(fn, *arguments):
    """The products of a function."""
    names = ("dot_general", "conv_general_dilated")
    traced = jax.make_jaxpr(fn)(*arguments).jaxpr
    found = [one for one in equations(traced) if one.primitive.name in names]
    assert found
    return found


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("precision", "name"), [("float32", "HIGHEST"), ("tf32", "HIGH")])
def test_products_have_the_precision_in_every_way_to_compute(source, way, precision, name):
    run = WAYS[way](SOURCES[source](precision))
    for one in products(run, IMAGES):
        assert set(re.findall(r"HIGH\w*|DEFAULT|None", str(one.params["precision"]))) == {name}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", WAYS)
def test_bfloat16_multiplies_all_but_the_last_products_in_it(source, way):
    run = WAYS[way](SOURCES[source]("bfloat16"))
    kinds = [{str(atom.aval.dtype) for atom in one.invars} for one in products(run, IMAGES)]
    assert {"bfloat16"} in kinds
    assert all(kind in ({"bfloat16"}, {"float32"}) for kind in kinds)
    short = [kind for kind in kinds if kind == {"bfloat16"}]
    assert len(short) >= len(kinds) / 2  # the dense layer, its derivative and its weights are not


@pytest.mark.parametrize("source", SOURCES)
def test_bfloat16_computes_sums_and_functions_in_float32(source):
    run = SOURCES[source]("bfloat16").forward
    names = {"reduce_sum", "exp", "div", "rsqrt", "integer_pow", "max", "add", "sub"}
    for one in equations(jax.make_jaxpr(run)(IMAGES).jaxpr):
        if one.primitive.name in names:
            assert "bfloat16" not in {str(atom.aval.dtype) for atom in one.invars}, one


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_of_the_engine_called_by_itself(precision):
    model = onnxjax.load(as_onnx(NETWORK), precision=precision)
    first, *_ = products(model.apply, model.params, np.moveaxis(IMAGES, -1, 1))
    assert str(first.invars[0].aval.dtype) == ("bfloat16" if precision == "bfloat16" else "float32")
    assert ("HIGHEST" in str(first.params["precision"])) == (precision != "tf32")


def test_no_flag_of_the_process_is_changed():
    before = jax.config.jax_default_matmul_precision
    for precision in PRECISIONS:
        xaimaps.attribute(of_file(precision), IMAGES, "saliency")
    assert jax.config.jax_default_matmul_precision == before


@pytest.mark.parametrize("source", SOURCES)
def test_factors_are_stored_in_bfloat16(source):
    types = {str(leaf.dtype) for leaf in jax.tree.leaves(SOURCES[source]("bfloat16").params)}
    assert "bfloat16" in types


def test_scores_are_not_rounded():
    """A method that compares scores, such as occlusion, would see steps of a hundredth."""
    scores = of_file("bfloat16").forward(IMAGES)
    assert scores.dtype == jnp.float32
    assert (scores != scores.astype(jnp.bfloat16)).any()


def test_values_by_hand():
    """A layer normalisation between two products, in numpy with the roundings written out."""

    def short(x):
        return np.asarray(x).astype(jnp.bfloat16).astype(np.float32)

    draw = np.random.default_rng(3).normal
    one, two = (draw(size=(3, 8)).astype("f4"), draw(size=(8, 2)).astype("f4"))

    def network(params, x):
        y = x.mean((1, 2)) @ params[0]
        y = y - y.mean(-1, keepdims=True)
        return (y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5)) @ params[1]

    model = xaimaps.load(network, (one, two), input_shape=(4, 4, 3), precision="bfloat16")
    images = draw(size=(2, 4, 4, 3)).astype("f4")
    y = short(short(images.mean((1, 2))) @ short(one))
    y = short(y - y.mean(-1, keepdims=True))
    y = short(y / np.sqrt((short(y * y)).mean(-1, keepdims=True) + 1e-5))
    np.testing.assert_allclose(model.forward(images), y @ short(two), rtol=1e-5, atol=1e-5)


def test_the_embedded_network_against_pytorch(references, photographs):
    """The one trained network with the numbers of another library, so it may take its time."""
    model = xaimaps.load(precision="bfloat16")
    found = xaimaps.attribute(model, photographs, "grad_cam", target=references["targets"].tolist())
    scores = references["logits_float32"]
    assert np.abs(found.scores - scores).max() < 0.03 * np.ptp(scores)
    ours, theirs = found.maps.ravel(), references["grad_cam_float32"].ravel()
    assert ours @ theirs > 0.999 * np.linalg.norm(ours) * np.linalg.norm(theirs)
    assert found.maps.dtype == np.float32
    assert found.precision == "bfloat16"


@pytest.mark.parametrize(
    "method",
    "saliency lrp deep_lift fullgrad cam grad_cam shapley_cam eigen_cam ablation_cam occlusion "
    "layer_integrated_gradients guided_backprop".split(),
)
def test_methods_in_bfloat16(method):
    """Close to the numpy network with hand-written gradients, or to float32 where it has none."""
    reference = ReferenceBackend(NETWORK)
    if METHODS[method].needs - reference.capabilities:
        reference = of_file()
    found, expected = (
        xaimaps.attribute(model, IMAGES, method, target=[0, 2]).maps.ravel()
        for model in (of_file("bfloat16"), reference)
    )
    assert np.isfinite(found).all()
    assert found @ expected > 0.97 * np.linalg.norm(found) * np.linalg.norm(expected)


@pytest.mark.parametrize("method", ["saliency", "guided_backprop", "fullgrad"])
def test_methods_on_a_function_in_bfloat16(method):
    found, expected = (
        xaimaps.attribute(of_function(precision), IMAGES, method, target=[0, 2]).maps.ravel()
        for precision in ("bfloat16", "float32")
    )
    assert found @ expected > 0.97 * np.linalg.norm(found) * np.linalg.norm(expected)


def test_the_users_own_parameters_in_a_program():
    """They may be float32, as those that are trained; the products round them."""
    rounded, exact = of_function("bfloat16"), of_function()
    run = function(rounded, "saliency")
    mine = jax.jit(run)(exact.params, IMAGES, TARGET.indices).maps
    stored = jax.jit(run)(rounded.params, IMAGES, TARGET.indices).maps
    np.testing.assert_allclose(mine, stored, rtol=1e-2, atol=1e-3)


def test_a_quantised_model_is_refused():
    model, node = as_onnx(NETWORK), onnx.helper.make_node
    step = [onnx.numpy_helper.from_array(np.float32(0.05), "step")]
    first = model.graph.node[0]
    nodes = [
        node("QuantizeLinear", [first.input[0], "step"], ["integers"]),
        node("DequantizeLinear", ["integers", "step"], ["floats"]),
    ]
    first.input[0] = "floats"
    for one in reversed(nodes):
        model.graph.node.insert(0, one)
    model.graph.initializer.extend(step)
    with pytest.raises(BackendError, match="float32' or 'tf32' for a quantised model"):
        xaimaps.load(model, precision="bfloat16")
    xaimaps.load(model, precision="tf32").forward(IMAGES)


def test_rounded_parameters_stay_rounded():
    with pytest.raises(BackendError, match="load the model again"):
        of_file("bfloat16").with_precision("float32")


def test_an_unknown_precision_of_the_engine():
    with pytest.raises(onnxjax.errors.ArrayInputError, match="must be one of float32, tf32"):
        onnxjax.load(as_onnx(NETWORK), precision="half")
