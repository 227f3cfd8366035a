"""`Explainer`: one model on the pictures, and what the page shows of it as values for JSON."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from xaimaps import _choices
from xaimaps._attribute import run_jobs
from xaimaps._plan import able_methods, plan_all
from xaimaps._prepare import Batch, require_pictures
from xaimaps._view import drawing
from xaimaps._view.pictures import MOST_UPLOADS, Pictures
from xaimaps.backend import Backend
from xaimaps.errors import (
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


@dataclass(frozen=True)
class Question:
    """One map that the page asks for.

    Attributes:
        picture: the number of the picture.
        method: the name of a method.
        layer: the name of a layer; None for the default.
        target: one of the targets that the page was given for the picture; None for the first.
        model: the number of the model.
    """

    picture: int
    method: str
    layer: str | None = None
    target: str | None = None
    model: int = 0


class Explainer:
    """One model on the pictures of a session.

    Args:
        model: the model.
        pictures: the pictures to choose from.

    Raises:
        ArrayInputError: the model takes no pictures, or its preprocessing is unknown.
        UnsupportedModelError: no method can explain the model.
    """

    def __init__(self, model: Backend, pictures: Pictures) -> None:
        require_pictures(model)  # refuses a model before its page is open
        self.model = model
        self.methods = able_methods(model, METHODS)
        if not self.methods:
            raise UnsupportedModelError(
                f"no method can explain the model {model.info.name!r} in {model.name}; give "
                "another model, or another backend by --backend"
            )
        self._pictures = pictures
        self.opened = functools.lru_cache(2)(self._open)
        self.picture = functools.lru_cache(MOST_UPLOADS)(self._picture)
        self.explain = functools.lru_cache(64)(self._explain)

    def about(self) -> dict[str, Any]:
        """Describe the model, its methods and its layers."""
        rows = [METHODS[name] for name in self.methods]
        return {
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
        }

    def _open(self, number: int) -> Batch:
        return self._pictures.opened(self.model, number)

    def _picture(self, number: int) -> dict[str, Any]:
        """Return what the model sees of a picture, and what can be asked of it.

        `seen` is the height and width in pixels of the picture itself. As what is cut off or added
        is the same on opposite sides, two models with the same `seen` see the same part.
        """
        batch = self.opened(number)
        scene = Scene(self.model, batch.images, batch.picture_sizes)
        kinds = (_choices.boxes, _choices.regions, _choices.characters, _choices.classes)
        choices = next(filter(None, (list(kind(scene)) for kind in kinds)), [])
        view = drawing.shrunk(batch.views[0])
        return {
            "name": self._pictures.names[number],
            "view": drawing.data_url(view),
            "height": view.shape[0],
            "width": view.shape[1],
            "seen": batch.views[0].shape[:2],
            "choices": choices,
        }

    def _explain(self, question: Question) -> dict[str, Any]:
        """Return a map; a question may only name what the page was given."""
        batch = self.opened(question.picture)
        chosen = self._chosen(question)
        self._check(question)
        jobs = plan_all(self.model, [question.method], question.layer, {})
        (found,) = run_jobs(self.model, jobs, batch, chosen and chosen["target"])
        return {
            "method": question.method,
            "layer": found.layer,
            "label": chosen and chosen["label"],
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
