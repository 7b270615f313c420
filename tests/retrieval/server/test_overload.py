"""More than there is room for: searches that hang, bodies that fill the memory, headers that never come."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval.passage import Hit, Passage
from retrieval.server.settings import ServerSettings
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running, Start
from tests.retrieval.server.test_limits import raw


class Hanging(FakeRetriever):
    """Answers nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.batches.append(list(queries))
        self.release.wait(30)
        return [self.expected(query, k) for query in queries]

    def get(self, passage_id: str) -> Passage:
        self.release.wait(30)
        return super().get(passage_id)


def hanging(server: Running) -> float:
    lines = dict(line.rsplit(" ", 1) for line in server.get("/metrics").text.splitlines() if not line.startswith("#"))
    return float(lines["waymark_searches_hanging"])


@pytest.mark.parametrize(
    ("path", "body"), [("/retrieve", {"query": "a", "topk": 1}), ("/access", {"id": "p1"})], ids=["search", "open"]
)
def test_beyond_the_searches_that_may_hang_everything_is_503_at_once(start: Start, path: str, body: dict) -> None:
    retriever = Hanging()
    server = start(retriever, timeout_s=1.0, max_hanging=2, max_in_flight=1)
    for _ in range(2):
        assert server.post(path, json=body).status_code == 503
    assert hanging(server) == 2
    refused = server.post(path, json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "2 searches that were given up on still run, and at most 2 may" in refused.json()["error"]
    assert refused.elapsed.total_seconds() < 0.8, "at once, not after the timeout"
    assert "waymark_overloads_total 1.0" in server.get("/metrics").text
    assert len(retriever.batches) <= 2, "nothing new was begun"
    retriever.release.set()
    until = time.monotonic() + 10
    while hanging(server) and time.monotonic() < until:
        time.sleep(0.01)
    assert hanging(server) == 0
    assert server.post(path, json=body).status_code == 200


def test_bodies_are_held_up_to_a_bound_whatever_the_connections(start: Start) -> None:
    size = 100_000
    server = start(max_body_bytes=size, max_body_bytes_in_all=3 * size, body_timeout_s=20)
    head = f"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode()
    body = b'{"query": "a", "topk": 1}'.ljust(size)
    slow = [raw(server) for _ in range(3)]
    for connection in slow:
        connection.sendall(head + body[:-1])
    time.sleep(0.3)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.post("/retrieve", content=body), range(4)))
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].headers["retry-after"] == "1" and "at most 300000 may" in answers[0].json()["error"]
    for connection in slow:
        connection.sendall(body[-1:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.close()
    assert server.post("/retrieve", content=body).status_code == 200, "they are no longer held"


def test_bodies_that_were_refused_or_broken_off_are_not_counted(start: Start) -> None:
    size = 100_000
    server = start(max_body_bytes=size, max_body_bytes_in_all=size, body_timeout_s=0.2)
    for _ in range(5):
        assert server.post("/retrieve", content=b"{".ljust(size)).status_code == 400
        assert server.post("/retrieve", content=iter([b"x" * 60_000] * 3)).status_code == 413
        with raw(server) as connection:
            connection.sendall(b"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n" + b"x" * 99_000)
            assert b" 408 " in connection.recv(1000)
    assert server.post("/retrieve", content=b'{"query": "a"}'.ljust(size)).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /retr", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
@pytest.mark.parametrize("used", [False, True])
def test_a_connection_whose_headers_never_end_is_closed(start: Start, sent: bytes, used: bool) -> None:
    server = start(header_timeout_s=0.3)
    with raw(server) as connection:
        if used:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(100_000).startswith(b"HTTP/1.1 200")
        connection.sendall(sent)
        if used and not sent:  # it has asked, and may ask again for as long as it is kept alive
            connection.settimeout(2.5)
            with pytest.raises(TimeoutError):
                connection.recv(1000)
        else:
            assert connection.recv(1000) == b""


@pytest.mark.slow
def test_a_slow_search_and_a_slow_body_are_not_taken_for_slow_headers(start: Start) -> None:
    server = start(header_timeout_s=0.1)
    assert server.post("/retrieve", json={"query": "sleep:2.5", "topk": 1}).status_code == 200
    body = b'{"query": "a", "topk": 1}'
    with raw(server) as connection:
        connection.sendall(b"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        time.sleep(2.5)
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_the_largest_body_must_fit_into_what_may_be_held() -> None:
    with pytest.raises(ValueError, match="raise max_body_bytes_in_all"):
        ServerSettings(max_body_bytes=1000, max_body_bytes_in_all=999)
