"""One of several serving processes, started by `replicas`: python -m retrieval.server.replica FD READY_FD

It takes its settings from the first line of standard input and stops when that ends: a replica never outlives the
process that started it, however that one ended.
"""

import json
import os
import signal
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

MOST_BYTES_SAID = 512
"""Bytes in which a replica says what it serves; a pipe takes that many at once (POSIX)."""

REPLACED = 3
"""The exit code of a replica that found another index than the server was started on."""


def main() -> None:
    """Open the retriever, say so, serve until SIGTERM or the end of standard input."""
    listener_fd, ready_fd = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops its replicas in order
    wanted = json.loads(_first_line())
    threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()

    from retrieval.ready import answering_retriever
    from retrieval.server.app import create_app
    from retrieval.server.fair_share import FairShare
    from retrieval.server.pinned import IndexReplacedError, check_unchanged
    from retrieval.server.process import ServingProcess
    from retrieval.server.serve import served_words
    from retrieval.server.settings import ServerSettings

    settings = ServerSettings.model_validate(wanted["settings"])
    module, _, name = wanted["opener"].partition(":")
    try:
        retriever: Any = answering_retriever(wanted["spec"], getattr(import_module(module), name))
        check_unchanged(wanted["index_hashes"])
    except IndexReplacedError as error:
        print(f"waymark: replica {os.getpid()}: {error}", file=sys.stderr)
        sys.exit(REPLACED)
    except (ValueError, OSError) as error:
        print(f"waymark: replica {os.getpid()}: {error}", file=sys.stderr)
        sys.exit(2)

    def say_ready() -> None:
        os.write(ready_fd, served_words(retriever).encode(errors="replace")[:MOST_BYTES_SAID])
        os.close(ready_fd)

    share = FairShare(Path(wanted["counts"]), wanted["place"])
    serving = ServingProcess(create_app(retriever, settings), settings, on_started=say_ready, share=share)
    _serving.append(serving)
    listener = socket.socket(fileno=listener_fd)
    listener.setblocking(False)
    try:
        serving.run_on(listener)
    finally:
        retriever.close()


_serving: list[Any] = []


def _first_line() -> bytes:
    """Read from the descriptor: a thread inside a buffered reader would disturb the end of the interpreter."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65_536)
        if not chunk:
            sys.exit(1)  # the parent has gone already
        line += chunk
    return line


def _end_with_parent() -> None:
    while os.read(0, 65_536):
        pass
    if not _serving:
        os._exit(1)
    _serving[0].stop()


if __name__ == "__main__":
    main()
