"""Shards over worker processes of this host: each worker makes its own builder and writes parts where it is told.

Workers are spawned, so they inherit neither locks nor threads, and talk through a pipe of their own. A worker ends when
its pipe or its parent does, however the parent ends; the parent ends its workers before it returns or raises.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from retrieval.build.parts import PartFolder, ShardTexts
from retrieval.searcher import Shard

_THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkerDiedError(RuntimeError):
    """A worker process ended in the middle of a shard. Finished parts are kept; the next call goes on."""


@dataclass(slots=True, kw_only=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    shard: Shard | None = None
    digest: str = ""
    path: Path = Path()


def build_in_processes(
    shards: Iterator[ShardTexts], parts: PartFolder, *, backend: str, settings: Mapping[str, Any], workers: int
) -> Generator[Shard]:
    """Build the parts of shards in `workers` processes; yields every shard whose part has been written.

    The next shard is read while all workers are busy, so `workers` + 1 shards of texts are held at most.

    Raises:
        WorkerDiedError: a worker was killed, for want of memory perhaps.
        Exception: what a builder raised in its worker.
    """
    threads = max(1, _thread_budget() // workers)
    crew: list[_Worker] = []
    try:
        for work in shards:
            if len(crew) < workers:
                crew.append(_started(backend, settings, threads))
                worker = crew[-1]
            else:
                worker = next((one for one in crew if one.shard is None), None) or _first_done(crew)
                if worker.shard is not None:
                    yield _taken(worker, parts)
            worker.shard, worker.digest, worker.path = work.shard, work.digest, parts.begin(work.shard)
            _send(worker, (work.texts, str(worker.path)))
            del work
        while any(worker.shard is not None for worker in crew):
            yield _taken(_first_done(crew), parts)
    finally:
        for worker in crew:
            worker.connection.close()
            worker.process.terminate()
        for worker in crew:
            worker.process.join()


def _thread_budget() -> int:
    for name in _THREAD_LIMITS:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return os.cpu_count() or 1


def _started(backend: str, settings: Mapping[str, Any], threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_shards, args=(theirs, backend, dict(settings), threads), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process=process, connection=ours)


def _first_done(crew: list[_Worker]) -> _Worker:
    ready = wait([worker.connection for worker in crew if worker.shard is not None])
    return next(worker for worker in crew if worker.connection in ready)


def _send(worker: _Worker, message: object) -> None:
    try:
        worker.connection.send(message)
    except (BrokenPipeError, ConnectionResetError):
        raise _died(worker) from None


def _taken(worker: _Worker, parts: PartFolder) -> Shard:
    assert worker.shard is not None
    try:
        error = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        raise _died(worker) from None
    if error is not None:
        raise error
    shard, worker.shard = worker.shard, None
    parts.adopt((shard, worker.digest), worker.path)
    return shard


def _died(worker: _Worker) -> WorkerDiedError:
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"
    where = f" at shard {worker.shard.number}" if worker.shard else ""
    advice = "if memory ran out, use fewer --workers"
    if code == 1:  # what Python ends with when the caller's module cannot be imported in the worker
        advice = 'a script that calls build_index with workers needs `if __name__ == "__main__":` around the call'
    return WorkerDiedError(
        f"a worker of the build {how}{where}; {advice}. What is finished is kept: the same call goes on"
    )


def serve_shards(connection: Connection, backend: str, settings: Mapping[str, Any], threads: int) -> None:
    """The life of a worker: receive `(texts, path)`, write the part, answer None or the exception."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    for name in _THREAD_LIMITS:
        os.environ[name] = str(threads)
    builder = None
    while True:
        try:
            texts, path = connection.recv()
        except EOFError:
            return
        try:
            if builder is None:
                from retrieval.backends import backend_named

                kind = backend_named(backend)
                builder = kind.builder(kind.settings.model_validate(settings))
            builder.build_part(texts, Path(path))
            answer: Exception | None = None
        except Exception as error:
            answer = _sendable(error)
        del texts
        connection.send(answer)


def _leave_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The exception itself where it survives the way to the parent, else one that says the same."""
    with suppress(Exception):  # whatever pickling raises, the error is told by its words
        if str(pickle.loads(pickle.dumps(error))) == str(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")
