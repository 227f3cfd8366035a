"""What the compiled program of a function depends on, as a name for its file."""

from __future__ import annotations

import hashlib
import io
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.mlir.passmanager import PassManager

from xaimaps_jax._calls import equations_in

Devices = tuple[jax.Device, ...]

_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def calls_python(body: Any) -> bool:
    """Return whether a function calls others of this process, as those of a progress bar."""
    names = (equation.primitive.name for equation in equations_in(body))
    return bool(body.effects) or any("callback" in name for name in names)


def devices_of(arguments: Any) -> Devices:
    """Return the devices of a program in their order, or none if the order is unknown."""
    leaves = jax.tree.leaves(arguments)
    shardings = (leaf.sharding for leaf in leaves if getattr(leaf, "committed", False))
    first = next(shardings, None) or jnp.zeros(()).sharding
    if isinstance(first, jax.sharding.NamedSharding):
        return tuple(first.mesh.devices.flat)
    return tuple(first.device_set) if len(first.device_set) == 1 else ()


def cache_key(lowered: Any, options: object, devices: Devices) -> str:
    """Return a digest of all that the result of compiling depends on."""
    client = devices[0].client
    named = (
        *(jax.__version__, client.platform, client.platform_version, _processor()),
        *((device.id, device.device_kind) for device in devices),
        *(options, sorted(jax.config.values.items())),
        *(os.environ.get(name) for name in _VARIABLES),
    )
    return hashlib.sha256(repr(named).encode() + _module(lowered)).hexdigest()


def _module(lowered: Any) -> bytes:
    """Return the program that XLA compiles, without the lines of Python that it comes from."""
    module, stored = lowered.compiler_ir(), io.BytesIO()
    with module.context:
        plain = module.operation.clone()
        PassManager.parse("builtin.module(strip-debuginfo)").run(plain)
        plain.write_bytecode(file=stored)
    return stored.getvalue()


def _processor() -> str:
    """Return the features of the processor, all of which XLA uses, or else the machine's name."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = (line for line in lines if line.startswith(("flags", "Features")))
        return next(features, platform.node())
    return platform.node()
