"""A title that an agent has read must open its passages, however it is written; another title must not."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.access import PassageAccess, TitleLookup, fold_title
from retrieval.index import build_index, open_index
from retrieval.passage import Passage

TITLES = ["Straße nach Rom", "Café", "Rome", "", "  rome ", "Zürich", "ROME", "Rome (film)"]
CORPUS = [Passage(id=f"p{i}", title=title, text=f"text {i}") for i, title in enumerate(TITLES)]


def ids(passages: list[Passage]) -> list[str]:
    return [passage.id for passage in passages]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("rome", ["p2", "p4", "p6"]),
        ("\tRoMe\n", ["p2", "p4", "p6"]),
        ("STRASSE  NACH\u00a0ROM", ["p0"]),
        ("cafe\u0301", ["p1"]),  # an accent of its own, as some writers of Unicode put it
        ("cafe", []),
        ("Zurich", []),
        ("rome (film)", ["p7"]),
        ("Rome film", []),
        ("", []),
        (" \n", []),
        ("\ud800", []),
        ("nowhere", []),
    ],
)
def test_titles_are_compared_folded(asked: str, found: list[str]) -> None:
    assert ids(PassageAccess(CORPUS).by_title(asked)) == found


def test_a_title_of_many_passages_is_cut_at_the_limit() -> None:
    corpus = [Passage(id=str(i), title="List", text="x") for i in range(50)]
    access = PassageAccess(corpus)
    assert ids(access.by_title("list")) == [str(i) for i in range(20)]
    assert ids(access.by_title("list", limit=2)) == ["0", "1"]
    with pytest.raises(ValueError, match="limit is 0"):
        access.by_title("list", limit=0)


def test_an_id_comes_before_a_title() -> None:
    corpus = [Passage(id="rome", title="Italy", text="x"), Passage(id="b", title="Rome", text="y")]
    access = PassageAccess(corpus)
    assert ids(access.open("rome")) == ["rome"] and ids(access.open("Rome")) == ["b"] and access.open("c") == []
    assert access.by_id("Rome") is None, "ids are compared as they are"


def test_titles_that_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.access.id_hash", lambda text: 1)
    assert ids(PassageAccess(CORPUS).by_title("Zürich")) == ["p5"]
    assert TitleLookup(TITLES).rows("nowhere") == [0, 1, 2, 4, 5, 6, 7]


def test_over_an_index_and_from_many_threads(tmp_path: Path) -> None:
    rows = [{"id": passage.id, "title": passage.title, "text": passage.text} for passage in CORPUS]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_index(tmp_path / "c.jsonl", tmp_path / "index")
    with open_index(tmp_path / "index") as index:
        access = PassageAccess(index.corpus)
        with ThreadPoolExecutor(8) as pool:
            assert {tuple(ids(access.by_title("rome"))) for _ in pool.map(str, range(1))} == {("p2", "p4", "p6")}
            assert list(pool.map(lambda _: ids(access.by_title("rome")), range(32))) == [["p2", "p4", "p6"]] * 32
        assert access.by_id("p5") == CORPUS[5] and access.by_id("nope") is None


def test_folding_twice_changes_nothing() -> None:
    for title in (*TITLES, "ΌΣΟΣ", "İstanbul", "ﬁn"):
        assert fold_title(fold_title(title)) == fold_title(title)
