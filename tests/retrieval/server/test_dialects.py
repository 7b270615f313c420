"""Every dialect is answered in its shape, for any number of queries, with and without scores."""

from typing import Any

import pytest

from retrieval.corpus import DIALECTS as CORPUS_DIALECTS
from retrieval.passage import Hit, Passage
from retrieval.server.dialects import answer_rows, contents_of, parse_retrieve
from retrieval.server.refusal import Refusal
from retrieval.server.settings import ServerSettings
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running, Start

FAKE = FakeRetriever()


def document(hit: Hit) -> dict[str, str]:
    return {"id": hit.passage.id, "contents": contents_of(hit.passage)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 33, 300])
@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("key", ["topk", "top_k", "k"])
def test_search_r1_gets_each_querys_own_documents_in_order(server: Running, count: int, scores: bool, key: str) -> None:
    queries = ["q" * (i + 1) for i in range(count)]
    answer = server.post("/retrieve", json={"queries": queries, key: 4, "return_scores": scores})
    assert answer.status_code == 200
    expected = [
        [{"document": document(hit), "score": hit.score} if scores else document(hit) for hit in FAKE.expected(q, 4)]
        for q in queries
    ]
    assert answer.json() == {"result": expected}


@pytest.mark.parametrize("body", [{"topk": 3}, {"topk": 3, "return_scores": False}, {}])
def test_skyrls_single_query_gets_a_list_of_one_list(server: Running, body: dict[str, Any]) -> None:
    answer = server.post("/retrieve", json={"query": "abc", **body}).json()
    assert answer == {"result": [[document(hit) for hit in FAKE.expected("abc", 3)]]}


@pytest.mark.parametrize("key", ["top_k", "k"])
def test_rllm_gets_a_flat_list_with_scores(server: Running, key: str) -> None:
    answer = server.post("/retrieve", json={"query": "abc", key: 2}).json()
    assert [(row["id"], row["content"], row["score"], row["document"]["contents"]) for row in answer["results"]] == [
        (hit.passage.id, contents_of(hit.passage), hit.score, contents_of(hit.passage))
        for hit in FAKE.expected("abc", 2)
    ]


def test_a_query_without_a_known_term_gets_an_empty_list_in_its_place(server: Running) -> None:
    answer = server.post("/retrieve", json={"queries": ["a", "unknown", "b"], "topk": 1}).json()["result"]
    assert [len(hits) for hits in answer] == [1, 0, 1]


def test_documents_have_urls_for_asearcher_where_that_is_set(start: Start) -> None:
    body = {"queries": ["a"], "topk": 2, "return_scores": False}
    server = start(document_urls=True)
    rows = server.post("/retrieve", json=body).json()["result"][0]
    assert [row["url"] for row in rows] == [row["id"] for row in rows]
    opened = server.post("/access", json={"urls": [row["url"] for row in rows]}).json()["result"]
    assert [page["contents"] for page in opened] == [row["contents"] for row in rows]


@pytest.mark.parametrize("title", ["Ada", "", 'with "quotes"', "Ünïcode ✓", " padded "])
def test_contents_are_what_the_corpus_reader_reads(title: str) -> None:
    passage = Passage(id="1", title=title, text='two\nlines and "quotes"')
    read = next(read for keys, read in CORPUS_DIALECTS if keys == {"id", "contents"})
    assert read({"id": "1", "contents": contents_of(passage)}) == ("1", passage.title or "", passage.text)


LIMITS = ServerSettings(max_queries=3, max_query_chars=10, max_k=5, max_hits=8, default_k=2, max_waiting=10)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body is a JSON array; send an object"),
        ("text", "the body is a JSON string"),
        ({}, "there is no query; send `queries`"),
        ({"queries": None, "query": None}, "there is no query"),
        ({"queries": "one"}, "queries is a JSON string; it must be an array"),
        ({"query": ["one"]}, "query is a JSON array; it must be a string"),
        ({"query": "a", "queries": ["a"]}, "both `query` and `queries` are given"),
        ({"queries": ["a", 7]}, "query 1 is 7; every query must be a string"),
        ({"queries": ["a", None]}, "query 1 is a JSON null"),
        ({"queries": ["a", ""]}, "query 1 is empty"),
        ({"queries": [" \n\t "]}, "query 0 is empty"),
        ({"query": " "}, "query is empty; a query needs at least one word"),
        ({"queries": ["a" * 11]}, "query 0 has 11 characters; at most 10"),
        ({"queries": ["a"] * 4}, "queries has 4 entries; send at most 3 in one request"),
        ({"query": "a", "k": 0}, "k is 0; ask for 1 to 5 hits"),
        ({"query": "a", "topk": -1}, "topk is -1"),
        ({"query": "a", "topk": 6}, r"topk is 6; ask for 1 to 5 hits \(the server's limit\)"),
        ({"query": "a", "topk": 10**30}, "ask for 1 to 5"),
        ({"query": "a", "top_k": 1.5}, "top_k is 1.5; it must be a whole number"),
        ({"query": "a", "top_k": True}, "top_k is True"),
        ({"query": "a", "top_k": "3"}, "top_k is a JSON string"),
        ({"query": "a", "top_k": 1, "k": 2}, "k 2, top_k 1 contradict each other"),
        ({"queries": ["a"] * 3, "k": 3}, "3 queries with 3 hits each are 9 hits; ask for at most 8"),
        ({"query": "a", "return_scores": "yes"}, "return_scores is a JSON string"),
        ({"query": "a", "dialect": "esperanto"}, "dialect is 'esperanto'; choose one of search_r1"),
        ({"query": "a", "dialect": 3}, "dialect is 3"),
        ({"queries": ["a", "b"], "dialect": "rllm"}, "dialect rllm answers one query, and there are 2"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_way_out(body: Any, message: str) -> None:
    with pytest.raises(Refusal, match=message) as refused:
        parse_retrieve(body, LIMITS, 100)
    assert refused.value.status == 422


def test_the_corpus_bounds_k_and_the_default() -> None:
    assert parse_retrieve({"query": "a"}, ServerSettings(), 2).k == 2
    with pytest.raises(Refusal, match="the corpus has 2 passages"):
        parse_retrieve({"query": "a", "k": 3}, ServerSettings(), 2)


def test_whole_floats_equal_depths_and_unknown_keys_are_taken() -> None:
    request = parse_retrieve({"query": "a", "k": 2.0, "topk": 2, "user": {"deep": 1}}, LIMITS, 100)
    assert (request.k, request.dialect.name) == (2, "rllm")


def test_the_clients_dialect_keeps_title_and_text_apart() -> None:
    request = parse_retrieve({"queries": ["a"], "dialect": "waymark"}, LIMITS, 100)
    hit = Hit(passage=Passage(id="1", title='a "b"\nc', text="t"), score=0.1, rank=1)
    assert answer_rows(request, [hit], urls=True) == [
        {"document": {"id": "1", "title": 'a "b"\nc', "text": "t"}, "score": 0.1}
    ]
