import json
from pathlib import Path

import pytest

from rewards.rubric import Claim
from rewards.rubric_file import read_rubrics

ROW = {
    "entities": {"E1": ["Tavo Rinsel", "T. Rinsel"]},
    "rubrics": [{"text": "<E1> founded Lomira", "mentions": ["Lomira"], "supporting_id": "a"}, "<E1> grew up in <E0>"],
}


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    lines, whole = tmp_path / "r.jsonl", tmp_path / "r.json"
    lines.write_text(json.dumps({"id": "q"} | ROW) + "\n\n" + json.dumps({"id": 7} | ROW) + "\n", encoding="utf-8")
    whole.write_text(json.dumps({"q": ROW, "7": ROW}), encoding="utf-8")
    read = read_rubrics(lines)
    assert read == read_rubrics(whole) and set(read) == {"q", "7"}
    assert read["q"].claims == (
        Claim(text="<E1> founded Lomira", mentions=("Lomira",), supporting_id="a"),
        Claim(text="<E1> grew up in <E0>"),
    )
    assert read["q"].aliases == {1: ("Tavo Rinsel", "T. Rinsel")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], r"r\.jsonl:1: must be an object with rubrics and entities, got list"),
        ({"id": "q"}, r"rubrics must be a list with at least one rubric, got None"),
        ({"id": "q", "rubrics": []}, r"at least one rubric, got \[\]"),
        ({"rubrics": ["<E0>"]}, r"id must be the id of a question, got None"),
        ({"id": True, "rubrics": ["<E0>"]}, r"id must be the id of a question, got True"),
        ({"id": "q", "rubrics": ["<E0> x"], "rubric": 1}, r"unknown keys \['rubric'\]; there are"),
        ({"id": "q", "rubrics": [3]}, r"rubrics\[0\]: must be a text or an object .* got 3"),
        ({"id": "q", "rubrics": [{"text": " "}]}, r"rubrics\[0\]: text must be a text that is not empty"),
        ({"id": "q", "rubrics": [{"text": "<E0>", "cites": []}]}, r"must be a text or an object with text, mentions"),
        ({"id": "q", "rubrics": [{"text": "<E0>", "supporting_id": 3}]}, r"supporting_id must be the id of a passage"),
        ({"id": "q", "rubrics": [{"text": "<E0>", "mentions": "x"}]}, r"mentions must be a list of texts"),
        ({"id": "q", "rubrics": ["no entity"]}, r"'no entity' has no entity; write <E0> for the answer"),
        ({"id": "q", "rubrics": ["<E1> is <E0>"]}, r"the rubrics use E1, which have no names in entities"),
        ({"id": "q", "rubrics": ["<E1>"], "entities": {"E1": ["x"]}}, r"no rubric speaks of <E0>"),
        ({"id": "q", "rubrics": ["<E0>"], "entities": {"E1": []}}, r"entities\.E1 must have at least one name"),
        ({"id": "q", "rubrics": ["<E0>"], "entities": {"E0": ["x"]}}, r"E0 is the answer; got 'E0'"),
        ({"id": "q", "rubrics": ["<E0>"], "entities": {"x": ["x"]}}, r"entities are named E1, E2, .*got 'x'"),
        ({"id": "q", "rubrics": ["<E0>"], "entities": ["E1"]}, r"entities: must be an object"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, row, message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_rubrics(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl does not exist"):
        read_rubrics(tmp_path / "nothing.jsonl")
    path = tmp_path / "r.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="the file has no rubrics"):
        read_rubrics(path)
    path.write_text('{"id": "q"', encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.jsonl:1: not valid JSON"):
        read_rubrics(path)
    path.write_text(json.dumps({"id": "q", "rubrics": ["<E0> is"]}, indent=2), encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.jsonl:1: not valid JSON .*a \.jsonl file has one whole object per line"):
        read_rubrics(path)
    row = json.dumps({"id": "q", "rubrics": ["<E0> is"]})
    path.write_text(f"{row}\n{row}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.jsonl:2: the question 'q' has rubrics already"):
        read_rubrics(path)
    whole = tmp_path / "r.json"
    whole.write_text('{"q": ["<E0> is"]}', encoding="utf-8")
    with pytest.raises(ValueError, match="question 'q': must be an object"):
        read_rubrics(whole)
