"""A config is checked before anything is opened: what is not understood is told by its place, in words."""

from pathlib import Path

import pytest

from retrieval.opening import open_retriever
from retrieval.spec import HybridSpec, IndexSpec, UrlSpec, retriever_spec


def test_a_spec_is_given_again_as_it_is() -> None:
    spec = retriever_spec({"hybrid": ["a", "http://b:1"]})
    assert spec == HybridSpec(hybrid=(IndexSpec(index=Path("a")), UrlSpec(url="http://b:1")))
    assert retriever_spec(spec) == spec and retriever_spec(spec.model_dump()) == spec
    assert "secret" not in repr(retriever_spec({"url": "http://b", "token": "secret"}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, r"a retriever is a path to an index, a URL \(http://...\), or a mapping .* \(given: None\)"),
        ({}, "a retriever is a path"),
        ({"index": "a", "url": "http://b"}, "one of the keys index, url, hybrid, rerank"),
        ({"hybrid": ["a"]}, "hybrid: has 1 part; it needs two or more"),
        ({"hybrid": "abc"}, "retriever: hybrid: 'abc' is no list"),
        ({"hybrid": ["a", 5]}, r"retriever: hybrid\.1: a retriever is a path"),
        ({"hybrid": ["a", "b"], "method": "sum"}, "retriever: method: 'sum' is not allowed; give 'rrf' or 'weighted'"),
        ({"hybrid": ["a", "b"], "weights": [1]}, "weights: there are 1 for 2 parts"),
        ({"hybrid": ["a", "b"], "weights": [1, -1]}, "must be a number above 0"),
        (
            {"hybrid": ["a", "b"], "depths": 3},
            "depths: there is no such setting beside hybrid; there are hybrid, method",
        ),
        (
            {"hybrid": ["a", {"hybrid": ["b", "c"], "depth": 0}]},
            r"retriever: hybrid\.1\.depth: 0 is too small; give at least 1",
        ),
        ({"rerank": "a"}, "retriever: model: is missing; give it"),
        ({"rerank": {"rerank": "a", "model": ""}, "model": "m"}, r"retriever: rerank\.model: .*at least 1 character"),
        ({"url": "ftp://b"}, "retriever: url: .*pattern"),
        ({"url": "http://b", "timeout_s": 0}, "retriever: timeout_s: 0 is too small; give more than 0$"),
    ],
)
def test_a_spec_that_is_not_understood_says_where_and_what(spec: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_retriever(spec)


def test_a_file_that_is_no_spec_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"list\.yaml holds a list; a retriever file holds a mapping"):
        open_retriever(tmp_path / "list.yaml")
    with pytest.raises(ValueError, match=r"broken\.json cannot be read as json"):
        open_retriever(str(tmp_path / "broken.json"))


def test_a_file_that_names_itself_is_told_in_one_line(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"hybrid: [{two}, {two}]\n")
    two.write_text(f"{{rerank: {one}, model: m}}\n")
    for path in (one, two):
        with pytest.raises(ValueError, match=r"never ends: a file of it names itself, .*name an index") as caught:
            retriever_spec(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_parts_of_parts_may_lie_eight_deep(tmp_path: Path) -> None:
    spec: object = "index"
    for _ in range(7):
        spec = {"rerank": spec, "model": "m"}
    assert retriever_spec(spec)
    with pytest.raises(ValueError, match="over 8 are nested"):
        retriever_spec({"hybrid": ["index", {"rerank": {"rerank": spec, "model": "m"}, "model": "m"}]})
    assert retriever_spec(spec), "the count begins anew"
