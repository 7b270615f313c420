"""A server on a real socket in a thread of the test's process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from retrieval.server.app import create_app
from retrieval.server.process import ServingProcess, address_of, listening_socket
from retrieval.server.settings import ServerSettings
from tests.retrieval.server.fakes import FakeRetriever


@dataclass
class Running:
    url: str
    process: ServingProcess
    thread: threading.Thread
    retriever: Any

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=20, trust_env=False, **arguments)

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20, trust_env=False, **arguments)

    def stop(self) -> None:
        self.process.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


Start = Callable[..., Running]


@contextmanager
def servers() -> Iterator[Start]:
    """`start(retriever, **settings)`, which gives a server that answers; all are stopped at the end."""
    running: list[Running] = []

    def start_one(retriever: Any = None, **settings: Any) -> Running:
        retriever = retriever or FakeRetriever()
        values = ServerSettings(**{"port": 0} | settings)
        listener = listening_socket(values)
        url = address_of(listener)
        started = threading.Event()
        process = ServingProcess(create_app(retriever, values), values, on_started=started.set)
        thread = threading.Thread(target=process.run_on, args=(listener,), daemon=True)
        thread.start()
        assert started.wait(20)
        running.append(Running(url, process, thread, retriever))
        return running[-1]

    yield start_one
    for one in running:
        one.stop()
