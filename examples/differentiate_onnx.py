"""Differentiate an ONNX file in JAX by its weights: one step of gradient descent.

Run with `uv run python examples/differentiate_onnx.py`. The file is the embedded network; any other
that takes pictures and gives class scores will do, with a shape of images that fits it.
"""

import jax
import jax.numpy as jnp
import onnxjax

from xaimaps import zoo

STEP = 1e-3
CLASS = 285

model = onnxjax.load(zoo.MODELS["default"])
images = jnp.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)


def loss(kernels: dict[str, jax.Array]) -> jax.Array:
    """The cross-entropy of one class."""
    (logits,) = model.apply({**model.params, **kernels}, images)
    return -jax.nn.log_softmax(logits)[:, CLASS].mean()


# Only kernels are trained: a step might make a variance of batch normalisation negative.
kernels = {name: value for name, value in model.params.items() if value.ndim > 1}
before, gradients = jax.jit(jax.value_and_grad(loss))(kernels)
after = jax.jit(loss)(jax.tree.map(lambda weight, slope: weight - STEP * slope, kernels, gradients))
print(f"the loss before the step: {before:.4f}, and after: {after:.4f}")
assert after < before
