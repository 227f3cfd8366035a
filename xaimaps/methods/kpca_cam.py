"""KPCA-CAM: the first kernel principal component of a layer's activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, feature_maps, rectified
from xaimaps.methods._options import check_choice
from xaimaps.methods._pca import leading, turned
from xaimaps.methods._registry import method

Kernel = Callable[[Any, Array, float], Array]


def _products(xp: Any, rows: Array) -> Array:
    return xp.matmul(rows, xp.matrix_transpose(rows))


def _squares(xp: Any, rows: Array) -> Array:
    return xp.sum(rows * rows, axis=-1, keepdims=True)


def _cosine(xp: Any, rows: Array, gamma: float) -> Array:
    return _products(xp, divided(xp, rows, xp.sqrt(_squares(xp, rows))))


def _rbf(xp: Any, rows: Array, gamma: float) -> Array:
    squares = _squares(xp, rows)
    return xp.exp(-gamma * (squares + xp.matrix_transpose(squares) - 2 * _products(xp, rows)))


def _sigmoid(xp: Any, rows: Array, gamma: float) -> Array:
    return xp.tanh(gamma * _products(xp, rows) + 1)


KERNELS: dict[str, Kernel] = {"sigmoid": _sigmoid, "rbf": _rbf, "cosine": _cosine}


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Karmani et al. 2024, arXiv:2410.00267",
    cost="1 F",
    uses_target=False,
)
@over_layers
def kpca_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    kernel: Literal["sigmoid", "rbf", "cosine"] = "sigmoid",
    gamma: float | None = None,
    relu: bool = True,
) -> Maps:
    r"""The first kernel principal component of a layer's activations, for every target.

    With spatial positions as rows $a_i$ of $A$, each channel minus its mean, and the kernel matrix
    $K_{ij} = k(a_i, a_j)$, of which rows and columns lose their means:

    $$M = \mathrm{ReLU}(\sqrt{\lambda_1} v_1), \qquad K v_1 = \lambda_1 v_1$$

    The kernels are $\tanh(\gamma a_i^T a_j + 1)$, $e^{-\gamma |a_i - a_j|^2}$ and the cosine. With
    a linear kernel it is Eigen-CAM. The sign of $v_1$ is arbitrary; here it is that of the
    correlation with the mean of the activations. Time and memory grow with the square of the
    number of spatial positions.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: not used.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        kernel: "sigmoid", "rbf" or "cosine".
        gamma: the factor inside of the kernel; None for 1 over the number of channels.
        relu: keep the positive part only.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: `gamma` is not positive, or there is no such kernel.

    References:
        Karmani et al. 2024, https://arxiv.org/abs/2410.00267

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import kpca_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> kpca_cam(backend, images).maps.shape
        (1, 5, 5)
    """
    check_choice("kernel", kernel, tuple(KERNELS))
    if gamma is not None and not 0 < gamma < float("inf"):
        raise MethodError(f"`gamma` must be a positive number, or None, got {gamma}")
    xp = backend.xp
    values, outputs = feature_maps(backend, images, layer)
    rows = xp.reshape(values, (values.shape[0], -1, values.shape[-1]))
    mean = xp.mean(rows, axis=-1)
    rows = rows - xp.mean(rows, axis=-2, keepdims=True)
    found = _component(xp, KERNELS[kernel](xp, rows, gamma or 1 / values.shape[-1]))
    maps = xp.reshape(turned(xp, found, mean), values.shape[:-1])
    return Maps(rectified(xp, maps, relu), outputs)


def _component(xp: Any, kernel: Array) -> Array:
    """Return the eigenvector of the largest eigenvalue, times the root of that, `(N, P)`."""
    centred = kernel - xp.mean(kernel, axis=-1, keepdims=True)
    centred = centred - xp.mean(centred, axis=-2, keepdims=True)
    # A sigmoid kernel has negative eigenvalues. No eigenvalue is below minus the norm of the
    # matrix, so that with the norm on the diagonal the largest one is the largest in magnitude.
    norm = xp.sqrt(xp.sum(centred * centred, axis=(-2, -1), keepdims=True))
    vector = leading(xp, centred + norm * xp.eye(centred.shape[-1], dtype=centred.dtype))
    value = xp.sum(vector * xp.matmul(centred, vector[..., None])[..., 0], axis=-1, keepdims=True)
    return vector * xp.sqrt(xp.maximum(value, xp.zeros_like(value)))
