"""Values of a model's other inputs that differ from picture to picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._images.find import find_pictures, is_several
from xaimaps._inputs import read_inputs
from xaimaps._results.attribution import Attribution
from xaimaps._results.joined import joined
from xaimaps.backend import Backend
from xaimaps.errors import ArrayInputError, BackendError
from xaimaps.targets import TargetSpec, as_spec

Row = dict[str, Any]
Found = Attribution | list[Attribution]


def rows_of(inputs: Mapping[str, Any]) -> list[Row]:
    """Return the values of inputs for each picture, at least one.

    Args:
        inputs: by name, a list or an array with a value for each picture, a `.npy` file of such an
            array, or a folder or pattern of files.

    Raises:
        ArrayInputError: an input has no list of values, or the lists have other lengths.
    """
    if not isinstance(inputs, Mapping):
        raise ArrayInputError(
            f"`inputs` must be a dictionary of values by the names of inputs, got {inputs!r:.200}"
        )
    lists = {name: _values(name, given) for name, given in inputs.items()}
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1:
        raise ArrayInputError(
            f"inputs must have as many values as there are pictures, got {_counts(lengths)}"
        )
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def require_as_many(rows: Sequence[Row], count: int) -> None:
    """Refuse values that are not one for each picture.

    Raises:
        ArrayInputError: there are more or fewer.
    """
    if len(rows) != count:
        raise ArrayInputError(
            "inputs must have as many values as there are pictures, got "
            f"{_counts(dict.fromkeys(rows[0], len(rows)))} for {count} pictures"
        )


def with_row(backend: Backend, row: Row) -> Backend:
    """Return the model with the values of one picture; other inputs keep theirs.

    Raises:
        BackendError: the model did not come from `load`.
    """
    if backend.reload is None:
        raise BackendError("values for each picture need a model from `load`, got one without")
    return backend.reload(inputs={**backend.info.inputs, **row})


def each(
    backend: Backend,
    rows: Sequence[Row],
    count: int,
    target: Any,
    run: Callable[[Backend, int, TargetSpec], Found],
) -> Found:
    """Run each picture with its own values, and join the results.

    Args:
        backend: the model, which is loaded again for each picture.
        rows: the values of each picture.
        count: the number of pictures.
        target: the target of the whole batch.
        run: returns the result of one picture and its target, or of several methods on it.
    """
    require_as_many(rows, count)
    spec = as_spec(target, count)
    parts = [
        run(with_row(backend, row), index, spec.for_image(index)) for index, row in enumerate(rows)
    ]
    lists = [part if isinstance(part, list) else [part] for part in parts]
    found = [joined(of_method, spec) for of_method in zip(*lists, strict=True)]
    return found if isinstance(parts[0], list) else found[0]


def _values(name: str, given: Any) -> list[Any]:
    if is_several(given):
        return [os.fspath(file) for file in find_pictures([Path(given)])]
    is_file = isinstance(given, str | os.PathLike)
    values = read_inputs({name: given})[name] if is_file else given
    if not isinstance(values, list | tuple | np.ndarray) or not np.ndim(values) or not len(values):
        raise ArrayInputError(
            f"the input {name!r} must have a value for each picture: a list, an array, a .npy file "
            f"or a folder of files, got {given!r:.200}"
        )
    return list(values)


def _counts(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name!r}" for name, count in lengths.items()) or "none"
