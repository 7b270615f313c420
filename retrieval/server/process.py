"""One serving process: a socket, an application on it, and an orderly end.

SIGTERM and Ctrl-C stop the accepting. Whoever has a connection by then, also one that only the kernel has accepted, may
still send the request that is on its way, for half a second; what has been taken is answered, for `shutdown_timeout_s`
at most, and says that the connection ends. A second Ctrl-C does not wait.
"""

import asyncio
import errno
import gc
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from retrieval.server.fair_share import FairShare
from retrieval.server.settings import ServerSettings

BACKLOG = 2048

_POSTPONE_S = 0.005
_MOST_POSTPONED = 4
"""After 20 ms a connection that a less busy replica has not taken is taken by any."""

_GRACE_S = 0.5
"""How long a connection without a request may still send one when the server is told to stop."""

_CLOSE = (b"connection", b"close")

_LOOK_AT_HEADERS_TICKS = 10
"""Of 0.1 s: how often it is looked for connections whose headers do not come."""

_NO_MORE_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger(__name__)


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


@contextmanager
def _lasting_objects_uncounted() -> Iterator[None]:
    """Keep what has been loaded by now out of the collector's full passes: they walk modules that are never freed, four
    times a second under load, and every request waits meanwhile.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class ServingProcess(uvicorn.Server):
    """Runs an application on a socket until it is told to stop, and then returns: it does not kill its process."""

    def __init__(
        self,
        app: Any,
        settings: ServerSettings,
        *,
        on_started: Callable[[], None] | None = None,
        share: FairShare | None = None,
    ) -> None:
        """`on_started` is called when requests are answered; with a `share`, replicas with fewer connections accept
        before this one does.
        """
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
        self._share = share
        self._postponed = 0
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[Any]] = set()
        self._header_timeout_s = settings.header_timeout_s
        self._owing: dict[Any, tuple[Any, float]] = {}
        self.interrupted = False

    def run_on(self, listener: socket.socket) -> None:
        """Serve until a signal or `stop`.

        Raises:
            KeyboardInterrupt: it was stopped by Ctrl-C, after everything was closed.
        """
        with _lasting_objects_uncounted():
            self.run(sockets=[listener])
        if self.interrupted:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Stop as on SIGTERM; from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell whoever waits for it."""
        await super().startup(sockets=[])
        if self.started:
            [self._listener] = sockets or []
            self._publish()
            self._accept_from_now()
            if self._on_started is not None:
                self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and finish what has been taken."""
        self._accept_again_in(None)
        if self._share is not None:
            self._share.leave()
        self._take_all_and_close()
        # of every request from here on: its client asks no further on a connection that is about to end
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        self._end_after_answers()
        until = time.monotonic() + _GRACE_S
        while (self._accepting or self._silent()) and time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.01)
        if self._accepting:
            await asyncio.wait(self._accepting)
        await super().shutdown(sockets)

    def _take_all_and_close(self) -> None:
        """Accept what the kernel has accepted; when the last process closes the listener, the kernel resets the rest.
        Nothing may come between the last look and the closing.
        """
        assert self._listener is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except (InterruptedError, ConnectionAbortedError):
                continue
            except OSError:  # there are no more, or no files for them
                break
            self._take(connection)
        self._listener.close()

    def _end_after_answers(self) -> None:
        """Let the answers that have not begun say that their connection ends."""
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = False

    def _silent(self) -> bool:
        """True if a connection has no request under way: none yet, or an earlier one that was answered."""
        cycles = (getattr(connection, "cycle", None) for connection in self.server_state.connections)
        return any(cycle is None or cycle.response_complete for cycle in cycles)

    async def on_tick(self, counter: int) -> bool:
        """Every 0.1 s: what uvicorn does, and the number of connections for the other replicas."""
        self._publish()
        if counter % _LOOK_AT_HEADERS_TICKS == 0:
            self._end_without_headers()
        return await super().on_tick(counter)

    def _end_without_headers(self) -> None:
        """Close the connections that have owed the headers of a request for too long: since they were made, or since
        its first byte. Between two requests it is uvicorn's `timeout_keep_alive` that ends them.
        """
        now, owing = time.monotonic(), {}
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            idle = getattr(connection, "timeout_keep_alive_task", None) is not None
            if idle or (cycle is not None and not cycle.response_complete):
                continue
            was, since = self._owing.get(connection, (cycle, now))
            owing[connection] = (cycle, since if was is cycle else now)
        self._owing = owing
        for connection, (_, since) in owing.items():
            if now - since > self._header_timeout_s:
                connection.transport.close()

    def _publish(self) -> None:
        if self._share is not None and not self.should_exit:
            self._share.publish(self._num_connections())

    def _num_connections(self) -> int:
        return len(self.server_state.connections) + len(self._accepting)

    def _accept_from_now(self) -> None:
        if self._listener is not None and not self.should_exit:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept_one)

    def _accept_again_in(self, pause_s: float | None) -> None:
        """Leave waiting connections to the other replicas for a while, or for good."""
        loop = asyncio.get_running_loop()
        if self._listener is not None and self._listener.fileno() >= 0:
            loop.remove_reader(self._listener.fileno())
        if pause_s is not None:
            loop.call_later(pause_s, self._accept_from_now)

    def _accept_one(self) -> None:
        """Accept one connection a round of the event loop; uvloop by itself takes all that wait."""
        assert self._listener is not None
        others_first = self._share is not None and not self._share.is_next(self._num_connections())
        if others_first and self._postponed < _MOST_POSTPONED:
            self._postponed += 1
            self._accept_again_in(_POSTPONE_S)
            return
        self._postponed = 0
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another replica was quicker, or the client has left
        except OSError as error:
            if error.errno not in _NO_MORE_FILES:
                raise
            _log.error("no connection can be accepted for a second: %s", error)
            self._accept_again_in(1.0)
            return
        self._take(connection)
        self._publish()

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()  # it was gone again

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

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
