"""`export`: a method as a StableHLO program that runs without xaimaps."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from xaimaps._arrays import Floats
from xaimaps._attribute import MethodLike, plan
from xaimaps._form import BY_INPUT, Form, difference_from, example_images, named, require_form
from xaimaps._results.atomic import write_atomic
from xaimaps._run import Job
from xaimaps.backend import Array
from xaimaps.errors import (
    MethodError,
    OutputError,
    UnsupportedModelError,
    XaimapsError,
    first_line,
)
from xaimaps.methods import Maps
from xaimaps.targets import ClassSpec, TargetSpec, as_spec, class_index
from xaimaps_jax._backend import JaxBackend, Params
from xaimaps_jax._function import function

PLATFORMS = ("cpu", "cuda", "tpu")
MOST_IMAGES = 1024
"""The bound of a free batch, by which JAX knows that sizes stay below two billion elements."""


class Exported(NamedTuple):
    """A program that was written.

    Attributes:
        file: its path.
        method: the method.
        layer: the layer that is explained.
        target: the target.
        bytes: the size of the file.
        platforms: where it runs.
        arguments: the names of its arguments, in their order.
        map_difference: the largest relative difference from the maps of the model.
    """

    file: str
    method: str
    layer: str
    target: str
    bytes: int
    platforms: tuple[str, ...]
    arguments: tuple[str, ...]
    map_difference: float


def export(
    model: JaxBackend,
    file: str | os.PathLike[str],
    method: MethodLike = "grad_cam",
    *,
    target: Any = None,
    layer: str | Sequence[str] | None = None,
    images: Any = None,
    form: Form = "raw",
    weights: Literal["inside", "argument"] = "inside",
    batch: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
    **options: Any,
) -> Exported:
    """Write a method as a StableHLO program, by `jax.export`.

    `jax.export.deserialize(Path(file).read_bytes()).call(images)` runs it without xaimaps, and
    returns `{"map": ..., "outputs": ...}`, of one forward pass. It is written only if its maps are
    those of the model.

    Args:
        model: a model from `xaimaps.load`.
        file: the path to write to.
        method: see `attribute`.
        target: None for the top class of each image; a class or a label; "input" for a further
            argument, int32 `(N,)`. With a `batch`, any target that needs no file.
        layer: see `attribute`.
        images: the images to compare on, `(N, *spatial, C)`, of which the program takes the size;
            None for random ones.
        form: "raw"; "input" for the size of the input; or "normalised" for that, with the positive
            part divided by its maximum.
        weights: "inside" the file, or the first "argument", of the form of `model.params`.
        batch: the number of images; None for any number up to 1024, where JAX can export that.
        platforms: of "cpu", "cuda", "rocm" and "tpu"; that of this machine must be one of them.
        options: `augment`, `low_pass`, and the method's own options.

    Raises:
        XaimapsError: an argument is invalid, JAX cannot export the program, or its maps differ.

    Example:
        >>> import pathlib, tempfile, jax.export, jax.numpy as jnp, xaimaps, xaimaps_jax
        >>> scores = lambda params, images: jnp.tanh(images @ params).mean((1, 2))
        >>> model = xaimaps.load(scores, params=jnp.eye(3), input_shape=(8, 8, 3))
        >>> file = pathlib.Path(tempfile.mkdtemp(), "saliency.jax")
        >>> written = xaimaps_jax.export(model, file, "saliency")
        >>> program = jax.export.deserialize(bytearray(file.read_bytes()))
        >>> program.call(jnp.ones((2, 8, 8, 3)))["map"].shape
        (2, 8, 8)
    """
    _require_choices(form, weights, platforms)
    by_input = isinstance(target, str) and target == BY_INPUT
    spec = None if by_input else as_spec(target)
    job, sample = plan(model, method, layer, options), example_images(model, images, batch)
    explain = function(model, method, layer=layer, **options)
    program = _program(model, explain, _any_number(model, spec), form, sample)
    given = [model.params] if weights == "argument" else []
    called = program if given else functools.partial(program, model.params)
    data = _serialised(called, [*given, *_shapes(sample, batch, by_input)], platforms, job)
    call = functools.partial(jax.export.deserialize(data).call, *given)
    settings = {"target": target, "layer": layer, **options}
    difference = difference_from(model, call, sample, job, form, **settings)
    write_atomic(Path(file), lambda part: part.write(data))
    names = ["params"] * len(given) + ["images"] + ["target"] * by_input
    return Exported(
        str(file), job.row.name, ", ".join(job.layers), BY_INPUT if by_input else str(spec),
        len(data), tuple(platforms), tuple(names), difference,
    )  # fmt: skip


def _any_number(model: JaxBackend, spec: TargetSpec | None) -> Any:
    """Return a target for any number of images, if it can be; None if it is an argument."""
    if isinstance(spec, ClassSpec):
        return jnp.asarray(class_index(spec.name, model.info.labels))
    return spec


def _program(
    model: JaxBackend, explain: Callable[..., Maps], goal: Any, form: Form, sample: Floats
) -> Callable[..., dict[str, Array]]:
    """Return the program of parameters, images and, without a goal, the target."""

    def program(params: Params, images: Array, target: Any = goal) -> dict[str, Array]:
        return named(model, explain(params, images, target), form, sample.shape[1:-1])

    return program


def _shapes(sample: Floats, batch: int | None, by_input: bool) -> list[jax.ShapeDtypeStruct]:
    """Return the shapes of the images and, if it is an argument, of the target."""
    bounds = ["N >= 1", f"N <= {MOST_IMAGES}"]
    count = jax.export.symbolic_shape("N", constraints=bounds)[0] if batch is None else batch
    images = jax.ShapeDtypeStruct((count, *sample.shape[1:]), np.float32)
    return [images, jax.ShapeDtypeStruct((count,), np.int32)] if by_input else [images]


def _require_choices(form: str, weights: str, platforms: Sequence[str]) -> None:
    require_form(form)
    if weights not in ("inside", "argument"):
        raise MethodError(f"`weights` must be 'inside' or 'argument', got {weights!r}")
    here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if isinstance(platforms, str) or not {here} <= {*platforms} <= {*PLATFORMS, "rocm"}:
        raise OutputError(
            f"`platforms` must be a list of cpu, cuda, rocm and tpu with {here!r}, where the "
            f"program is compared with the model, got {platforms!r}"
        )


def _serialised(
    program: Callable[..., Any], shapes: Sequence[Any], platforms: Sequence[str], job: Job
) -> bytearray:
    try:
        exported = jax.export.export(jax.jit(program), platforms=tuple(platforms))(*shapes)
        return exported.serialize()
    except XaimapsError:
        raise
    except Exception as error:  # an export fails with many classes of error
        raise UnsupportedModelError(
            f"the method {job.row.name!r} must be a program that JAX exports for "
            f"{', '.join(platforms)}, got {type(error).__name__} ({first_line(error)}); give a "
            "fixed `batch`, or fewer `platforms`"
        ) from error
