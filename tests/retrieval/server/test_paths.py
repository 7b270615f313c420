"""Paths and methods that the server has, and what it says of others."""

import httpx
import pytest

from tests.retrieval.server.running import Running, Start


def test_errors_of_paths_and_methods_say_what_there_is(server: Running) -> None:
    nothing = server.get("/nothing")
    assert nothing.status_code == 404
    assert nothing.json()["error"] == (
        "there is no path '/nothing'; send one of POST /access, GET or HEAD /health, GET or HEAD /healthz, "
        "GET /metrics, POST /retrieve (/docs describes them)"
    )
    wrong = server.get("/retrieve")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json() == {"error": "/retrieve does not take GET; send POST /retrieve"}
    wrong = server.post("/health", json={})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert wrong.json() == {"error": "/health does not take POST; send GET or HEAD /health"}
    assert server.post("/docs").json() == {"error": "/docs does not take POST; send GET or HEAD /docs"}


@pytest.mark.parametrize("path", ["/health", "/healthz"])
def test_a_load_balancer_may_ask_for_the_head_alone(start: Start, path: str) -> None:
    server = start(token="secret")
    head = httpx.head(server.url + path, trust_env=False, timeout=20)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "application/json" and int(head.headers["content-length"]) > 100
