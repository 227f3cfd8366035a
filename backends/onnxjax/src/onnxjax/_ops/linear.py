"""Matrix products."""

from __future__ import annotations

from typing import Any

from onnxjax.registry import op

Array = Any


@op("MatMul", kind="matmul", linear=True, integer=("", "QLinearMatMul"))
def matmul(xp: Any, a: Array, b: Array) -> Array:
    """The product a @ b, with leading axes broadcast."""
    return xp.matmul(a, b)


@op("Gemm", since=7, kind="dense", linear=True, integer=("com.microsoft", "QGemm"))
def gemm(
    xp: Any,
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """The sum alpha * A @ B + beta * C, either matrix transposed on request."""
    # Said by its axes: XLA would write a transposed matrix out, for each pass and its gradient.
    y = xp.einsum(f"{'ki' if transA else 'ik'},{'jk' if transB else 'kj'}->ij", a, b)
    y = y if alpha == 1.0 else xp.asarray(alpha, dtype=y.dtype) * y
    if c is None:
        return y
    return y + (c if beta == 1.0 else xp.asarray(beta, dtype=c.dtype) * c)


@op("Einsum", kind="einsum", linear=True)
def einsum(xp: Any, *operands: Array, equation: str) -> Array:
    """Sums of products, by Einstein's convention."""
    return xp.einsum(equation.replace(" ", ""), *operands)


@op("Det")
def det(xp: Any, x: Array) -> Array:
    """The determinant of each square matrix."""
    return xp.linalg.det(x)
