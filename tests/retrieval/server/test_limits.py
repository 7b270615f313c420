"""Bad input, large input, too much at once: what comes back, and that the server goes on."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from retrieval.server.app import create_app
from retrieval.server.settings import ServerSettings
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running, Start


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"queries=a",
        b'{"queries": ["\\ud800"]}',
        b'{"queries": ["a"], "topk": NaN}',
        b'{"queries": ["a"], "topk": 1e999}',
        b'\xff\xfe{"queries": []}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_400(server: Running, body: bytes) -> None:
    answer = server.post("/retrieve", content=body)
    assert answer.status_code == 400 and "not JSON" in answer.json()["error"]


@pytest.mark.parametrize(
    "query", ["naïve ❤ 中文", "\u0000\u0007 control", "a\u202eb", "\ufeff", "<information>", "💥" * 4000]
)
def test_any_text_may_be_asked(server: Running, query: str) -> None:
    answer = server.post("/retrieve", json={"queries": [query], "topk": 1, "return_scores": True})
    assert answer.status_code == 200
    assert answer.json()["result"][0][0]["document"]["id"] == FakeRetriever().expected(query, 1)[0].passage.id


def test_a_query_of_100_000_characters_is_refused(server: Running) -> None:
    answer = server.post("/retrieve", json={"queries": ["a" * 100_000]})
    assert answer.status_code == 422
    assert answer.json() == {"error": "query 0 has 100000 characters; at most 8192 are allowed"}


def test_errors_of_paths_and_methods_have_the_same_shape(server: Running) -> None:
    assert (server.get("/nothing").status_code, server.get("/nothing").json()) == (404, {"error": "Not Found"})
    wrong = server.get("/retrieve")
    assert (wrong.status_code, wrong.json(), wrong.headers["allow"]) == (405, {"error": "Method Not Allowed"}, "POST")


def test_a_body_of_ten_megabytes_is_413_announced_or_in_chunks(server: Running) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(160):
            yield b"x" * 65_536

    for content in (b"x" * 10_000_000, chunks()):
        answer = server.post("/retrieve", content=content)
        assert answer.status_code == 413 and "at most 4194304 bytes" in answer.json()["error"]
    assert server.get("/health").status_code == 200


def test_a_body_that_pretends_to_be_huge_is_not_waited_for(server: Running) -> None:
    with raw(server) as connection:
        connection.sendall(b"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{")
        assert b"413" in connection.recv(1000).split(b"\r\n")[0]


def test_a_body_that_never_ends_is_408(start: Start) -> None:
    with raw(start(body_timeout_s=0.2)) as connection:
        connection.sendall(b'POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"que')
        assert b"408" in connection.recv(1000).split(b"\r\n")[0]


def test_the_token_is_asked_for_everywhere_but_at_the_health(start: Start) -> None:
    server = start(token="secret token")
    body = {"queries": ["a"], "topk": 1}
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "secret token"},
        {"Authorization": "Bearer é"},
    ):
        encoded = {name: value.encode() for name, value in headers.items()}
        answer = server.post("/retrieve", json=body, headers=encoded)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for path in ("/metrics", "/openapi.json", "/docs"):
        assert server.get(path).status_code == 401
    assert server.get("/health").status_code == server.get("/healthz").status_code == 200
    good = {"Authorization": "Bearer secret token"}
    assert server.post("/retrieve", json=body, headers=good).status_code == 200
    assert server.get("/metrics", headers=good).status_code == 200


def test_health_says_what_is_served_and_with_what_limits(start: Start) -> None:
    health = start(max_k=5).get("/health").json()
    assert (health["status"], health["index_hash"], health["num_passages"]) == ("ok", "abc", 20)
    assert (health["k_limit"], health["encoder"], health["backend"]) == (5, "tiny", "fake")
    assert health["limits"]["max_query_chars"] == 8192
    assert health["identity"] == FakeRetriever().identity


def test_a_search_never_runs_on_the_event_loop(start: Start) -> None:
    server = start(max_in_flight=1)
    slow = threading.Thread(target=server.post, args=("/retrieve",), kwargs={"json": {"query": "sleep:1"}})
    slow.start()
    time.sleep(0.2)
    started = time.perf_counter()
    assert server.get("/health").status_code == 200
    assert time.perf_counter() - started < 0.5
    slow.join()
    assert server.thread.ident not in server.retriever.threads


async def test_queries_of_many_connections_share_batches_and_get_their_own_answers(start: Start) -> None:
    server = start(window_s=0.05)
    fake = FakeRetriever()
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
        bodies = [{"queries": ["q" * (i + 1)] * (1 + i % 3), "topk": 1 + i % 2} for i in range(40)]
        answers = await asyncio.gather(*(client.post("/retrieve", json=body) for body in bodies))
    for body, answer in zip(bodies, answers, strict=True):
        expected = [[hit.passage.id for hit in fake.expected(q, body["topk"])] for q in body["queries"]]
        assert [[row["id"] for row in hits] for hits in answer.json()["result"]] == expected
    assert len(server.retriever.batches) < 20
    assert max(map(len, server.retriever.batches)) > 5


async def test_no_request_waits_longer_than_its_window_and_one_batch(start: Start) -> None:
    batch_s, window_s = 0.2, 0.05
    server = start(window_s=window_s, max_in_flight=1, max_batch=64)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
        await client.get("/health")

        async def ask(after_s: float) -> float:
            await asyncio.sleep(after_s)
            started = time.perf_counter()
            answer = await client.post("/retrieve", json={"queries": ["sleep:0.004"] * 1, "topk": 1})
            assert answer.status_code == 200
            return time.perf_counter() - started

        # Fifty requests of 4 ms each within 0.2 s: one after the other in the search, never more than a batch ahead.
        waits = await asyncio.gather(*(ask(i * 0.004) for i in range(50)))
    assert max(waits) < window_s + 2 * batch_s + 0.2, "the batch under way, then its own"


async def test_overload_is_503_with_retry_after_at_once(start: Start) -> None:
    server = start(max_in_flight=1, max_queries=2, max_waiting=4)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:

        async def ask(i: int) -> tuple[int, float, str | None]:
            started = time.perf_counter()
            answer = await client.post("/retrieve", json={"queries": ["sleep:0.5"], "topk": 1 + i})
            return answer.status_code, time.perf_counter() - started, answer.headers.get("retry-after")

        answers = await asyncio.gather(*(ask(i) for i in range(12)))
    refused = [answer for answer in answers if answer[0] == 503]
    assert 5 <= len(refused) <= 8 and all(answer[0] in (200, 503) for answer in answers)
    assert all(seconds < 0.4 and retry_after == "1" for _, seconds, retry_after in refused)
    assert server.post("/retrieve", json={"queries": ["a"]}).status_code == 200
    assert f"waymark_overloads_total {len(refused)}.0" in server.get("/metrics").text


def test_a_search_that_hangs_is_503_within_its_timeout_and_holds_up_nobody(start: Start) -> None:
    server = start(timeout_s=0.3)
    started = time.perf_counter()
    answer = server.post("/retrieve", json={"queries": ["sleep:3"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert time.perf_counter() - started < 1.5
    assert server.post("/retrieve", json={"queries": ["a"]}).status_code == 200


async def test_a_query_that_crashes_or_is_refused_fails_its_own_request_only(start: Start) -> None:
    server = start(window_s=0.05)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
        queries = ["a", "crash", "b", "refuse", "c"]
        answers = await asyncio.gather(*(client.post("/retrieve", json={"queries": [q]}) for q in queries))
    assert [answer.status_code for answer in answers] == [200, 503, 200, 422, 200]
    assert "the disk is gone" in answers[1].json()["error"] and answers[3].json() == {"error": "not this one"}


def test_a_client_that_leaves_costs_no_search(start: Start) -> None:
    server = start(max_in_flight=1)
    busy = threading.Thread(target=server.post, args=("/retrieve",), kwargs={"json": {"query": "sleep:0.6"}})
    busy.start()
    time.sleep(0.1)
    for i in range(20):
        body = json.dumps({"queries": [f"left {i}"]}).encode()
        with raw(server) as connection:
            head = f"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body)
            time.sleep(0.005)
    busy.join()
    assert server.post("/retrieve", json={"queries": ["stayed"]}).status_code == 200
    assert server.retriever.batches == [["sleep:0.6"], ["stayed"]]
    assert server.get("/health").json()["waiting_queries"] == 0
    assert "waymark_disconnects_total 20.0" in server.get("/metrics").text


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    with raw(server) as connection:
        connection.sendall(b'POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"que')
    time.sleep(0.2)
    assert server.get("/health").status_code == 200
    assert not caplog.records


def test_stopping_finishes_what_was_taken_and_takes_nothing_more(start: Start) -> None:
    server = start()
    answers: list[httpx.Response] = []
    asked = threading.Thread(
        target=lambda: answers.append(server.post("/retrieve", json={"queries": ["sleep:0.6"], "topk": 1}))
    )
    asked.start()
    time.sleep(0.2)
    server.process.stop()
    time.sleep(0.25)
    with pytest.raises(httpx.ConnectError):
        server.get("/health")
    asked.join()
    assert answers[0].status_code == 200 and len(answers[0].json()["result"][0]) == 1
    server.stop()


def test_metrics_count_requests_batches_and_seconds(start: Start) -> None:
    server = start()
    server.post("/retrieve", json={"queries": ["a", "b"]})
    server.post("/retrieve", json={"queries": []})
    server.post("/retrieve", content=b"{")
    server.get("/no/such/path")
    page = server.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'waymark_requests_total{path="/retrieve",status="200"} 2.0',
        'waymark_requests_total{path="/retrieve",status="400"} 1.0',
        'waymark_requests_total{path="other",status="404"} 1.0',
        'waymark_request_seconds_count{path="/retrieve"} 3.0',
        "waymark_queries_total 2.0",
        "waymark_batch_size_sum 2.0",
        "waymark_batch_seconds_count 1.0",
        "waymark_passages 20.0",
        'waymark_index_info{backend="fake",index_hash="abc"} 1.0',
    ):
        assert line in page.text.splitlines()


def test_an_index_without_passages_is_not_served() -> None:
    with pytest.raises(ValueError, match="no passages, so there is nothing to serve"):
        create_app(FakeRetriever(0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"default_k": 9, "max_k": 5}, "default_k is 9, above max_k 5"),
        ({"max_waiting": 3, "max_queries": 5}, "raise max_waiting"),
        ({"port": 70_000}, "port"),
        ({"window_s": -1}, "window_s"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(given: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerSettings(**given)


def raw(server: Running) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)
