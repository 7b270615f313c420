"""Retrieval servers for tests."""

from collections.abc import Iterator

import pytest

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
