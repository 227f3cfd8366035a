"""`Viewer`: the page of `xaimaps view` in a notebook, through the notebook's own connection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anywidget
import traitlets

from xaimaps._view.answers import Answers
from xaimaps._view.session import Session
from xaimaps._view.sharing import PAGE, as_json, standalone
from xaimaps.errors import ArrayInputError, XaimapsError


class Viewer(anywidget.AnyWidget):
    """The page as a frame, whose questions arrive as messages.

    Attributes:
        page: the page, in one file.
        height: the height of the frame, in CSS.
    """

    _esm = PAGE / "widget.js"
    page = traitlets.Unicode().tag(sync=True)
    height = traitlets.Unicode("45rem").tag(sync=True)

    def __init__(self, session: Session) -> None:
        super().__init__(page=standalone({"notebook": True}))
        self._answers = Answers(session)
        self.on_msg(self._answer)

    def _answer(self, _: Any, asked: dict[str, Any], files: Sequence[memoryview]) -> None:
        """Answer one message by one with its number; a user's mistake is told on the page."""
        told: dict[str, Any] = {"id": asked.get("id")}
        try:
            told["answer"] = json.loads(as_json(self._found(asked, files)))
        except XaimapsError as error:
            told["error"] = str(error)
        self.send(told)

    def _found(self, asked: dict[str, Any], files: Sequence[memoryview]) -> Any:
        address = urlsplit(str(asked.get("path")))
        match address.path.split("/"):
            case ["about"]:
                return self._answers.about()
            case ["pictures"] if files:
                (name,) = parse_qs(address.query).get("name", ["picture"])
                return self._answers.add(name, bytes(files[0]))
            case ["models", model, "pictures", number] if model.isdigit() and number.isdigit():
                return self._answers.picture(int(model), int(number))
            case ["maps"]:
                return self._answers.explain(asked.get("body"))
            case ["file"]:
                return self._answers.file(asked.get("body"))
        raise ArrayInputError(f"the page must ask for what there is, got {address.path!r}")
