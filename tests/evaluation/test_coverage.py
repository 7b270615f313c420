"""Coverage is the ceiling of any agent: an answer that is only a piece of another word must not raise it."""

import json
from pathlib import Path

import pytest

from envs.datasets import read_questions
from envs.question import Hop, Question
from evaluation.coverage import AnswerStrings, corpus_coverage, words_of
from retrieval.index import build_index, open_index
from retrieval.passage import Passage


def question(name: str, *answers: str, supports: tuple[str, ...] = (), hops: tuple[Hop, ...] = ()) -> Question:
    return Question(id=name, text="?", golden_answers=answers, supporting_ids=supports, hops=hops)


CORPUS = [
    Passage(id="ada", title="Ada", text="Ada lives in the city of Rome, near 5 trees."),
    Passage(id="juliet", title="Romeo", text="New York (state) is no city. U.S. officials said so."),
    Passage(id="york", title="Sent to New", text="York is old."),
]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Rome", True),
        ("the ROME!", True),
        ("Rom", False),
        ("Romeo", True),
        ("city of Rome", True),
        ("city Rome", False),
        ("New York", True),
        ("new york state", True),
        ("US", True),
        ("5", True),
        ("tree", False),
        ("Rome near 5", True),
    ],
)
def test_an_answer_is_a_run_of_whole_words_after_normalisation(answer: str, found: bool) -> None:
    coverage = corpus_coverage([question("q", answer)], CORPUS)
    assert coverage.summary["coverage_answers"] == float(found)


def test_title_and_text_do_not_run_into_each_other() -> None:
    assert corpus_coverage([question("q", "New York")], CORPUS[2:]).summary["coverage_answers"] == 0.0


def test_all_three_shares() -> None:
    hop = Hop(question="?", answers=("x",), supporting_id="gone")
    questions = [
        question("both", "Milan", "Rome", supports=("ada",)),
        question("elsewhere", "Rome", supports=("juliet", "york")),
        question("lacking", "New York", supports=("juliet",), hops=(hop,)),
        question("closed", "yes", supports=("ada",)),
        question("bare", "Paris"),
        question("empty", "the", "!"),
    ]
    coverage = corpus_coverage(questions, CORPUS)
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert coverage.question_ids == ("both", "elsewhere", "lacking", "closed", "bare", "empty")
    assert coverage.per_question["supports"].tolist() == [1, 1, 0, 1, nan, nan]
    assert coverage.per_question["answers"].tolist() == [1, 1, 1, nan, 0, nan]
    assert coverage.per_question["answers_in_supports"].tolist() == [1, 0, 1, nan, nan, nan]
    summary = coverage.summary
    assert summary["coverage_supports"] == 0.75 and summary["coverage_supports_n"] == 4
    assert summary["coverage_answers"] == 0.75 and summary["coverage_answers_n"] == 4
    assert summary["coverage_answers_in_supports"] == pytest.approx(2 / 3)
    assert 0 <= summary["coverage_supports_low"] <= 0.75 <= summary["coverage_supports_high"] <= 1


def test_what_applies_to_no_question_is_null_in_json() -> None:
    summary = corpus_coverage([question("q", "yes")], CORPUS).summary
    assert json.loads(json.dumps(summary, allow_nan=False))["coverage_answers"] is None
    assert summary["coverage_answers_n"] == summary["coverage_supports_n"] == 0
    with pytest.raises(ValueError, match="no question"):
        corpus_coverage([], CORPUS)


def test_strings_that_share_a_first_word_are_all_found() -> None:
    strings = AnswerStrings(map(words_of, ["new", "New York", "New York State", "new wave"]))
    assert strings.found_in(CORPUS[1]) == {("new",), ("new", "york"), ("new", "york", "state")}
    strings.forget([("new",), ("new", "york")])
    assert strings.answers == {("new", "york", "state"), ("new", "wave")}
    assert strings.found_in(CORPUS[1]) == {("new", "york", "state")}


@pytest.mark.data
def test_the_corpora_hold_what_their_questions_need(data_dir: Path, tmp_path: Path) -> None:
    build_index(data_dir / "2wikimultihopqa" / "corpus.jsonl.gz", tmp_path / "index")
    questions = read_questions(data_dir / "2wikimultihopqa" / "questions.jsonl.gz")
    with open_index(tmp_path / "index") as index:
        summary = corpus_coverage(questions, index.corpus).summary
    assert summary["coverage_supports"] == 1.0 and summary["coverage_supports_n"] == 1071
    assert summary["coverage_answers_n"] == 851, "the 220 questions of yes and no are left out"
    assert 0.97 < summary["coverage_answers_in_supports"] <= summary["coverage_answers"] < 1
