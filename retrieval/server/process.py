"""One serving process: a socket, an application on it, and an orderly end.

SIGTERM and Ctrl-C stop the accepting; what has been taken is answered, for `shutdown_timeout_s` at most. A second
Ctrl-C does not wait.
"""

import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from retrieval.server.settings import ServerSettings

BACKLOG = 2048


def listening_socket(settings: ServerSettings) -> socket.socket:
    """A socket that listens on the settings' host and port.

    Raises:
        ValueError: the port is taken, may not be used, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        where = f"port {settings.port} on {settings.host}"
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"{where} is taken by another process; stop it, or choose another with --port") from None
        if error.errno == errno.EACCES:
            raise ValueError(
                f"{where} needs more rights than this user has; choose one above 1023 with --port"
            ) from None
        raise ValueError(f"cannot listen on {where} ({error.strerror or error}); see --host and --port") from None
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class ServingProcess(uvicorn.Server):
    """Runs an application on a socket until it is told to stop, and then returns: it does not kill its process."""

    def __init__(self, app: Any, settings: ServerSettings, *, on_started: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="on",
                ws="none",
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=settings.shutdown_timeout_s,
            )
        )
        self._on_started = on_started
        self.interrupted = False

    def run_on(self, listener: socket.socket) -> None:
        """Serve until a signal or `stop`.

        Raises:
            KeyboardInterrupt: it was stopped by Ctrl-C, after everything was closed.
        """
        self.run(sockets=[listener])
        if self.interrupted:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Stop as on SIGTERM; from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell whoever waits for it."""
        await super().startup(sockets)
        if self.started and self._on_started is not None:
            self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        """As uvicorn's, without raising the signal again at the end: the caller decides how its process ends."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in order; a second Ctrl-C at once."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)
