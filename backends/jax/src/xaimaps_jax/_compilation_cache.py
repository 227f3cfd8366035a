"""Compiled programs on disk, for later processes.

JAX's own cache is a setting of the whole process, which is left to the user. This one has the
programs of xaimaps alone.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from xaimaps._results.atomic import write_atomic
from xaimaps_jax._cache_key import Devices, cache_key, calls_python, devices_of

MOST_BYTES = 1 << 30
"""The most bytes of all programs; beyond, those whose last use is longest ago are removed."""

LEAST_SECONDS = 0.1
"""How long a program must take to compile for it to be written."""

UNKNOWN_OPTION = "No such compile option"
"""A part of XLA's message about an option that it has no longer, or not yet."""

_DIGEST_BYTES = 32

_NOT_SERIALISABLE = (
    *(jax.errors.JaxRuntimeError, NotImplementedError, ValueError),
    *(pickle.PicklingError, TypeError, AttributeError),
)
"""What JAX raises for a program that has no form on disk, as one of several heaps on a CPU."""


def compiled_once(
    traced: Any, options: jax.stages.CompilerOptions | None, arguments: Any
) -> jax.stages.Compiled:
    """Return the program of a traced function, from disk if a process has compiled it before."""
    lowered = traced.lower()
    folder, devices = program_folder(), devices_of(arguments)
    if folder is None or not devices or calls_python(traced.jaxpr):
        return _compiled(lowered, options)
    file = folder / cache_key(lowered, options, devices)
    if (found := _read(file, lowered, devices)) is not None:
        return found
    begin = time.perf_counter()
    program = _compiled(lowered, options)
    if time.perf_counter() - begin >= LEAST_SECONDS:
        _write(file, program)
    return program


def program_folder() -> Path | None:
    """Return the folder of programs, or None if JAX's cache is disabled or has its own."""
    config: Any = jax.config  # JAX documents its flags as attributes, but gives them no types
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir:
        return None
    with suppress(RuntimeError):  # a user without a home folder
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "xaimaps" / "programs"
    return None


def _compiled(lowered: Any, options: jax.stages.CompilerOptions | None) -> jax.stages.Compiled:
    """Compile a program, without its options if this version of XLA lacks one."""
    program: jax.stages.Compiled
    try:
        program = lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if UNKNOWN_OPTION not in str(error):
            raise
        program = lowered.compile()
    return program


def _read(file: Path, lowered: Any, devices: Devices) -> jax.stages.Compiled | None:
    """Return the program of a file, or None if there is none that is whole."""
    with suppress(OSError, jax.errors.JaxRuntimeError):
        stored = file.read_bytes()
        digest, payload = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() == digest:
            os.utime(file)
            program: jax.stages.Compiled = deserialize_and_load(
                payload, lowered.in_tree, lowered.out_tree, devices[0].client, devices
            )
            return program
    return None


def _write(file: Path, program: jax.stages.Compiled) -> None:
    """Write a program, if that is possible."""
    with suppress(OSError, *_NOT_SERIALISABLE):
        payload, *_ = serialize(program)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # to load a program runs code
        digest = hashlib.sha256(payload).digest()
        write_atomic(file, lambda opened: opened.write(digest + payload))
        _remove_oldest(file.parent)


def _remove_oldest(folder: Path) -> None:
    """Remove the programs that do not fit into the folder beside those used after them."""
    states = {file: file.stat() for file in folder.iterdir()}
    total = 0
    for file in sorted(states, key=lambda file: -states[file].st_mtime_ns):
        total += states[file].st_size
        if total > MOST_BYTES:
            file.unlink(missing_ok=True)
