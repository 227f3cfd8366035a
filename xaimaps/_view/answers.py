"""`Answers`: what the page may ask, and the answers as values for JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from xaimaps._view.explainer import Question
from xaimaps._view.session import Session
from xaimaps._view.sharing import standalone
from xaimaps.errors import ArrayInputError

MOST_BYTES = 64 * 2**20
"""The largest number of bytes of an uploaded picture."""


class Answers:
    """The answers to the page of one session.

    Args:
        session: the models and the pictures.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.add, self.picture = session.add, session.picture

    def about(self) -> dict[str, Any]:
        """Describe the models, and list the pictures."""
        return {**self._session.about(), "most_bytes": MOST_BYTES}

    def explain(self, asked: Any) -> dict[str, Any]:
        """Return a map.

        Raises:
            ArrayInputError: the question has other parts, or parts of other types.
        """
        return self._session.explain(_question(asked))

    def file(self, asked: Any) -> str:
        """Return the page as a file with one or two maps of one picture.

        Raises:
            ArrayInputError: the questions are others.
        """
        questions = [_question(one) for one in asked] if isinstance(asked, list) else []
        if len(questions) not in (1, 2) or len({one.picture for one in questions}) != 1:
            raise ArrayInputError("a file must have one or two maps of one picture")
        maps = list(map(self._session.explain, questions))
        pictures = {
            one.model: {**self._session.picture(one.model, one.picture), "choices": []}
            for one in questions
        }
        shown = [{**map, "model": one.model} for map, one in zip(maps, questions, strict=True)]
        return standalone({"about": self._session.about(), "pictures": pictures, "maps": shown})


def _question(asked: Any) -> Question:
    try:
        question = Question(**asked)
    except TypeError:
        known = ", ".join(field.name for field in fields(Question))
        raise ArrayInputError(f"a question must have some of {known}") from None
    texts = (question.layer, question.target)
    is_valid = type(question.picture) is type(question.model) is int
    is_valid = is_valid and isinstance(question.method, str)
    if not is_valid or not all(isinstance(text, str | None) for text in texts):
        raise ArrayInputError("a question must have numbers and texts")
    return question
