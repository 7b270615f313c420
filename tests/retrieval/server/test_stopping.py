"""A server that is told to stop: whoever has a connection is answered, and nobody else gets one."""

import socket
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

import httpx
import pytest

from tests.retrieval.server.running import Running, Start
from tests.retrieval.server.served import fakes, served

BODY = b'{"queries": ["a"], "topk": 1}'
REQUEST = b"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


def connected(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def until_refused(server: Running) -> None:
    """Wait until the port is closed."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            connected(server.url).close()
        except ConnectionError:
            return
        time.sleep(0.02)
    raise AssertionError("the server still accepts")


def test_stopping_finishes_what_was_taken_and_takes_nothing_more(start: Start) -> None:
    server = start()
    answers: list[httpx.Response] = []
    asked = threading.Thread(
        target=lambda: answers.append(server.post("/retrieve", json={"queries": ["sleep:2"], "topk": 1}))
    )
    asked.start()
    while not server.retriever.batches:
        time.sleep(0.01)
    server.process.stop()
    until_refused(server)
    with pytest.raises(httpx.ConnectError):
        server.get("/health")
    asked.join()
    assert answers[0].status_code == 200 and len(answers[0].json()["result"][0]) == 1
    server.stop()


def test_connections_that_only_the_kernel_has_accepted_are_answered(start: Start) -> None:
    server = start()
    used = connected(server.url)
    used.sendall(REQUEST)
    assert used.recv(1000).startswith(b"HTTP/1.1 200")
    blocked, go_on = threading.Event(), threading.Event()

    def block() -> None:  # on the event loop, so that nothing is accepted or read meanwhile
        blocked.set()
        go_on.wait(20)

    server.process._publish = block  # type: ignore[method-assign]
    assert blocked.wait(20)
    waiting = [connected(server.url) for _ in range(20)]
    for connection in [used, *waiting[:10]]:
        connection.sendall(REQUEST)
    server.process.stop()
    go_on.set()
    time.sleep(0.1)
    for connection in waiting[10:]:
        connection.sendall(REQUEST)
    for connection in [used, *waiting]:
        with connection:
            head = connection.recv(1000)
            assert head.startswith(b"HTTP/1.1 200") and b"connection: close" in head
    server.stop()


def ask_until_refused(url: str, keep: bool, seen: Counter[str]) -> None:
    client = httpx.Client(trust_env=False, timeout=20)
    while True:
        try:
            ask = client.post if keep else (lambda *a, **b: httpx.post(*a, **b, trust_env=False, timeout=20))
            seen[str(ask(url + "/retrieve", content=BODY).status_code)] += 1
        except httpx.ConnectError:
            seen["refused"] += 1
            return
        except httpx.TransportError as error:
            seen[repr(error)] += 1
            return


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_stop_under_load_breaks_no_connection(replicas: int) -> None:
    seen: Counter[str] = Counter()
    with served(*fakes(replicas)) as server:
        threads = [threading.Thread(target=ask_until_refused, args=(server.url, i % 2 == 0, seen)) for i in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        assert server.end() == 0
        for thread in threads:
            thread.join(30)
    assert set(seen) == {"200", "refused"} and seen["refused"] == 12, seen
