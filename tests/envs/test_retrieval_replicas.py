"""Replicas give what the retriever in the process gives, while one hangs, dies, or all are gone for a while."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from envs.retrieval_replicas import ReplicaClient, ReplicaGone, Replicas, ReplicaSettings, RetrievalServer
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.index import build_index, open_index
from retrieval.passage import Hit, Passage
from retrieval.request import RequestError
from retrieval.retriever import RetrievalError
from tests.envs.small_world import PASSAGES, OverlapRetriever

QUERIES = ("Who founded Velmora?", "Where was Tarnek Osmi born?", "river bridge", "nothing known", "Velmora")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("small")
    lines = [json.dumps({"id": p.id, "title": p.title, "text": p.text}) for p in PASSAGES]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    build_index(folder / "corpus.jsonl", folder / "index")
    with open_index(folder / "index") as opened:
        yield opened


class Inside:
    """A replica whose server runs on an event loop in a thread of its own; it can die and hang."""

    def __init__(self, retriever) -> None:
        self.is_gone = self.hangs = False
        self.batches: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._server = RetrievalServer(lambda: retriever)
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def search(self, queries: Sequence[str], k: int, *, timeout_s: float) -> list[list[Hit]]:
        self.batches.append(len(queries))
        return self._ask(lambda: self._server.search(queries, k), timeout_s)

    def open_document(self, name: str, *, timeout_s: float) -> list[Passage]:
        return self._ask(lambda: self._server.open_document(name), timeout_s)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _ask(self, call, timeout_s: float):
        if self.hangs:
            time.sleep(timeout_s)
            raise TimeoutError
        if self.is_gone:
            raise ReplicaGone("it died")
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout_s)


@pytest.fixture
def inside(index):
    made = [Inside(index), Inside(index)]
    yield made
    for replica in made:
        replica.end()


async def test_replicas_find_and_open_what_the_index_in_this_process_does(index, inside) -> None:
    client = ReplicaClient(inside)
    async with MicroBatcher(index) as here:
        for k in (1, 3):
            wanted = await asyncio.gather(*(here.search(query, k) for query in QUERIES))
            assert await asyncio.gather(*(client.search(query, k) for query in QUERIES)) == wanted
    reader = DocumentReader(index)
    for name in ("velmora", "tarnek osmi", "TARN", "no such", " "):
        assert await client.documents(name) == await reader.open(name)
    await client.close()


async def test_queries_of_one_moment_are_one_batch_and_batches_go_to_whoever_has_least_to_do(inside) -> None:
    client = ReplicaClient(inside)
    for _ in range(6):
        await asyncio.gather(*(client.search(query, 2) for query in QUERIES))
    batches = [replica.batches for replica in inside]
    assert {size for sizes in batches for size in sizes} == {len(QUERIES)}
    assert all(batches), "one replica had everything to do"
    await client.close()


async def test_another_replica_is_asked_where_one_has_died(index, inside) -> None:
    inside[0].is_gone = True
    client = ReplicaClient(inside)
    found = await asyncio.gather(*(client.search(query, 2) for query in QUERIES))
    assert found == index.search(list(QUERIES), 2)
    for _ in range(4):
        assert await client.documents("velmora") == [index.get("velmora")]
    assert client.asked_again >= 1
    await client.close()


async def test_another_replica_is_asked_where_one_hangs(index, inside) -> None:
    inside[0].hangs = True
    client = ReplicaClient(inside, ReplicaSettings(timeout_s=0.5, retries=2))
    for query in QUERIES:
        assert await client.search(query, 2) == index.search([query], 2)[0]
    for _ in range(3):
        assert await client.documents("velmora") == [index.get("velmora")]
    await client.close()


async def test_searches_wait_for_the_successors_of_dead_replicas_within_their_deadline(index, inside) -> None:
    for replica in inside:
        replica.is_gone = True
    client = ReplicaClient(inside, ReplicaSettings(timeout_s=30, retries=0))
    searching = asyncio.gather(*(client.search(query, 2) for query in QUERIES), client.documents("velmora"))
    await asyncio.sleep(0.7)
    assert not searching.done()
    inside[1].is_gone = False
    *found, [document] = await asyncio.wait_for(searching, 20)
    assert found == index.search(list(QUERIES), 2) and document.id == "velmora"
    await client.close()


async def test_without_an_answer_in_time_a_search_is_a_retrieval_error(inside) -> None:
    for replica in inside:
        replica.is_gone = True
    client = ReplicaClient(inside, ReplicaSettings(timeout_s=0.3, retries=1))
    with pytest.raises(RetrievalError):
        await client.search("Velmora", 2)
    with pytest.raises(RetrievalError, match=r"no retrieval replica of 2 answered in 0.3 s; the last was: it died"):
        await client.documents("velmora")
    await client.close()


async def test_closing_gives_up_what_waits(inside) -> None:
    for replica in inside:
        replica.is_gone = True
    client = ReplicaClient(inside, ReplicaSettings(timeout_s=600, retries=0))
    searching = asyncio.create_task(client.search("Velmora", 2))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(client.close(), 20)
    with pytest.raises(RetrievalError):
        await searching


async def test_a_query_that_is_refused_fails_nobody_else(index, inside) -> None:
    client = ReplicaClient(inside)
    found = await asyncio.gather(*(client.search(q, 2) for q in (*QUERIES, "  ")), return_exceptions=True)
    assert isinstance(found.pop(), RequestError)
    assert found == index.search(list(QUERIES), 2)
    await client.close()


async def test_a_server_merges_what_several_workers_ask_and_tells_how_long_it_is_silent() -> None:
    released, batches = threading.Event(), []

    class Slow(OverlapRetriever):
        prefix_depth = 0

        def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            batches.append(len(queries))
            assert released.wait(60)
            return super().search(queries, k)

    server = RetrievalServer(Slow, max_in_flight=1)
    searching = [asyncio.create_task(server.search([query], 2)) for query in QUERIES]
    async with asyncio.timeout(30):
        while (await server.health()).silent_s < 0.1:  # the event loop is free while the search blocks
            await asyncio.sleep(0.02)
    assert (await server.health()).running == len(QUERIES)
    released.set()
    assert await asyncio.gather(*searching) == [OverlapRetriever().search([query], 2) for query in QUERIES]
    health = await server.health()
    assert (health.running, health.finished, health.silent_s) == (0, len(QUERIES), 0.0) and batches == [len(QUERIES)]
    with pytest.raises(ValueError, match="opens no documents"):
        await server.open_document("velmora")
    await server.close()


async def test_a_query_on_which_a_retriever_breaks_fails_nobody_else_s() -> None:
    class Breaks(OverlapRetriever):
        def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            if "breaks" in queries:
                raise OSError("the disk is gone")
            return super().search(queries, k)

    server = RetrievalServer(Breaks)
    *found, error = await asyncio.gather(
        *(server.search([query], 2) for query in (*QUERIES, "breaks")), return_exceptions=True
    )
    assert found == [OverlapRetriever().search([query], 2) for query in QUERIES]
    assert isinstance(error, RetrievalError) and "the disk is gone" in str(error)


def test_no_replica_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no replica to ask"):
        Replicas([], timeout_s=1)


def test_the_side_of_the_episodes_imports_neither_torch_nor_a_search_library() -> None:
    heavy = "('torch', 'vllm', 'bm25s', 'faiss', 'sentence_transformers')"
    code = f"import sys, envs.retrieval_replicas; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
