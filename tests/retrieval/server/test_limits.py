"""Bad input, large input, too much at once: what comes back, and that the server goes on."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from retrieval.passage import Hit, Passage
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


@pytest.mark.parametrize("begun", [b'{"que', b""])
@pytest.mark.parametrize("length", [b"content-length: 100", b"transfer-encoding: chunked"])
def test_a_body_that_never_ends_or_never_begins_is_408(start: Start, begun: bytes, length: bytes) -> None:
    if begun and b"chunked" in length:
        begun = b"5\r\n" + begun + b"\r\n"
    with raw(start(body_timeout_s=0.2)) as connection:
        connection.sendall(b"POST /retrieve HTTP/1.1\r\nhost: x\r\n" + length + b"\r\n\r\n" + begun)
        assert b"408" in connection.recv(1000).split(b"\r\n")[0]


def test_the_token_is_asked_for_everywhere_but_at_the_health(start: Start) -> None:
    server = start(token="secret token")
    body = {"queries": ["a"], "topk": 1}
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "secret token"},
        {"Authorization": "Basic secret token"},
        {"Authorization": "Bearer Secret token"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearersecret token"},
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
    for scheme in ("bearer", "BEARER", "Bearer "):  # RFC 9110, 11.1: the scheme's case means nothing
        headers = {"Authorization": f"{scheme} secret token"}
        assert server.post("/retrieve", json=body, headers=headers).status_code == 200
    assert server.get("/metrics", headers=good).status_code == 200


def test_health_says_what_is_served_and_with_what_limits(start: Start) -> None:
    health = start(max_k=5).get("/health").json()
    assert (health["status"], health["index_hash"], health["num_passages"]) == ("ok", "abc", 20)
    assert (health["k_limit"], health["encoder"], health["backend"]) == (5, "tiny", "fake")
    assert health["limits"]["max_query_chars"] == 8192
    assert health["identity"] == FakeRetriever().identity


def test_a_search_never_runs_on_the_event_loop(start: Start) -> None:
    server = start(max_in_flight=1)
    slow = threading.Thread(target=server.post, args=("/retrieve",), kwargs={"json": {"query": "sleep:2"}})
    slow.start()
    while not server.retriever.batches:
        time.sleep(0.01)
    started = time.perf_counter()
    assert server.get("/health").status_code == 200
    assert time.perf_counter() - started < 1.5
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


class OneBatchAtATime(FakeRetriever):
    """Takes 50 ms for a batch, however large."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.batches.append(list(queries))
        time.sleep(0.05)
        return [self.expected(query, k) for query in queries]


async def batches_until_its_own(**settings: Any) -> list[int]:
    """For requests of many depths that come faster than searches end: how many batches began between each one's
    sending and its answer, its own included.
    """
    retriever = OneBatchAtATime()
    app = create_app(retriever, ServerSettings(max_in_flight=1, **settings))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", timeout=20) as client:

        async def ask(i: int) -> int:
            await asyncio.sleep(0.01 * i)
            query, before = "q" * i, len(retriever.batches)
            answer = await client.post("/retrieve", json={"queries": [query], "topk": 1 + i % 12})
            expected = [hit.passage.id for hit in retriever.expected(query, 1 + i % 12)]
            assert [row["id"] for row in answer.json()["result"][0]] == expected
            return next(place for place, batch in enumerate(retriever.batches) if query in batch) + 1 - before

        return await asyncio.gather(*(ask(i) for i in range(1, 41)))


async def test_no_request_waits_longer_than_its_window_and_one_batch_whatever_the_depths() -> None:
    assert max(await batches_until_its_own(window_s=0.02)) <= 2, "one that begins in its window, and its own"
    assert max(await batches_until_its_own(max_batch=1)) > 20, "a server that searches one by one is told apart"


async def test_overload_is_503_with_retry_after_at_once(start: Start) -> None:
    server = start(max_in_flight=1, max_batch=1, max_queries=2, max_waiting=2)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:

        async def ask(i: int) -> tuple[int, float, str | None]:
            answer = await client.post("/retrieve", json={"queries": ["sleep:1"], "topk": 1 + i})
            return answer.status_code, time.perf_counter(), answer.headers.get("retry-after")

        answers = await asyncio.gather(*(ask(i) for i in range(12)))
    refused = [answer for answer in answers if answer[0] == 503]
    answered = [when for status, when, _ in answers if status == 200]
    assert len(answered) + len(refused) == 12 and len(refused) >= 6
    assert all(when < max(answered) - 0.9 and retry_after == "1" for _, when, retry_after in refused)
    assert server.post("/retrieve", json={"queries": ["a"]}).status_code == 200
    assert f"waymark_overloads_total {len(refused)}.0" in server.get("/metrics").text


def test_a_search_that_hangs_is_503_within_its_timeout_and_holds_up_nobody(start: Start) -> None:
    server = start(timeout_s=1.0)
    started = time.perf_counter()
    answer = server.post("/retrieve", json={"queries": ["sleep:5"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert 1.0 <= time.perf_counter() - started < 1.9, "the timeout once, not once for each attempt"
    assert server.post("/retrieve", json={"queries": ["a"]}).status_code == 200


async def test_a_query_that_crashes_or_is_refused_fails_its_own_request_only(start: Start) -> None:
    server = start(window_s=0.05)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
        queries = ["a", "crash", "b", "refuse", "c", "broken", "panic"]
        answers = await asyncio.gather(*(client.post("/retrieve", json={"queries": [q]}) for q in queries))
    assert [answer.status_code for answer in answers] == [200, 503, 200, 422, 200, 503, 503]
    assert "the disk is gone" in answers[1].json()["error"] and answers[3].json() == {"error": "not this one"}
    assert "could not be broadcast" in answers[5].json()["error"] and "out of bounds" in answers[6].json()["error"]
    metrics = server.get("/metrics").text.splitlines()
    assert "waymark_failures_total 3.0" in metrics, "an error of the retriever's own is counted; a bad request is not"


def test_a_client_that_leaves_costs_no_search(start: Start) -> None:
    server = start(max_in_flight=1)
    busy = threading.Thread(target=server.post, args=("/retrieve",), kwargs={"json": {"query": "sleep:2"}})
    busy.start()
    while not server.retriever.batches:
        time.sleep(0.01)
    for i in range(20):
        body = json.dumps({"queries": [f"left {i}"]}).encode()
        with raw(server) as connection:
            head = f"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body)
            time.sleep(0.005)
    busy.join()
    assert server.post("/retrieve", json={"queries": ["stayed"]}).status_code == 200
    assert server.retriever.batches == [["sleep:2"], ["stayed"]]
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


class SlowDocuments(FakeRetriever):
    """Takes 0.3 s to open a document."""

    def get(self, passage_id: str) -> Passage:
        self.threads.add(threading.get_ident())
        time.sleep(0.3)
        return super().get(passage_id)


async def test_documents_are_opened_by_a_few_threads_and_too_many_names_are_503_at_once(start: Start) -> None:
    server = start(SlowDocuments(), max_in_flight=2, max_queries=2, max_waiting=4)
    limits = httpx.Limits(max_connections=40)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20, limits=limits) as client:
        answers = await asyncio.gather(*(client.post("/access", json={"id": f"p{i % 20}"}) for i in range(40)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) >= 20 and all(answer.headers["retry-after"] == "1" for answer in refused)
    assert "names wait already" in refused[0].json()["error"]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert len(server.retriever.threads) <= 3
    assert f"waymark_overloads_total {len(refused)}.0" in server.get("/metrics").text


async def test_a_large_answer_of_documents_is_written_off_the_event_loop(start: Start) -> None:
    written: set[int] = set()
    server = start()
    dumps = orjson.dumps

    def noting(value: Any) -> bytes:
        if isinstance(value, dict) and "result" in value:
            written.add(threading.get_ident())
        return dumps(value)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("retrieval.server.service.orjson.dumps", noting)
        assert len(server.post("/access", json={"ids": ["p1"] * 1000}).json()["result"]) == 1000
    assert written and server.thread.ident not in written


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
        ({"token": ""}, "the token is empty"),
        ({"token": "naïve"}, "printable ASCII"),
        ({"token": "secret\n"}, "white space"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(given: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerSettings(**given)


def raw(server: Running) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)
