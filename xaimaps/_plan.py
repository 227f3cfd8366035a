"""Plan several methods at once: those that a model supports, each with the settings it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from xaimaps._attribute import Layers, plan
from xaimaps._run import Job
from xaimaps.backend import Backend
from xaimaps.errors import MethodError, XaimapsError
from xaimaps.methods import METHODS, Method, get_method
from xaimaps.targets import as_spec


def plan_all(
    model: Backend,
    names: Sequence[str],
    layer: Layers,
    options: dict[str, Any],
    target: Any = None,
) -> list[Job]:
    """Check every method with the layer and the options that it takes.

    An option that no method takes is passed on, so that the first method refuses it. "all" are the
    methods that suit the model and the target.
    """
    chosen = able_methods(model, METHODS, target) if "all" in names else names
    rows = [get_method(name) for name in chosen]
    anyone_layered = any(row.takes_layer for row in rows)
    general = {"augment", "low_pass"}
    useful = general.union(*(row.options for row in rows))
    return [
        plan(
            model,
            row,
            layer if row.takes_layer or not anyone_layered else None,
            {
                name: value
                for name, value in options.items()
                if name in row.options or name in general or name not in useful
            },
        )
        for row in rows
    ]


def default_methods(model: Backend, names: Iterable[str], target: Any = None) -> list[str]:
    """Return the methods among `names` that suit the model and the target, at least one.

    Raises:
        MethodError: they support none.
    """
    found = able_methods(model, names, target)
    if not found:
        raise MethodError(
            f"none of the default methods can run on {model.info.name!r} in {model.name}; name "
            "others (-M), such as occlusion, or choose another backend"
        )
    return found


def able_methods(model: Backend, names: Iterable[str], target: Any = None) -> list[str]:
    """Return the methods among `names` that the model, the backend and the target support."""
    rows = [METHODS[name] for name in names]
    able = [row for row in rows if row.fits(model) and suits_target(row, target)]
    missing = {need for need, part in _parts(model).items() if not _has(part)}
    has_layer = _has(model.default_layer)
    return [
        row.name for row in able if not row.needs & missing and (has_layer or not row.takes_layer)
    ]


def suits_target(row: Method, target: Any) -> bool:
    """Return whether a method can explain a target: some only explain classes."""
    return not row.only_classes or as_spec(target).is_class


def _parts(model: Backend) -> Mapping[str, Callable[[], object]]:
    """Return what a model must have for the capabilities that not every model can use."""
    return {"classifier": model.classifier, "attention": lambda: model.network.attention}


def _has(part: Callable[[], object]) -> bool:
    """Return whether a model has a part, and does not refuse it."""
    try:
        part()
    except XaimapsError:
        return False
    return True
