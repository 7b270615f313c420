"""Documents by id, by title, and by ASearcher's urls."""

from typing import Any

import pytest

from tests.retrieval.server.running import Running


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
        ({"ids": [1]}, "id 0 is 1; every id must be a string"),
        ({"title": " "}, "title 0 is empty"),
        ([], "send an object"),
    ],
)
def test_what_cannot_be_opened_is_refused(server: Running, body: Any, message: str) -> None:
    answer = server.post("/access", json=body)
    assert answer.status_code == 422 and message in answer.json()["error"]
