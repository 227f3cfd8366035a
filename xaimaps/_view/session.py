"""`Session`: one model and its pictures, and what the page shows of them as values for JSON."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaimaps import _choices
from xaimaps._attribute import run_jobs
from xaimaps._images.open import MAX_PIXELS
from xaimaps._plan import able_methods, plan_all
from xaimaps._prepare import Batch, prepare, require_pictures
from xaimaps._view import drawing
from xaimaps.backend import Backend
from xaimaps.errors import (
    InputImageError,
    LayerError,
    MethodError,
    TargetError,
    UnsupportedModelError,
    XaimapsError,
)
from xaimaps.methods import METHODS
from xaimaps.targets import Scene

USUAL = ("grad_cam", "saliency", "cam", "recipro_cam")
"""The methods to show first, if the model has them: those of few passes."""

MOST_UPLOADS = 16
"""The number of uploaded pictures to keep; a new one replaces the oldest."""


@dataclass(frozen=True)
class Question:
    """One map that the page asks for.

    Attributes:
        picture: the number of the picture.
        method: the name of a method.
        layer: the name of a layer; None for the default.
        target: one of the targets that the page was given for the picture; None for the first.
    """

    picture: int
    method: str
    layer: str | None = None
    target: str | None = None


class Session:
    """One model and its pictures.

    Args:
        model: the model.
        pictures: the paths of the pictures to choose from.
        max_pixels: the largest number of pixels of a picture.

    Raises:
        ArrayInputError: the model takes no pictures, or its preprocessing is unknown.
        UnsupportedModelError: no method can explain the model.
        InputImageError: the first picture cannot be read.
    """

    def __init__(
        self, model: Backend, pictures: Sequence[Path] = (), max_pixels: int = MAX_PIXELS
    ) -> None:
        require_pictures(model)  # refuses a model before its page is open
        self.model = model
        self.methods = able_methods(model, METHODS)
        if not self.methods:
            raise UnsupportedModelError(
                f"no method can explain the model {model.info.name!r} in {model.name}; give "
                "another model, or another backend by --backend"
            )
        self._max_pixels = max_pixels
        self._sources: list[Path | bytes | None] = list(pictures)
        self._names = _short(pictures)
        self._opened = functools.lru_cache(2)(self._open)
        self.picture = functools.lru_cache(MOST_UPLOADS)(self._picture)
        self.explain = functools.lru_cache(64)(self._explain)
        if pictures:
            self._opened(0)  # the page begins with it

    def about(self) -> dict[str, Any]:
        """Describe the model, its methods and layers, and the pictures to choose from."""
        rows = [METHODS[name] for name in self.methods]
        return {
            "model": self.model.info.name,
            "backend": self.model.name,
            "methods": [
                {"name": row.name, "summary": row.summary, "takes_layer": row.takes_layer}
                for row in rows
            ],
            "usual": [*(name for name in USUAL if name in self.methods), *self.methods],
            "layers": [
                {"name": layer.name, "operator": layer.operator, "shape": layer.shape[1:]}
                for layer in self.model.layers()
                if layer.is_spatial
            ],
            "layer": self._default_layer(),
            "pictures": [
                (number, self._names[number])
                for number, source in enumerate(self._sources)
                if source is not None
            ],
        }

    def add(self, name: str, data: bytes) -> int:
        """Keep an uploaded picture, and return its number.

        Raises:
            InputImageError: it cannot be read.
        """
        self._prepared(name, data)
        self._sources.append(data)
        self._names.append(name)
        uploads = [i for i, one in enumerate(self._sources) if isinstance(one, bytes)]
        for old in uploads[:-MOST_UPLOADS]:
            self._sources[old] = None
        return len(self._sources) - 1

    def _open(self, number: int) -> Batch:
        source = self._sources[number] if 0 <= number < len(self._sources) else None
        if source is None:
            raise InputImageError("the picture is no longer here; choose or drop it again")
        return self._prepared(self._names[number], source)

    def _prepared(self, name: str, source: Path | bytes) -> Batch:
        if isinstance(source, bytes):
            file = io.BytesIO(source)
            file.name = name  # for messages
            return prepare(self.model, file, max_pixels=self._max_pixels)
        return prepare(self.model, source, max_pixels=self._max_pixels)

    def _picture(self, number: int) -> dict[str, Any]:
        """Return what the model sees of a picture, and what can be asked of it."""
        batch = self._opened(number)
        scene = Scene(self.model, batch.images, batch.picture_sizes)
        kinds = (_choices.boxes, _choices.regions, _choices.characters, _choices.classes)
        choices = next(filter(None, (list(kind(scene)) for kind in kinds)), [])
        view = drawing.shrunk(batch.views[0])
        return {
            "name": self._names[number],
            "view": drawing.data_url(view),
            "height": view.shape[0],
            "width": view.shape[1],
            "choices": choices,
        }

    def _explain(self, question: Question) -> dict[str, Any]:
        """Return a map; a question may only name what the page was given."""
        batch = self._opened(question.picture)
        chosen = self._chosen(question)
        self._check(question)
        jobs = plan_all(self.model, [question.method], question.layer, {})
        (found,) = run_jobs(self.model, jobs, batch, chosen and chosen["target"])
        return {
            "method": question.method,
            "layer": found.layer,
            "target": found.target_name() if found.row.uses_target else None,
            "score": None if found.target_scores is None else float(found.target_scores[0]),
            "seconds": found.seconds.run,
            "notes": found.notes(),
            **drawing.drawn(found),
        }

    def _chosen(self, question: Question) -> dict[str, Any] | None:
        """Return the choice that a question names; only those of the page, as texts name files."""
        choices = self.picture(question.picture)["choices"]
        if question.target is None:
            return choices[0] if choices else None
        for choice in choices:
            if choice["target"] == question.target:
                return dict(choice)
        raise TargetError(f"no target {question.target!r} in this picture; choose one of the list")

    def _check(self, question: Question) -> None:
        if question.method not in self.methods:
            raise MethodError(
                f"the model has no method {question.method!r}; choose one of the list"
            )
        names = {layer.name for layer in self.model.layers()}
        if question.layer is not None and question.layer not in names:
            raise LayerError(f"the model has no layer {question.layer!r}; choose one of the list")

    def _default_layer(self) -> str | None:
        try:
            return self.model.default_layer().name
        except XaimapsError:
            return None


def _short(paths: Sequence[Path]) -> list[str]:
    """Return the names of pictures without the folders that all of them are in."""
    if not paths:
        return []
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [os.path.relpath(path, shared) for path in paths]
