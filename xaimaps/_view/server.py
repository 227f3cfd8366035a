"""Serve the viewer to this machine, until it is interrupted."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from xaimaps._view.app import make_app
from xaimaps._view.session import Session
from xaimaps._view.worker import Worker
from xaimaps.errors import BackendError

HOST = "127.0.0.1"


def serve(session: Session, port: int, announce: Callable[[str], object]) -> None:
    """Serve a session until the process is interrupted.

    Args:
        session: the models and the pictures.
        port: the port; 0 for any that is free.
        announce: receives the address, with its token, when the port is open.

    Raises:
        BackendError: the port cannot be used.
    """
    token = secrets.token_urlsafe(24)
    with _listening(port) as listener:
        # The token is behind the #, so that no browser sends it, and no log keeps it.
        announce(f"http://{HOST}:{listener.getsockname()[1]}/#{token}")
        worker = Worker()
        config = uvicorn.Config(
            make_app(session, token, worker),
            log_level="warning",
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        _Server(config, worker).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server whose requests stop waiting for the worker when a signal ends it."""

    def __init__(self, config: uvicorn.Config, worker: Worker) -> None:
        super().__init__(config)
        self._worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._worker.has_ended = True
        super().handle_exit(sig, frame)


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise BackendError(
            f"`--port` must be a free port, got {port} ({error.strerror}); leave it out for any"
        ) from error
