"""A viewer over sample runs, asked in process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from evaluation.viewer.app import create_app
from evaluation.viewer.catalogue import Catalogue

View = Callable[..., tuple[TestClient, Catalogue]]


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    """`view(FOLDER, ...)`: a client of a viewer whose indexes are full, and its catalogue."""
    opened: list[TestClient] = []

    def start(*folders: Path, questions: tuple[Path, ...] = (), fill: bool = True) -> tuple[TestClient, Catalogue]:
        catalogue = Catalogue(folders, questions, tmp_path / "cache")
        if fill:
            catalogue.fill()
        client = TestClient(create_app(catalogue, fill=False), base_url="http://127.0.0.1")
        opened.append(client)
        return client, catalogue

    yield start
    for client in opened:
        client.close()
