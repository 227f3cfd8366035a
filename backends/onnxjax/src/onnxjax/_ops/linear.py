"""Matrix products."""

from __future__ import annotations

from typing import Any

from onnxjax.registry import op

Array = Any


@op("MatMul", kind="matmul", linear=True, integer=("", "QLinearMatMul"))
def matmul(xp: Any, a: Array, b: Array) -> Array:
    """Return a @ b, with leading axes broadcast."""
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
    """Return alpha * A @ B + beta * C, with either matrix transposed on request."""
    # an einsum instead of a transposition, which XLA would write to memory in every pass
    y = xp.einsum(f"{'ki' if transA else 'ik'},{'jk' if transB else 'kj'}->ij", a, b)
    y = y if alpha == 1.0 else xp.asarray(alpha, dtype=y.dtype) * y
    if c is None:
        return y
    return y + (c if beta == 1.0 else xp.asarray(beta, dtype=c.dtype) * c)


@op("Einsum", kind="einsum", linear=True)
def einsum(xp: Any, *operands: Array, equation: str) -> Array:
    """Return sums of products, by Einstein's convention."""
    return xp.einsum(equation.replace(" ", ""), *operands)


@op("Det")
def det(xp: Any, x: Array) -> Array:
    """Return the determinant of each square matrix."""
    return xp.linalg.det(x)
