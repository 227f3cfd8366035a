"""The input gradient of convolutions with strides over few channels, by phases of the strides."""

import jax
import numpy as np
import pytest
from onnxjax._ops.dense import convolved, dense

PADS = {"none": (0, 0), "uneven": (1, 2), "before": (3, 0)}


@pytest.mark.parametrize("pads", PADS.values(), ids=PADS)
@pytest.mark.parametrize(
    ("sizes", "kernel", "strides"),
    [
        ((11,), (7,), (4,)),
        ((12, 9), (7, 7), (2, 2)),
        ((11, 12), (3, 4), (3, 1)),
        ((8, 9), (1, 2), (2, 3)),  # windows that do not overlap
        ((7, 6, 5), (3, 2, 3), (2, 2, 2)),
    ],
)
def test_the_gradient_and_its_transpose_are_those_of_jax(sizes, kernel, strides, pads):
    draw, rank, channels = np.random.default_rng(0), len(sizes), 2
    outputs = channels * np.prod(strides) + 1  # more than the phases, so that these are used
    options = strides, (pads,) * rank, (1,) * rank
    with jax.enable_x64(True):
        x = draw.normal(size=(2, *sizes, channels))
        w = draw.normal(size=(*kernel, channels, outputs))
        tangent = draw.normal(size=x.shape)
        found, expected = (jax.vjp(lambda x, f=f: f(x, w, *options), x) for f in (dense, convolved))
        g = draw.normal(size=expected[0].shape)
        np.testing.assert_allclose(found[1](g)[0], expected[1](g)[0], atol=1e-12)
        pushed = [
            jax.jvp(lambda x, f=f: f(x, w, *options), (x,), (tangent,)) for f in (dense, convolved)
        ]
        np.testing.assert_allclose(pushed[0], pushed[1], atol=1e-12)


def test_no_zeros_are_between_the_positions():
    x, w = np.zeros((1, 16, 16, 3), np.float32), np.zeros((7, 7, 3, 64), np.float32)

    def pulled(x):
        y, pull = jax.vjp(lambda x: dense(x, w, (2, 2), ((3, 3),) * 2, (1, 1)), x)
        return pull(y)

    program = str(jax.make_jaxpr(pulled)(x))
    assert "lhs_dilation=(1, 1)" in program
    assert "lhs_dilation=(2, 2)" not in program
