"""A title that an agent has read must open its passages, however it is written; another title must not."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.access import DocumentReader, PassageAccess
from retrieval.client import HttpRetriever
from retrieval.hybrid import HybridRetriever
from retrieval.index import Index, build_index, open_index
from retrieval.passage import Passage
from retrieval.rerank import RerankingRetriever
from retrieval.retriever import RetrievalError
from retrieval.title import fold_title
from tests.retrieval.server.running import servers

TITLES = ["Straße nach Rom", "Café", "Rome", "", "  rome ", "Zürich", "ROME", "Rome (film)", "Snake_case"]
CORPUS = [Passage(id=f"p{i}", title=title, text=f"text {i}") for i, title in enumerate(TITLES)]


def ids(passages: list[Passage]) -> list[str]:
    return [passage.id for passage in passages]


@pytest.fixture(params=["list", "index", "hybrid", "reranked", "server"])
def source(request: pytest.FixtureRequest, index: Index) -> Iterator[Any]:
    """The same passages behind everything that opens them."""
    if request.param == "list":
        yield CORPUS
    elif request.param == "index":
        yield index
    elif request.param == "hybrid":
        yield HybridRetriever([index, index])
    elif request.param == "reranked":
        yield RerankingRetriever(index, lambda pairs: [0.0] * len(pairs))
    else:
        with servers() as start, HttpRetriever(start(index).url) as remote:
            yield remote


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with built(CORPUS, tmp_path_factory.mktemp("access")) as opened:
        yield opened


def built(corpus: list[Passage], folder: Path) -> Index:
    rows = [{"id": passage.id, "title": passage.title, "text": passage.text} for passage in corpus]
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_index(folder / "c.jsonl", folder / "index")
    return open_index(folder / "index")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("rome", ["p2", "p4", "p6"]),
        ("\tRoMe\n", ["p2", "p4", "p6"]),
        ("_rome__", ["p2", "p4", "p6"]),
        ("Rome", ["p2"]),
        ("ROME", ["p6"]),
        ("  rome ", ["p4"]),
        ("Straße_nach_Rom", ["p0"]),
        ("STRASSE  NACH\u00a0ROM", ["p0"]),
        ("cafe\u0301", ["p1"]),  # an accent of its own, as some writers of Unicode put it
        ("cafe", []),
        ("Zurich", []),
        ("rome (film)", ["p7"]),
        ("Rome film", []),
        ("snake case", ["p8"]),
        ("snake_case", ["p8"]),
        ("", []),
        (" \n", []),
        ("_", []),
        ("\ud800", []),
        ("nowhere", []),
    ],
)
def test_a_title_is_found_as_it_is_written_or_else_folded(source: Any, asked: str, found: list[str]) -> None:
    assert ids(PassageAccess(source).by_title(asked)) == found


def test_ids_are_opened_from_every_source(source: Any) -> None:
    access = PassageAccess(source)
    assert access.by_id("p5") == CORPUS[5] and access.by_id("nope") is None and access.by_id("\ud800") is None
    assert access.open("p3") == [CORPUS[3]] and ids(access.open("zürich")) == ["p5"] and access.open("p99") == []


def test_a_title_of_many_passages_is_cut_at_the_limit(tmp_path: Path) -> None:
    corpus = [Passage(id=str(i), title="List" if i % 3 else "LIST", text="x") for i in range(90)]
    with built(corpus, tmp_path) as index:
        for access in (PassageAccess(corpus), PassageAccess(index)):
            assert ids(access.by_title("list")) == [str(i) for i in range(20)], "every way to write it, in corpus order"
            assert ids(access.by_title("List")) == [str(i) for i in range(31) if i % 3][:20]
            assert ids(access.by_title("LIST", limit=99)) == [str(i) for i in range(0, 90, 3)]
            assert ids(access.by_title("list", limit=2)) == ["0", "1"]
            with pytest.raises(ValueError, match="limit is 0; ask for at least 1 passage of a title"):
                access.by_title("list", limit=0)


def test_an_id_comes_before_a_title() -> None:
    corpus = [Passage(id="rome", title="Italy", text="x"), Passage(id="b", title="Rome", text="y")]
    access = PassageAccess(corpus)
    assert ids(access.open("rome")) == ["rome"] and ids(access.open("Rome")) == ["b"] and access.open("c") == []
    assert access.by_id("Rome") is None, "ids are compared as they are"


def test_ids_and_titles_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("title", "passage_store", "corpus"):
        monkeypatch.setattr(f"retrieval.{module}.id_hash", lambda text: 1 << 30)
    monkeypatch.setattr("retrieval.title.crc32", lambda text: 7)
    with built(CORPUS, tmp_path) as index:
        assert ids(index.titled("Zürich")) == ["p5"] and ids(index.titled("rome")) == ["p2", "p4", "p6"]
        assert index.titled("nowhere") == [] and index.get("p5") == CORPUS[5] and "p99" not in index


def test_from_many_threads(index: Index) -> None:
    access = PassageAccess(index)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: ids(access.by_title("rome")), range(32))) == [["p2", "p4", "p6"]] * 32


def test_opening_a_title_reads_its_passages_and_no_others(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    one = index.corpus._read
    monkeypatch.setattr(index.corpus, "_read", lambda row: read.append(row) or one(row))
    assert ids(index.titled("rome")) == ["p2", "p4", "p6"] and read == [2, 4, 6]
    assert index.titled("nowhere") == [] and read == [2, 4, 6]


def test_a_corpus_without_titles_has_none(tmp_path: Path) -> None:
    with built([Passage(id=str(i), title=" " * i, text="word") for i in range(3)], tmp_path) as index:
        assert index.titled("word") == [] and index.titled(" ") == [] and index.num_passages == 3


def test_folding_twice_changes_nothing() -> None:
    for title in (*TITLES, "ΌΣΟΣ", "İstanbul", "ﬁn", "A_b\x1fC"):
        assert fold_title(fold_title(title)) == fold_title(title)


@given(st.text())
def test_a_title_is_folded_alike_whether_or_not_it_is_ascii(title: str) -> None:
    assert fold_title(title + " é") == " ".join([*fold_title(title).split(" "), "é"]).strip()


async def test_a_reader_opens_documents_for_an_event_loop(source: Any) -> None:
    reader = DocumentReader(source)
    reader.check()
    assert [ids(found) for found in await asyncio.gather(reader.open("p3"), reader.open("zürich"))] == [["p3"], ["p5"]]
    assert ids(await reader.open(" rOmE")) == ["p2", "p4", "p6"]
    for nothing in ("nowhere", "", " ", "\ud800"):
        assert await reader.open(nothing) == []


async def test_a_reader_opens_more_of_a_title_than_a_page_of_it(tmp_path: Path) -> None:
    corpus = [Passage(id=str(i), title="List", text="x") for i in range(90)]
    assert len(await DocumentReader(corpus).open("List")) == 90
    assert len(await DocumentReader(corpus, max_passages=7).open("List")) == 7
    with built(corpus, tmp_path) as index, servers() as start:
        with HttpRetriever(start(index).url) as remote:
            assert len(await DocumentReader(remote).open("List")) == 90
        with HttpRetriever(start(index, max_k=30, default_k=3).url) as small:
            assert len(await DocumentReader(small).open("List")) == 20, "as many as that server gives unless asked"


async def test_a_name_that_a_server_refuses_names_no_document(index: Index) -> None:
    with servers() as start, HttpRetriever(start(index, max_query_chars=50).url) as remote:
        assert await DocumentReader(remote).open("x" * 51) == []


async def test_a_lookup_that_hangs_is_an_outage_and_holds_up_nobody() -> None:
    release = threading.Event()

    class Slow:
        def open_document(self, key: str, limit: int) -> list[Passage]:
            if key == "slow":
                release.wait(20)
            return CORPUS[:1]

    reader = DocumentReader(Slow(), timeout_s=0.2)
    slow = asyncio.create_task(reader.open("slow"))
    await asyncio.sleep(0)
    assert await reader.open("quick") == CORPUS[:1]
    with pytest.raises(RetrievalError, match=r"opening a document took longer than 0\.2 s"):
        await slow
    release.set()


def test_a_retriever_that_opens_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a SearchOnly finds passages and opens no documents"):
        DocumentReader(SearchOnly())
    with pytest.raises(ValueError, match="timeout_s is 0"):
        DocumentReader(CORPUS, timeout_s=0)


class SearchOnly:
    num_passages = 3

    def search(self, queries: Any, k: int) -> list[list[Any]]:
        return [[] for _ in queries]


def test_a_server_without_access_is_found_out_before_the_start() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with (
            HttpRetriever(f"http://127.0.0.1:{server.server_port}", retries=0) as remote,
            pytest.raises(ValueError, match=r"opens no documents: .*404.*waymark serve-index"),
        ):
            DocumentReader(remote).check()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
