"""The web application: the page's files, which anyone may read, and an API behind a token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from xaimaps._view.answers import MOST_BYTES, Answers
from xaimaps._view.guard import Guard, Headers
from xaimaps._view.session import Session
from xaimaps._view.sharing import PAGE, as_json
from xaimaps._view.worker import Worker
from xaimaps.errors import XaimapsError

HOSTS = ["127.0.0.1", "localhost"]
"""The names by which this machine calls itself; a page of another name cannot read the answers."""

MOST_TEXT = 2**16
"""The largest number of bytes of a question."""


def make_app(session: Session, token: str, worker: Worker) -> Starlette:
    """Make the application of one session.

    Args:
        session: the models and the pictures.
        token: what each request to the API must bring in its header `Authorization`.
        worker: computes the answers.
    """
    api = _Api(Answers(session), worker)
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

    def __init__(self, answers: Answers, worker: Worker) -> None:
        self._answers = answers
        self._worker = worker

    async def about(self, request: Request) -> Response:
        return _answer(self._answers.about())

    async def upload(self, request: Request) -> Response:
        data = await _body(request, MOST_BYTES)
        name = request.query_params.get("name", "picture")
        return _answer(await self._computed(request, self._answers.add, name, data))

    async def picture(self, request: Request) -> Response:
        chosen = (request.path_params["model"], request.path_params["number"])
        return _answer(await self._computed(request, self._answers.picture, *chosen))

    async def explain(self, request: Request) -> Response:
        asked = await _json(request)
        return _answer(await self._computed(request, self._answers.explain, asked))

    async def share(self, request: Request) -> Response:
        asked = await _json(request)
        return HTMLResponse(await self._computed(request, self._answers.file, asked))

    async def _computed(self, request: Request, function: Callable[..., Any], *given: Any) -> Any:
        """Run a function in the worker, unless the page goes away before its turn."""
        future = self._worker.submit(function, *given)
        waiting = asyncio.wrap_future(future)
        while not (await asyncio.wait([waiting], timeout=0.2))[0]:
            if self._worker.has_ended or await request.is_disconnected():
                waiting.cancel()
                raise HTTPException(503, "the request or `xaimaps view` was ended")
        return waiting.result()


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
