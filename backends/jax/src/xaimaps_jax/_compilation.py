"""How XLA compiles a program of this backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from xaimaps._memory import is_memory_kept
from xaimaps_jax._calls import equations_in
from xaimaps_jax._compilation_cache import compiled_once

HEAP_BYTES = 31 << 20
"""The largest block of intermediate values: just below 32 MB, the most that glibc reuses."""


def compiled(fn: Callable[..., Any], *arguments: Any) -> jax.stages.Compiled:
    """Return the program of a function for arguments of these shapes."""
    traced = jax.jit(fn).trace(*arguments)
    return compiled_once(traced, _options(traced.jaxpr), arguments)


def _options(body: Any) -> jax.stages.CompilerOptions | None:
    """Return the options of XLA on this platform."""
    if jax.default_backend() != "cpu":
        return None
    # This scheduler reuses buffers sooner: forward passes take a tenth to a fifth less time on two
    # cores.
    options: jax.stages.CompilerOptions = {
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
        # YNNPACK for products alone. XLA has it for convolutions too, but forward passes of 3x3
        # convolutions over many channels take 5 to 12 % less time in Eigen.
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    }
    # Unless freed memory is kept, a single large block of all intermediate values is new
    # memory in each call, with a page fault for each page. But programs with several blocks cannot
    # be written to disk, and XLA prints a warning for each value that is larger than a block. (JAX
    # documents its flags as attributes, but gives them no types.)
    config: Any = jax.config
    in_jax = config.jax_enable_compilation_cache and config.jax_compilation_cache_dir
    if not is_memory_kept() and not in_jax and _largest_value(body) <= HEAP_BYTES:
        options["xla_multiheap_size_constraint_per_heap"] = str(HEAP_BYTES)
    return options


def _largest_value(body: Any) -> int:
    """Return the bytes of the largest value that a program computes."""
    values = (variable.aval for one in equations_in(body) for variable in one.outvars)
    sized = (value for value in values if isinstance(value, jax.core.ShapedArray))
    return max((value.size * np.dtype(value.dtype).itemsize for value in sized), default=0)
