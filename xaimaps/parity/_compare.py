"""Compare a reference backend with others on the same images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xaimaps._attribute import classes_of, plan, run_jobs
from xaimaps._plan import able_methods, suits_target
from xaimaps._results.attribution import Attribution
from xaimaps.backend import INPUT, Array, Backend
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    LayerError,
    MethodError,
    TargetError,
    UnsupportedModelError,
    nearest,
)
from xaimaps.methods import METHODS, Method, get_method
from xaimaps.parity._measures import (
    APART,
    DISTURBANCE,
    GRADIENTS,
    INPUTS,
    LAYERS,
    LOGITS,
    Tolerance,
    measure,
    tolerance_beside,
    tolerance_of,
    top_agreement,
)
from xaimaps.parity._provenance import provenance
from xaimaps.parity._report import Report, Row
from xaimaps.parity._subjects import Subject, as_subjects
from xaimaps.targets import Scene, Top, as_spec, as_target

UNABLE = (BackendError, UnsupportedModelError)
"""Errors of what a backend or a model cannot do; other errors are the user's mistakes."""


DEFAULT_METHODS = ("saliency", "cam", "grad_cam")

Progress = Callable[[str], None]


def compare(
    models: Mapping[str, Backend],
    images: Any,
    methods: str | Sequence[str] | None = None,
    *,
    target: Any = None,
    layer: str | None = None,
    input_size: tuple[int, int] | None = None,
    tolerances: Mapping[str, Tolerance] | None = None,
    progress: Progress = lambda stage: None,
    **options: Any,
) -> Report:
    """Compare backends on the same model and images, and find where they diverge.

    The comparison covers the preprocessed input, every layer that both backends have by name, the
    logits, the gradients by the input and by the layer, and each method's maps before resizing.

    Args:
        models: the backends by their names in the report; the first is the reference.
        images: preprocessed arrays `(N, H, W, C)`; or pictures (a path, a Pillow image, or a list
            of them), to which each model's own preprocessing is applied.
        methods: names of methods; None for saliency, CAM and Grad-CAM; "all" for every method.
        target: see `xaimaps.attribute`; None for the reference's top class of each image.
        layer: the layer of the CAM methods, by its name in the reference; None for its default.
        input_size: height and width for models that take images of any size.
        tolerances: tolerances that replace the promised ones, by "input", "layer", "logits",
            "gradient" or a method's name.
        progress: called with a short text before each step.
        options: options of the methods, passed to those that have them.

    Returns:
        The report. `report.agrees` is the result, `report.first_divergence(name)` the first value
        that differs.

    Raises:
        ArrayInputError: there are fewer than two models, or no image.
        XaimapsError: a picture, method, target or layer is invalid.

    Example:
        >>> import numpy as np, xaimaps
        >>> one, two = xaimaps.load("default"), xaimaps.load("default", backend="onnxruntime")
        >>> images = np.zeros((1, 224, 224, 3), np.float32)
        >>> xaimaps.parity.compare({"jax": one, "runtime": two}, images, "grad_cam").agrees
        True
    """
    if len(models) < 2:
        raise ArrayInputError(
            f"`models` must be at least two backends, got {len(models)} ({', '.join(models)}); "
            "install another one, or name another model"
        )
    rows_of = [get_method(name) for name in _names(methods, models.values(), target)]
    for name in options:
        if not any(name in row.options for row in rows_of):
            raise MethodError(f"none of the compared methods has an option {name!r}")
    subjects = as_subjects(models, images, input_size)
    allowed = tolerances or {}
    for name in allowed:
        promised(name)
    comparison = Comparison(subjects[0], subjects[1:], allowed, target, layer, progress)
    return comparison.report(rows_of, options)


def _names(
    methods: str | Sequence[str] | None, models: Collection[Backend], target: Any
) -> Sequence[str]:
    """Return the names of the methods; "all" are those that one of the models supports."""
    if methods is None:
        return [name for name in DEFAULT_METHODS if suits_target(METHODS[name], target)]
    if methods == "all":
        able = {name for model in models for name in able_methods(model, METHODS, target)}
        return [name for name in METHODS if name in able]
    return (methods,) if isinstance(methods, str) else methods


def promised(name: str) -> Tolerance:
    """Return the tolerance of "input", "layer", "logits", "gradient" or a method's maps.

    Raises:
        MethodError: it is none of these.
    """
    kinds = {"input": INPUTS, "layer": LAYERS, "logits": LOGITS, "gradient": GRADIENTS}
    if name in kinds:
        return kinds[name]
    if name not in METHODS:
        known = (*kinds, *METHODS)
        raise MethodError(
            f"a tolerance must be for one of {', '.join(kinds)} or a method, got {name!r}"
            f"{nearest(name, known)}"
        )
    return tolerance_of(METHODS[name])


class Comparison:
    """A reference, the other backends, and the settings of the comparison.

    Args:
        reference: the backend that the others are compared with.
        others: at least one.
        allowed: tolerances that replace the promised ones.
        target: as given by the user.
        layer: as given by the user.
        progress: called before each step.
    """

    def __init__(
        self,
        reference: Subject,
        others: Sequence[Subject],
        allowed: Mapping[str, Tolerance],
        target: Any,
        layer: str | None,
        progress: Progress,
    ) -> None:
        self.reference, self.others = reference, others
        self.subjects = (reference, *others)
        self.allowed, self.progress = dict(allowed), progress
        self.notes: list[str] = list(reference.backend.info.notes)
        self.target = _fixed(
            Scene(reference.backend, reference.images, reference.batch.picture_sizes), target
        )
        # The default target is the top class, which the outputs may not have.
        self.unable = UNABLE if target is not None else (*UNABLE, TargetError)
        self.layer = layer and reference.backend.find_map_layer(layer).name

    def report(self, methods: Sequence[Method], options: Mapping[str, Any]) -> Report:
        """Compare everything."""
        rows = [*self._inputs(), *self._values(), *self._gradients()]
        maps: dict[str, dict[str, Attribution]] = {}
        for method in methods:
            taken = {name: value for name, value in options.items() if name in method.options}
            maps[method.name] = {}
            rows += self._maps(method, taken, maps[method.name])
        order = {other.name: i for i, other in enumerate(self.others)}
        rows.sort(key=lambda row: order[row.backend])
        count = len(self.reference.images)
        spec = as_spec(self.target, count)
        targets = [str(spec.for_image(index)) for index in range(count)]
        about = provenance(self.subjects, targets, self._layer_or_default(), methods)
        notes = tuple(self.notes)
        return Report(self.reference.name, tuple(order), tuple(rows), maps, notes, about)

    def _inputs(self) -> Iterator[Row]:
        for other in self.others:
            yield self._row(other, "input", INPUT, other.images, self.reference.images)

    def _row(self, other: Subject, kind: Any, name: str, found: Array, expected: Array) -> Row:
        """Compare two arrays against the tolerance of their kind, or of the method's name."""
        what = name if kind == "map" else kind
        bound = self.allowed.get(what) or promised(what)
        if kind == "layer" and _squeezed(found) == _squeezed(expected):
            found = found.reshape(expected.shape)  # some frameworks keep axes of length 1
        if found.shape != expected.shape:
            note = f"its shape is {found.shape}, not {expected.shape}"
            return Row(other.name, kind, name, APART, bound, note=note)
        values = measure(found, expected, rank=kind != "layer")
        return Row(other.name, kind, name, values, bound)

    def _values(self) -> Iterator[Row]:
        """Compare layers and logits image by image, to hold the layers of only one image."""
        for other in self.others:
            pairs = self._common_layers(other)
            worst: dict[tuple[str, str], Row] = {}
            for i in range(len(self.reference.images)):
                self.progress(f"layers of {other.name}")
                for row in self._values_of(other, pairs, slice(i, i + 1)):
                    key = (row.kind, row.name)
                    worst[key] = _worse(worst[key], row) if key in worst else row
            yield from worst.values()

    def _common_layers(self, other: Subject) -> dict[str, str]:
        """Return the reference's layers that the other backend has by one of their names."""
        layers = self.reference.backend.layers()
        found = {layer.name: other.layer_called(layer.name, *layer.aliases) for layer in layers}
        common = {mine: theirs for mine, theirs in found.items() if theirs is not None}
        self.notes.append(
            f"{other.name} has {len(common)} of the {len(layers)} layers of "
            f"{self.reference.name} by name"
        )
        return common

    def _values_of(self, other: Subject, pairs: dict[str, str], part: slice) -> Iterator[Row]:
        mine = self.reference.values(tuple(pairs), part)
        theirs = other.values(tuple(pairs.values()), part)
        for name, their_name in pairs.items():
            yield self._row(other, "layer", name, theirs[1][their_name], mine[1][name])
        row = self._row(other, "logits", "output", theirs[0], mine[0])
        has_classes = mine[0].ndim == 2 and mine[0].shape == theirs[0].shape
        yield replace(row, top=top_agreement(theirs[0], mine[0]) if has_classes else None)

    def _gradients(self) -> Iterator[Row]:
        """Compare the signed gradient by the input, and by the layer of the CAM methods."""
        for name in (INPUT, self._layer_or_default()):
            if name is None:
                continue
            self.progress(f"gradient by {name}")
            found = {one.name: self._gradient(one, name) for one in self.subjects}
            yield from self._against("gradient", name, found)

    def _layer_or_default(self) -> str | None:
        if self.layer is not None:
            return self.layer
        try:
            return self.reference.backend.default_layer().name
        except LayerError:
            return None

    def _gradient(self, subject: Subject, name: str) -> Array | str:
        """Return the gradient, or the reason why there is none."""
        try:
            wrt = name if name == INPUT else self._own_layer(subject, name)
            labels = subject.backend.info.labels
            return subject.gradient(as_target(self.target, len(subject.images), labels), wrt)
        except self.unable as error:
            return str(error)

    def _own_layer(self, subject: Subject, name: str) -> str:
        """Return the subject's name for the reference's layer `name`, or its own default."""
        if subject is self.reference:
            return name
        aliases = self.reference.backend.find_layer(name).aliases
        known = subject.layer_called(name, *aliases)
        if known is None and self.layer is None:
            return subject.backend.default_layer().name
        if known is None:
            raise LayerError(f"{subject.name} has no layer {name!r}")
        return known

    def _maps(
        self, method: Method, options: dict[str, Any], kept: dict[str, Attribution]
    ) -> Iterator[Row]:
        """Compare one method's maps, and keep them for the pictures."""

        def run(subject: Subject) -> Array | str:
            self.progress(f"{method.name} in {subject.name}")
            if "rules" in method.needs and not subject.backend.network.has_rectifiers:
                return "the method needs rectifiers, and the model has none"
            try:
                kept[subject.name] = self._attribute(subject, method, options)
            except self.unable as error:
                return str(error)
            except LayerError as error:
                if self.layer is not None:
                    raise
                return str(error)
            return kept[subject.name].maps

        found = {self.reference.name: run(self.reference)}
        expected = found[self.reference.name]
        is_measured = method.is_sensitive and method.name not in self.allowed
        if is_measured and not isinstance(expected, str):
            self._hold_to_itself(method, options, expected)
        found |= {other.name: run(other) for other in self.others}
        yield from self._against("map", method.name, found)

    def _hold_to_itself(self, method: Method, options: dict[str, Any], maps: Array) -> None:
        """Measure the tolerance of a sensitive method on the reference."""
        name, subject = method.name, self.reference.disturbed(DISTURBANCE)
        own = measure(self._attribute(subject, method, options).maps, maps)
        self.allowed[name] = tolerance_beside(own)
        self.notes.append(
            f"{name} takes a path that depends on rounding: with the images changed by "
            f"{DISTURBANCE:g}, its maps in {subject.name} have cosine {own.cosine:.3f} with the "
            f"unchanged ones, so the tolerance is {self.allowed[name]}"
        )

    def _attribute(self, subject: Subject, method: Method, options: dict[str, Any]) -> Attribution:
        name = self._layer_or_default() if method.takes_layer else None
        if "classifier" in method.needs and self.layer is None:
            name = None  # the method uses the pooled layer
        layer = None if name is None else self._own_layer(subject, name)
        job = plan(subject.backend, method, layer, options)
        return run_jobs(subject.backend, [job], subject.batch, self.target)[0]

    def _against(self, kind: Any, name: str, found: Mapping[str, Array | str]) -> Iterator[Row]:
        """Compare the results of all backends with that of the first which has one.

        Args:
            kind: the kind of value.
            name: of the layer or the method.
            found: for each backend the value, or the reason why there is none.
        """
        able = [one for one, value in found.items() if not isinstance(value, str)]
        base = able[0] if able else self.reference.name
        for other in self.others:
            value = found[other.name]
            if isinstance(value, str):
                yield Row(other.name, kind, name, note=f"{other.name}: {value}")
            elif other.name == base:
                rest = "the others are compared with this" if len(able) > 1 else "no other can"
                note = f"{self.reference.name} cannot compute it; {rest}"
                yield Row(other.name, kind, name, note=note)
            else:
                row = self._row(other, kind, name, value, found[base])
                yield replace(row, reference="" if base == self.reference.name else base)


def _fixed(scene: Scene, target: Any) -> Any:
    """Fix the target to the reference's outputs, so that all backends explain the same."""
    count = len(scene.images)
    spec = as_spec(target, count).settled(scene)
    if target is None and spec == Top() and scene.outputs.ndim > 2:
        return spec
    goal = spec.resolve(count, scene.labels)
    classes = classes_of(goal, scene.outputs)
    return spec if classes is None or goal.is_several else classes.tolist()


def _squeezed(value: Array) -> tuple[int, ...]:
    """Return the shape without axes of length 1."""
    return tuple(size for size in value.shape if size > 1)


def _worse(one: Row, other: Row) -> Row:
    """Return the worse of two rows."""
    if one.measures is None or other.measures is None:
        return one if one.measures is None else other
    tops = [top for top in (one.top, other.top) if top is not None]
    worst = one.measures.worst(other.measures)
    return replace(one, measures=worst, top=min(tops) if tops else None)
