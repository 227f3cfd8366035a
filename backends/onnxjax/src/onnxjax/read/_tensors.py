"""The conversion of a model file's tensors to numpy arrays, after checks of their sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxjax._limits import Budget
from onnxjax.errors import ModelLoadError
from onnxjax.read._external import Extent, aligned, is_external, locate

Array = np.ndarray[Any, Any]

REMEDY = "export the model again"
_PACKED = {
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
    "INT4": 4,
    "UINT4": 4,
    "FLOAT4E2M1": 4,
    "INT2": 2,
    "UINT2": 2,
}
# by name, as the oldest onnx lacks some
BITS: dict[int, int] = {
    code: _PACKED[name] for name, code in TensorProto.DataType.items() if name in _PACKED
}
"""The types of which several elements share a byte."""

MOST_AXES = 64
SHARED = 2
"""The number of times that tensors may claim the same bytes of files, for tied weights."""


class TensorReader:
    """The reader of the arrays of one model.

    Args:
        folder: the folder of external data; None for a model that must hold its own data.
        size: the bytes of the model's file, which determine the budget for constants.
    """

    def __init__(self, folder: Path | None = None, size: int = 0) -> None:
        self._folder = folder
        self._size = size
        self.budget = Budget.for_file(size)

    def require_sound(self, tensors: Iterable[TensorProto]) -> None:
        """Check the size and the location of each tensor's data, without reading any.

        Raises:
            ModelLoadError: a tensor does not fit its data, or their location is not allowed.
        """
        extents = [self._require_sound(tensor) for tensor in tensors]
        files = {extent.path: extent.size for extent in extents if extent}
        claimed = sum(extent.length for extent in extents if extent)
        if claimed > SHARED * sum(files.values()):
            raise ModelLoadError(
                f"the model's tensors claim {claimed:,} bytes of external files that have "
                f"{sum(files.values()):,}; {REMEDY}"
            )
        self.budget = Budget.for_file(self._size + sum(files.values()))

    def _require_sound(self, tensor: TensorProto) -> Extent | None:
        needed = _bytes_needed(tensor)
        if tensor.data_type == TensorProto.STRING and (
            is_external(tensor) or tensor.HasField("raw_data")
        ):
            raise _unfit(tensor, "strings one by one, but it has raw bytes")
        if not is_external(tensor):
            _require_data(tensor, needed)
            return None
        extent = self._locate(tensor)
        if extent.length != needed:
            raise _unfit(tensor, f"{needed} bytes, but its external data have {extent.length}")
        return extent

    def _locate(self, tensor: TensorProto) -> Extent:
        if self._folder is None:
            raise ModelLoadError(
                f"the tensor {tensor.name!r} is stored in another file; give the model's path, or "
                "load it with onnx.load(path)"
            )
        return locate(tensor, self._folder)

    def array(self, tensor: TensorProto) -> Array:
        """Return the array of a tensor.

        Raises:
            ModelLoadError: its data do not fit it or are not finite, or their location is not
                allowed.
        """
        extent = self._require_sound(tensor)
        array = _own_array(tensor) if extent is None else _external_array(tensor, extent)
        _require_finite(array, tensor.name)
        return array

    def dense(self, sparse: onnx.SparseTensorProto) -> Array:
        """Return the array of a sparse tensor.

        Raises:
            ModelLoadError: an index is outside of its shape.
            UnsupportedModelError: the array would exceed the budget of its file.
        """
        values, indices = self.array(sparse.values), self.array(sparse.indices)
        shape = _shape(sparse.values.name, sparse.dims)
        size = math.prod(shape) * values.dtype.itemsize
        self.budget.spend(size, f"the sparse tensor {sparse.values.name!r}")
        dense = np.zeros(shape, values.dtype)
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        if flat.size and not 0 <= flat.min() <= flat.max() < dense.size:
            raise ModelLoadError(
                f"the sparse tensor {sparse.values.name!r} of shape {list(shape)} has indices "
                f"outside of it; {REMEDY}"
            )
        dense.reshape(-1)[flat] = values
        return dense


def _shape(name: str, dims: Iterable[int]) -> tuple[int, ...]:
    shape = tuple(dims)
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise ModelLoadError(
            f"the tensor {name!r} must have at most {MOST_AXES} axes of sizes from zero on, got "
            f"{str(list(shape))[:200]}; {REMEDY}"
        )
    return shape


def _bits(tensor: TensorProto) -> int:
    """Return the bits of one element when elements are packed."""
    if tensor.data_type in BITS:
        return BITS[tensor.data_type]
    try:
        return 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        raise ModelLoadError(
            f"the tensor {tensor.name!r} has the element type {tensor.data_type}, which ONNX "
            f"{onnx.__version__} does not know; {REMEDY}"
        ) from None


def _bytes_needed(tensor: TensorProto) -> int:
    count = math.prod(_shape(tensor.name, tensor.dims))
    return -(-count * _bits(tensor) // 8)


def _require_data(tensor: TensorProto, needed: int) -> None:
    """Refuse a tensor whose data in the protobuf do not fit its shape."""
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != needed:
            raise _unfit(tensor, f"{needed} bytes, but it has {len(tensor.raw_data)}")
        return
    count = math.prod(tensor.dims)
    wanted = _entries(tensor.data_type, count)
    if (found := len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))) != wanted:
        raise _unfit(tensor, f"{wanted} numbers, but it has {found}")


def _entries(data_type: int, count: int) -> int:
    """Return how many numbers of the protobuf hold `count` elements."""
    if data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * count
    bits = BITS.get(data_type, 8)
    return -(-count * bits // 8) if bits < 6 else count


def _unfit(tensor: TensorProto, problem: str) -> ModelLoadError:
    return ModelLoadError(
        f"the tensor {tensor.name!r} of shape {str(list(tensor.dims))[:200]} needs {problem}; "
        f"{REMEDY}"
    )


def _own_array(tensor: TensorProto) -> Array:
    if tensor.data_type in BITS or not tensor.HasField("raw_data"):
        array: Array = numpy_helper.to_array(tensor)
        return array
    raw = np.frombuffer(tensor.raw_data, np.uint8)
    room = aligned(raw.size)
    room[:] = raw
    return _as_typed(tensor, room)


def _external_array(tensor: TensorProto, extent: Extent) -> Array:
    if tensor.data_type not in BITS:
        return _as_typed(tensor, extent.read())
    inside = TensorProto(data_type=tensor.data_type, dims=tensor.dims)
    inside.raw_data = extent.read().tobytes()
    array: Array = numpy_helper.to_array(inside)
    return array


def _as_typed(tensor: TensorProto, room: np.ndarray[Any, np.dtype[np.uint8]]) -> Array:
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return room.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tuple(tensor.dims))


def _require_finite(array: Array, name: str) -> None:
    """Refuse weights with NaN or infinity, except a single bound and the fill of a mask."""
    if array.dtype.kind not in "fV" or not array.size:
        return
    with np.errstate(all="ignore"):
        low, high = float(array.min()), float(array.max())
    if math.isfinite(low) and math.isfinite(high):
        return
    if math.isnan(low) or (array.size > 1 and not _is_mask(array)):
        found = "NaN" if math.isnan(low) else "an infinite number"
        raise ModelLoadError(
            f"the tensor {name!r} holds {found}, which no trained weight is; train or export the "
            "model again"
        )


def _is_mask(array: Array) -> bool:
    """Return whether an array has only zeros and minus infinity, as a mask added to logits."""
    return bool(np.all((array == 0) | (array == -np.inf)))
