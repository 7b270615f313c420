import json
import math
from dataclasses import replace

import pytest

from rewards.nuggets import Nugget, NuggetsReward, label_of, read_nuggets
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory
from tests.rewards.fake_judge import FakeJudge


def score(*turns, finish=None, question=QUESTION, **params) -> float:
    unit = group(trajectory(*turns, finish=finish, question=question))
    return float(NuggetsReward(context(), **params)(unit, {question.id: question}).outcome[0])


FACT = "The bridge was opened by Hedda Quist in 1907."


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (FACT, 1.0),
        ("In 1907 Hedda Quist opened the bridge.", 1.0),
        ("Some say much. Hedda Quist opened the bridge in 1907. It is green.", 1.0),
        ("Hedda Quist opened the bridge.", 0.5),  # without the year
        ("Hedda Quist opened the bridge in 1917.", 0.0),  # another year
        ("The bridge was not opened by Hedda Quist in 1907.", 0.0),
        ("The bridge is green.", 0.0),
        ("It cannot be determined.", 0.0),
    ],
)
def test_labels(text: str, label: float) -> None:
    assert label_of(FACT, text) == label


def test_yes_and_no_are_supported_by_themselves_alone() -> None:
    assert label_of("no", "No.") == 1.0
    assert label_of("no", "no bridge was opened") == label_of("yes", "no") == 0.0


@pytest.fixture
def nugget_file(tmp_path):
    path = tmp_path / "nuggets.jsonl"
    nuggets = [{"text": FACT, "weight": 3.0}, {"text": ["It is painted green.", "The colour is green."]}]
    path.write_text(json.dumps({"question_id": "q", "nuggets": nuggets}) + "\n\n", encoding="utf-8")
    return str(path)


def test_the_weighted_mean_over_the_nuggets_of_a_file(nugget_file) -> None:
    assert read_nuggets(nugget_file) == {
        "q": (Nugget(wordings=(FACT,), weight=3.0), Nugget(wordings=("It is painted green.", "The colour is green.")))
    }
    of_text = {
        "In 1907 Hedda Quist opened the bridge.": 3 / 4,
        "Hedda Quist opened the bridge. The colour is green.": (3 * 0.5 + 1) / 4,
        "The colour is green.": 1 / 4,
        "unknown": 0.0,
    }
    for text, wanted in of_text.items():
        assert score(answer(text), nuggets=nugget_file) == pytest.approx(wanted), text
    strict = score(answer("Hedda Quist opened the bridge. The colour is green."), nuggets=nugget_file, strict=True)
    assert strict == pytest.approx(1 / 4)
    other = replace(QUESTION, id="other")
    assert math.isnan(score(answer("Oskel"), question=other, nuggets=nugget_file))


def test_one_nugget_in_all_wordings_of_the_answer() -> None:
    question = replace(QUESTION, golden_answers=("Oskel", "the Oskel harbour"))
    for text in ("Oskel", "the Oskel harbour", "It is Oskel."):
        assert score(answer(text), question=question) == 1.0
    assert score(answer("Lomira")) == score(answer(" ")) == score(search(["b"])) == 0.0


def test_what_was_shown_is_judged_where_it_is_asked_for() -> None:
    turns = (search(["b"]), answer("Lomira"))
    assert score(*turns, text="shown") == 1.0
    assert score(*turns, text="both") == 0.5
    assert score(search(["x"]), answer("Oskel"), text="shown") == 0.0


def test_sentences_of_the_gold_passages_that_say_an_answer() -> None:
    founded = "Lomira was founded by the engineer Tavo Rinsel in the year 1812."
    long = f"{founded} Tavo Rinsel grew up in the harbour town of Oskel."
    assert score(answer(long), nuggets="sentences") == 1.0
    assert score(answer("Oskel"), nuggets="sentences") == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param("Tavo Rinsel grew up in the harbour town of Oskel.", id="copying a passage"),
        pytest.param("Oskel is a harbour town where the river Vann meets the sea. " * 3, id="copying passages"),
        pytest.param("In which town did the founder of Lomira grow up?", id="copying the question"),
        pytest.param("It cannot be determined.", id="cannot be determined"),
        pytest.param("Lomira, Vann, Rinsel, Drums, Glaciers, Oskel, Tavo, Bridge", id="listing everything"),
        pytest.param("not Oskel", id="negation"),
    ],
)
def test_cheats_earn_less_than_the_answer(cheat: str) -> None:
    assert score(search(["b"]), answer(cheat)) < score(search(["b"]), answer("Oskel")) - 0.1


def test_the_dilution_is_that_of_the_formula() -> None:
    copied = "Tavo Rinsel grew up in the harbour town of Oskel."  # 9 words without the article
    for slack in (0, 3, 5):
        assert score(answer(copied), slack=slack) == pytest.approx((1 + slack) / 9)
    assert score(answer(copied), slack=8) == 1.0


def test_a_judge_labels_each_wording_and_its_failure_is_nan() -> None:
    question = replace(QUESTION, golden_answers=("Oskel", "Oskell"))
    judge = FakeJudge(lambda r: {"Oskel": 0.5, "Oskell": 1.0}[r.fields["nugget"]])
    assert score(answer("there"), question=question, judge=judge) == 1.0
    assert [r.criterion for r in judge.batches[0]] == ["nugget"] * 2
    assert score(answer("there"), judge=judge) == 0.5
    assert score(answer("there"), judge=judge, strict=True) == 0.0
    failing = FakeJudge(lambda r: math.nan if r.fields["nugget"] == "Oskel" else 1.0)
    assert math.isnan(score(answer("there"), question=question, judge=failing))
    assert math.isnan(score(answer("there"), question=question, judge=failing, strict=True))
    assert score(answer(" "), judge=failing) == 0.0  # nothing to ask about


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"question_id": "q"}',
        '["q"]',
        '{"question_id": "q", "nuggets": [{"text": ""}]}',
        '{"question_id": "q", "nuggets": [{"text": []}]}',
        '{"question_id": "q", "nuggets": [{"text": "x", "weight": 0}]}',
        '{"question_id": "q", "nuggets": [{"text": "x", "weight": "much"}]}',
        '{"question_id": "q", "nuggets": []}\n{"question_id": "q", "nuggets": []}',
    ],
)
def test_bad_lines_are_refused_with_their_number(tmp_path, line: str) -> None:
    path = tmp_path / "nuggets.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=r"line [12]"):
        read_nuggets(path)


def test_missing_annotation_and_bad_parameters() -> None:
    assert math.isnan(score(answer("Oskel"), question=replace(QUESTION, golden_answers=())))
    assert math.isnan(score(answer("Oskel"), question=replace(QUESTION, supporting_ids=()), nuggets="sentences"))
    assert math.isnan(score(search(["b"]), finish="cut"))
    for params in ({"text": "thought"}, {"strict": "yes"}, {"slack": -1}):
        with pytest.raises(ValueError, match=f"nuggets.*{next(iter(params))}"):
            NuggetsReward(context(), **params)


@pytest.mark.parametrize("nuggets", [3, True, None, ["answer"]])
def test_what_names_no_nuggets_is_refused(nuggets: object) -> None:
    with pytest.raises(ValueError, match="nuggets must be answer, sentences or the path of a file"):
        NuggetsReward(context(), nuggets=nuggets)


def test_a_file_that_is_not_there_is_told_with_the_names_that_are() -> None:
    with pytest.raises(FileNotFoundError, match="answr does not exist; without a file there are answer and sentences"):
        NuggetsReward(context(), nuggets="answr")


def test_ids_that_are_numbers_in_the_file_are_found(tmp_path) -> None:
    path = tmp_path / "nuggets.jsonl"
    path.write_text(json.dumps({"question_id": 7, "nuggets": [{"text": FACT}]}))
    assert list(read_nuggets(path)) == ["7"]
