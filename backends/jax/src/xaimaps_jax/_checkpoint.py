"""`Checkpoint`: parameters in a file or folder, by their paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xaimaps.errors import ModelLoadError, XaimapsError, summary

Params = Any
Array = Any

SHOWN = 3
"""The most names that a message lists."""


@dataclass(frozen=True)
class Checkpoint:
    """Parameters that were stored with a model's own library or by hand.

    Attributes:
        file: where they are stored.
        arrays: the parameters by path, such as `params/stem/kernel`.
    """

    file: Path
    arrays: Mapping[str, Array]

    @classmethod
    def read(cls, file: Path) -> Checkpoint:
        """Read a folder of Orbax, or a file of one of the formats in `READERS`.

        Raises:
            ModelLoadError: it is missing, is of another format or cannot be read.
        """
        if not file.exists():
            raise ModelLoadError(
                f"`weights` must be a file or folder, and there is no {str(file)!r}"
            )
        reader = _read_orbax if file.is_dir() else READERS.get(file.suffix.lower())
        if reader is None:
            raise ModelLoadError(
                f"`weights` must be a folder of Orbax or a file of {', '.join(READERS)}, got "
                f"{str(file)!r}"
            )
        with reading(file):
            return cls(file, reader(file))

    def tree(self) -> Params:
        """Return nested dictionaries of the parameters by the parts of their paths."""
        root: dict[str, Any] = {}
        for path, array in self.arrays.items():
            *folders, name = path.split("/")
            inside = root
            for folder in folders:
                inside = inside.setdefault(folder, {})
            inside[name] = array
        return root

    def below(self, folder: str) -> Checkpoint:
        """Return the parameters whose paths begin with a folder, without it."""
        inside = {
            path.removeprefix(f"{folder}/"): array
            for path, array in self.arrays.items()
            if path.startswith(f"{folder}/")
        }
        return replace(self, arrays=inside)

    def filled(self, template: Params) -> Params:
        """Return a pytree with the stored values in place of its own.

        A leaf that is no float and is not stored remains, such as the state of a random generator.

        Args:
            template: the parameters of the model, such as its initial ones.

        Raises:
            ModelLoadError: names or shapes differ.
        """
        leaves, structure = jax.tree_util.tree_flatten_with_path(template)
        own = {_path(_parts(keys)): leaf for keys, leaf in leaves}
        needed = [path for path, leaf in own.items() if _is_float(leaf)]
        self._require(
            [path for path in needed if path not in self.arrays],
            [path for path in self.arrays if path not in own],
        )
        values = {**own, **self.arrays}
        for path, leaf in own.items():
            if np.shape(values[path]) != np.shape(leaf):
                raise ModelLoadError(
                    f"the weights {str(self.file)!r} must fit the model, but {path!r} has the "
                    f"shape {np.shape(values[path])}, and in the model {np.shape(leaf)}"
                )
        return jax.tree_util.tree_unflatten(structure, [values[path] for path in own])

    def _require(self, missing: Sequence[str], unknown: Sequence[str]) -> None:
        if missing or unknown:
            differences = {"lacks": missing, "also has": unknown}
            said = (f"{verb} {_listed(names)}" for verb, names in differences.items() if names)
            raise ModelLoadError(
                f"the weights {str(self.file)!r} must fit the model, but the file "
                f"{' and '.join(said)}"
            )


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Convert the errors of the libraries that read checkpoints.

    Raises:
        ModelLoadError: the file cannot be read.
    """
    try:
        yield
    except XaimapsError:
        raise
    except ImportError as error:
        raise ModelLoadError(
            f"the weights {str(file)!r} need a package that is not installed ({error}); "
            "pip install 'xaimaps-jax[checkpoints]'"
        ) from error
    except Exception as error:  # each library has errors of its own
        raise ModelLoadError(
            f"the weights {str(file)!r} cannot be read ({summary(error)})"
        ) from error


def _is_float(leaf: Any) -> bool:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else type(leaf)
    return bool(jnp.issubdtype(dtype, jnp.floating))


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*map(repr, names[:SHOWN]), *more])


def _parts(keys: Iterable[Any]) -> list[str]:
    return [jax.tree_util.keystr((key,), simple=True) for key in keys]


def _path(parts: Sequence[str]) -> str:
    """Return one path for the forms in which libraries write it.

    Flat files separate names by dots or slashes, and NNX adds `value` below each variable.
    """
    path = re.sub(r"[./]", "/", "/".join(parts))
    return path.removesuffix("/value")


def _flat(tree: Any) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_path(_parts(keys)): leaf for keys, leaf in leaves if hasattr(leaf, "dtype")}


def _read_orbax(folder: Path) -> Mapping[str, Array]:
    from orbax.checkpoint import StandardCheckpointer

    if not (folder / "_METADATA").exists():
        steps = [str(one.parent) for one in folder.glob("**/_METADATA")]
        raise ModelLoadError(
            f"`weights` must be a folder that Orbax wrote, got {str(folder)!r}"
            + (f"; give one of those inside of it: {_listed(steps)}" if steps else "")
        )
    with StandardCheckpointer() as checkpointer:
        return _flat(checkpointer.restore(folder.resolve()))


def _read_safetensors(file: Path) -> Mapping[str, Array]:
    from safetensors.flax import load_file

    return _flat(load_file(file))


def _read_msgpack(file: Path) -> Mapping[str, Array]:
    from flax.serialization import msgpack_restore

    return _flat(msgpack_restore(file.read_bytes()))


def _read_npz(file: Path) -> Mapping[str, Array]:
    with np.load(file, allow_pickle=False) as arrays:
        return _flat(dict(arrays))


READERS: Mapping[str, Callable[[Path], Mapping[str, Array]]] = {
    ".safetensors": _read_safetensors,
    ".msgpack": _read_msgpack,
    ".npz": _read_npz,
}
"""The readers of files by suffix."""
