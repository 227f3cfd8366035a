"""`Session`: models and pictures, and what the page shows of them as values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xaimaps._images.open import MAX_PIXELS
from xaimaps._view.explainer import Explainer, Question
from xaimaps._view.pictures import Pictures
from xaimaps.backend import Backend
from xaimaps.errors import UnsupportedModelError


class Session:
    """The models to choose from, and their pictures.

    Args:
        models: the models, by the names that the page shows.
        pictures: the paths of the pictures to choose from.
        max_pixels: the largest number of pixels of a picture.

    Raises:
        ArrayInputError: a model takes no pictures, or its preprocessing is unknown.
        UnsupportedModelError: no method can explain a model.
        InputImageError: the first picture cannot be read.
    """

    def __init__(
        self,
        models: Mapping[str, Backend],
        pictures: Sequence[Path] = (),
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._names = list(models)
        self._pictures = Pictures(pictures, max_pixels)
        self._explainers = [Explainer(model, self._pictures) for model in models.values()]
        if pictures:
            for explainer in self._explainers:
                explainer.opened(0)  # the page begins with it

    def about(self) -> dict[str, Any]:
        """Describe the models, and list the pictures to choose from."""
        named = zip(self._names, self._explainers, strict=True)
        return {
            "models": [{"name": name, **explainer.about()} for name, explainer in named],
            "pictures": self._pictures.listed(),
        }

    def add(self, name: str, data: bytes) -> int:
        """Keep an uploaded picture, and return its number.

        Raises:
            InputImageError: it cannot be read.
        """
        return self._pictures.add(self._explainers[0].model, name, data)

    def picture(self, model: int, number: int) -> dict[str, Any]:
        """Return what a model sees of a picture, and what can be asked of it."""
        return self._explainer(model).picture(number)

    def explain(self, question: Question) -> dict[str, Any]:
        """Return a map; a question may only name what the page was given."""
        return self._explainer(question.model).explain(question)

    def _explainer(self, number: int) -> Explainer:
        if not 0 <= number < len(self._explainers):
            raise UnsupportedModelError(f"there is no model {number}; choose one of the list")
        return self._explainers[number]
