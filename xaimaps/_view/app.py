"""The web application: the page's files, which anyone may read, and an API behind a token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from xaimaps._view.explainer import Question
from xaimaps._view.guard import Guard, Headers
from xaimaps._view.session import Session
from xaimaps._view.sharing import PAGE, as_json, standalone
from xaimaps._view.worker import Worker
from xaimaps.errors import XaimapsError

HOSTS = ["127.0.0.1", "localhost"]
"""The names by which this machine calls itself; a page of another name cannot read the answers."""

MOST_BYTES = 64 * 2**20
"""The largest number of bytes of an uploaded picture."""

MOST_TEXT = 2**16
"""The largest number of bytes of a question."""


def make_app(session: Session, token: str, worker: Worker) -> Starlette:
    """Make the application of one session.

    Args:
        session: the models and the pictures.
        token: what each request to the API must bring in its header `Authorization`.
        worker: computes the answers.
    """
    api = _Api(session, worker)
    routes = [
        Route("/about", api.about),
        Route("/pictures", api.upload, methods=["POST"]),
        Route("/models/{model:int}/pictures/{number:int}", api.picture),
        Route("/maps", api.explain, methods=["POST"]),
        Route("/file", api.share, methods=["POST"]),
    ]
    return Starlette(
        routes=[
            Mount("/api", routes=routes, middleware=[Middleware(Guard, token=token)]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(Headers), Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={XaimapsError: _refused, HTTPException: _refused},
    )


class _Api:
    """The answers to the page."""

    def __init__(self, session: Session, worker: Worker) -> None:
        self._session = session
        self._worker = worker

    async def about(self, request: Request) -> Response:
        return _answer({**self._session.about(), "most_bytes": MOST_BYTES})

    async def upload(self, request: Request) -> Response:
        data = await _body(request, MOST_BYTES)
        name = request.query_params.get("name", "picture")
        return _answer(await self._computed(request, self._session.add, name, data))

    async def picture(self, request: Request) -> Response:
        chosen = (request.path_params["model"], request.path_params["number"])
        return _answer(await self._computed(request, self._session.picture, *chosen))

    async def explain(self, request: Request) -> Response:
        question = _question(await _json(request))
        return _answer(await self._computed(request, self._session.explain, question))

    async def share(self, request: Request) -> Response:
        asked = await _json(request)
        questions = [_question(one) for one in asked] if isinstance(asked, list) else []
        if len(questions) not in (1, 2) or len({one.picture for one in questions}) != 1:
            raise HTTPException(400, "a file must have one or two maps of one picture")
        return HTMLResponse(await self._computed(request, self._standalone, questions))

    async def _computed(self, request: Request, function: Callable[..., Any], *given: Any) -> Any:
        """Run a function in the worker, unless the page goes away before its turn."""
        future = self._worker.submit(function, *given)
        waiting = asyncio.wrap_future(future)
        while not (await asyncio.wait([waiting], timeout=0.2))[0]:
            if self._worker.has_ended or await request.is_disconnected():
                waiting.cancel()
                raise HTTPException(503, "the request or `xaimaps view` was ended")
        return waiting.result()

    def _standalone(self, questions: list[Question]) -> str:
        maps = list(map(self._session.explain, questions))
        pictures = {
            one.model: {**self._session.picture(one.model, one.picture), "choices": []}
            for one in questions
        }
        shown = [{**map, "model": one.model} for map, one in zip(maps, questions, strict=True)]
        return standalone({"about": self._session.about(), "pictures": pictures, "maps": shown})


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _answer({"error": error.detail}, error.status_code)
    return _answer({"error": str(error)}, 400)


def _answer(value: Any, status: int = 200) -> Response:
    return Response(as_json(value), status, media_type="application/json")


async def _body(request: Request, most: int) -> bytes:
    """Read the body of a request, and stop where it becomes too large."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise HTTPException(413, f"a file must have at most {most} bytes; give a smaller one")
    return bytes(data)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await _body(request, MOST_TEXT))
    except (ValueError, RecursionError):
        raise HTTPException(400, "a question must be JSON") from None


def _question(asked: Any) -> Question:
    try:
        question = Question(**asked)
    except TypeError:
        known = ", ".join(field.name for field in fields(Question))
        raise HTTPException(400, f"a question must have some of {known}") from None
    texts = (question.layer, question.target)
    is_valid = type(question.picture) is type(question.model) is int
    is_valid = is_valid and isinstance(question.method, str)
    if not is_valid or not all(isinstance(text, str | None) for text in texts):
        raise HTTPException(400, "a question must have numbers and texts")
    return question
