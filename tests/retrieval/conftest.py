"""Retrieval servers for tests."""

from collections.abc import Callable, Iterator

import pytest

from tests.retrieval.client.scripted_server import Scripted
from tests.retrieval.server.running import Running, Start, servers


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(retriever, **settings)` gives a server that answers; all are stopped after the test."""
    with servers() as start_one:
        yield start_one


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    """A server with default settings, for tests that only ask it."""
    with servers() as start_one:
        yield start_one()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """`scripted(*answers)` gives a server that answers one connection after the other with these bytes."""
    servers: list[Scripted] = []

    def make(*answers: bytes, **options: float) -> Scripted:
        servers.append(Scripted(*answers, **options))
        return servers[-1]

    yield make
    for one in servers:
        one.close()
