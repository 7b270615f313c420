"""Documents by id, by title, and by ASearcher's urls."""

from typing import Any

import pytest

from retrieval.client import HttpRetriever
from tests.retrieval.server.fakes import FakeRetriever
from tests.retrieval.server.running import Running, Start


def test_a_document_by_id(server: Running) -> None:
    assert server.post("/access", json={"id": "p1"}).json() == {
        "result": {"id": "p1", "title": "Title 1", "text": "text of 1", "contents": '"Title 1"\ntext of 1'}
    }
    missing = server.post("/access", json={"id": "nope"})
    assert (missing.status_code, missing.json()) == (404, {"error": "no document has the id 'nope'"})


def test_several_ids_with_null_for_what_is_not_there(server: Running) -> None:
    found = server.post("/access", json={"ids": ["p3", "nope", "p1"]}).json()["result"]
    assert [row and row["id"] for row in found] == ["p3", None, "p1"]


def test_the_passages_of_a_title_however_it_is_written(server: Running) -> None:
    found = server.post("/access", json={"title": " title   2 "}).json()["result"]
    assert [row["id"] for row in found] == ["p2", "p9", "p16"]
    lists = server.post("/access", json={"titles": ["Title 2", "no such"]}).json()["result"]
    assert [len(rows) for rows in lists] == [3, 0]
    assert server.post("/access", json={"title": "no such"}).status_code == 404


def test_the_passages_of_a_title_up_to_a_limit(start: Start) -> None:
    server = start(FakeRetriever(200), max_k=50, max_hits=100)
    ids = [f"p{i}" for i in range(2, 200, 7) if i % 5]
    for limit, found in ((None, 20), (2, 2), (3.0, 3), (50, len(ids))):
        body = {"title": "Title 2"} | ({} if limit is None else {"limit": limit})
        rows = server.post("/access", json=body).json()["result"]
        assert [row["id"] for row in rows] == ids[:found]
    for limit in (0, 51, "2", True, 1.5, -1):
        answer = server.post("/access", json={"title": "Title 2", "limit": limit})
        assert answer.status_code == 422 and "ask for 1 to 50 passages of a title" in answer.json()["error"]
    answer = server.post("/access", json={"titles": ["Title 2"] * 3, "limit": 40})
    assert answer.status_code == 422 and "3 names with up to 40 passages each" in answer.json()["error"]
    lists = server.post("/access", json={"titles": ["Title 2"] * 10}).json()["result"]
    assert [len(rows) for rows in lists] == [10] * 10, "unasked, the answer keeps to the server's limit"


def test_a_server_of_a_server_opens_titles_too(start: Start) -> None:
    first = start()
    with HttpRetriever(first.url) as remote:
        second = start(remote)
        with HttpRetriever(second.url) as client:
            assert [passage.id for passage in client.titled("title_2")] == ["p2", "p9", "p16"]
            assert client.titled("title 2", limit=1) == [FakeRetriever().get("p2")]
            assert client.titled("no such") == client.titled(" ") == client.titled("\ud800") == []
            with pytest.raises(ValueError, match="limit is 0"):
                client.titled("Title 2", limit=0)


def test_urls_as_asearcher_sends_them(server: Running) -> None:
    urls = ["p1", "https://en.wikipedia.org/wiki/Title_2#Life", "Title 3", "https://example.org/else", "http://[::1"]
    pages = server.post("/access", json={"urls": urls}).json()["result"]
    contents = [page and page["contents"] for page in pages]
    assert contents[0] == '"Title 1"\ntext of 1'
    assert contents[1] == '"Title 2"\ntext of 2\ntext of 9\ntext of 16', "all the passages of a page"
    assert contents[2] is not None and contents[3:] == [None, None]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "the body has none; send exactly one"),
        ({"id": "a", "title": "b"}, "the body has id and title"),
        ({"id": ["a"]}, "id is a JSON array; it must be a string"),
        ({"urls": "a"}, "urls is a JSON string; it must be an array"),
        ({"titles": ["a"] * 2000}, "titles has 2000 entries; send at most 1024 in one request"),
        ({"ids": [1]}, "id 0 is 1; every id must be a string"),
        ({"title": " "}, "title is empty"),
        ([], "send an object"),
    ],
)
def test_what_cannot_be_opened_is_refused(server: Running, body: Any, message: str) -> None:
    answer = server.post("/access", json=body)
    assert answer.status_code == 422 and message in answer.json()["error"]
