"""Several processes behind one port: they accept from one socket and map the same index files, which the kernel holds
in memory once.

A replica that dies is started again, and the others go on meanwhile, also where the system has no room for another just
then; where the index was replaced since the start, it stays away, for all replicas must answer alike. On SIGTERM and
Ctrl-C all of them finish what they have taken. A pipe ties each to this process: if this one is killed, they stop too.
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from retrieval.server.fair_share import FairShare, create_counts
from retrieval.server.pinned import IndexReplacedError
from retrieval.server.replica import MOST_BYTES_SAID, REPLACED
from retrieval.server.settings import ServerSettings

_COUNTS_FILE = "connections.bin"
_POLL_S = 0.1
_STEADY_S = 30.0
"""A replica that has run this long and dies is started again at once; one that keeps dying, after a growing pause."""
_LONGEST_PAUSE_S = 30.0


class ReplicaStartError(ValueError):
    """A replica cannot serve what it was given; what it said about that stands on standard error."""


@dataclass(slots=True)
class _Replica:
    process: subprocess.Popen[bytes]
    ready: int
    started: float
    about: str | None = None
    """What it serves, as it said when it was ready."""


class ReplicaSet:
    """Keeps `settings.replicas` processes serving one socket.

    Args:
        spec: what to serve, JSON-able; each replica opens it with `opener`.
        settings: of every replica.
        listener: the listening socket. It is closed when the replicas are told to stop: the last of them to close its
            own takes what the kernel has accepted until then.
        opener: `module:function` from a spec to a retriever.
        index_hashes: of `pinned.index_hashes`: what a replica must find when it opens the spec.
    """

    def __init__(
        self,
        spec: Any,
        settings: ServerSettings,
        listener: socket.socket,
        *,
        opener: str,
        index_hashes: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        visible = settings.model_dump(mode="json")
        visible["token"] = settings.token.get_secret_value() if settings.token else None  # by pipe: argv is public
        self._order = {"spec": spec, "settings": visible, "opener": opener}
        self._order["index_hashes"] = dict(index_hashes or {})
        self._replicas: list[_Replica | None] = [None] * settings.replicas
        self._deaths = [0] * settings.replicas
        self._not_before = [0.0] * settings.replicas
        self._stop = threading.Event()
        self._interrupted = False

    def run(self, on_started: Callable[[str], None]) -> None:
        """Serve until SIGTERM or Ctrl-C; call it on the main thread. `on_started` is called with what they serve when
        all replicas answer.

        Raises:
            ReplicaStartError: a replica could not be started, or ended before it was ready; its standard error has
                said why.
            IndexReplacedError: the last replica is gone, and the index is another one now.
            KeyboardInterrupt: it was stopped by Ctrl-C, after every replica had ended.
        """
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with tempfile.TemporaryDirectory(prefix="waymark-replicas-") as shared:
                try:
                    create_counts(Path(shared) / _COUNTS_FILE, self._settings.replicas)
                    self._keep_running(Path(shared), on_started)
                finally:
                    self._end_all()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._interrupted:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._interrupted and number == signal.SIGINT:
            for replica in self._replicas:
                if replica is not None:
                    replica.process.kill()
        self._interrupted = self._interrupted or number == signal.SIGINT
        self._stop.set()

    def _keep_running(self, shared: Path, on_started: Callable[[str], None]) -> None:
        announced = False
        share = FairShare(shared / _COUNTS_FILE, 0)  # mapped now: a system that kills replicas may refuse it later
        while not self._stop.is_set():
            for place, replica in enumerate(self._replicas):
                if replica is None:
                    if time.monotonic() >= self._not_before[place]:
                        self._replicas[place] = self._started(place, shared, announced)
                    continue
                if replica.about is None:
                    replica.about = self._said(replica)
                if replica.process.poll() is not None and not self._stop.is_set():
                    self._bury(place, replica, shared, share, announced)
            ready = [replica.about for replica in self._replicas if replica is not None and replica.about is not None]
            if not announced and len(ready) == len(self._replicas):
                announced = True
                on_started(ready[0])
            self._stop.wait(_POLL_S)

    def _started(self, place: int, shared: Path, announced: bool) -> _Replica | None:
        """A new replica; None where the system has no room for one just now and others serve."""
        try:
            return self._start(place, shared)
        except OSError as error:
            if not announced:
                raise ReplicaStartError(
                    f"a replica could not be started ({error.strerror or error}); free memory, files or processes, or "
                    "start with fewer --replicas"
                ) from error
            pause_s = self._wait_before_next(place)
            print(
                f"waymark: a replica could not be started ({error.strerror or error}); trying again in {pause_s:g} s",
                file=sys.stderr,
            )
            return None

    def _start(self, place: int, shared: Path) -> _Replica:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        listener = self._listener.fileno()
        environment = os.environ | {
            "PROMETHEUS_MULTIPROC_DIR": str(shared),
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "retrieval.server.replica", str(listener), str(writing)],
                stdin=subprocess.PIPE,
                pass_fds=(listener, writing),
                env=environment,
                start_new_session=True,  # a terminal sends its Ctrl-C to the parent alone
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        assert process.stdin is not None
        order = self._order | {"counts": str(shared / _COUNTS_FILE), "place": place}
        with suppress(BrokenPipeError):  # it died at once, which the next look at it finds out
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        return _Replica(process, reading, time.monotonic())

    def _said(self, replica: _Replica) -> str | None:
        try:  # it writes all of it at once, and less than the pipe takes at once; the last character may be cut
            return os.read(replica.ready, MOST_BYTES_SAID).decode(errors="ignore") or None
        except BlockingIOError:
            return None

    def _bury(self, place: int, replica: _Replica, shared: Path, share: FairShare, announced: bool) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        code = replica.process.returncode
        self._forget(place)
        if not announced:
            raise ReplicaStartError(f"a replica ended with code {code} before it was ready; what it said stands above")
        share.clear(place)
        mark_process_dead(replica.process.pid, str(shared))
        if code == REPLACED:
            self._retire(place)
            return
        if time.monotonic() - replica.started > _STEADY_S:
            self._deaths[place] = -1
        self._wait_before_next(place)
        print(f"waymark: replica {replica.process.pid} ended with code {code}; starting another", file=sys.stderr)

    def _wait_before_next(self, place: int) -> float:
        """Count one more death in a place, and give the pause before the next start in seconds."""
        self._deaths[place] += 1
        pause_s = 0.0 if self._deaths[place] <= 1 else min(_LONGEST_PAUSE_S, 0.5 * 2 ** min(self._deaths[place], 10))
        self._not_before[place] = time.monotonic() + pause_s
        return pause_s

    def _retire(self, place: int) -> None:
        """Start no more replicas in this place: the replica has said that the index was replaced."""
        self._not_before[place] = math.inf
        left = sum(replica is not None for replica in self._replicas)
        if left == 0 and all(map(math.isinf, self._not_before)):
            raise IndexReplacedError(
                "the index was replaced while it was served, and no replica is left that has the old one; start the "
                "server again to serve the new one"
            )
        print(f"waymark: {left} of {self._settings.replicas} replicas go on with the old index", file=sys.stderr)

    def _forget(self, place: int) -> None:
        replica = self._replicas[place]
        self._replicas[place] = None
        if replica is not None:
            os.close(replica.ready)
            if replica.process.stdin is not None:
                replica.process.stdin.close()

    def _end_all(self) -> None:
        """SIGTERM, the time that a request may take, then SIGKILL."""
        self._listener.close()
        running = [(place, replica) for place, replica in enumerate(self._replicas) if replica is not None]
        for _, replica in running:
            replica.process.terminate()
        until = time.monotonic() + self._settings.shutdown_timeout_s + 5
        for place, replica in running:
            try:
                replica.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                replica.process.kill()
                replica.process.wait()
            self._forget(place)
