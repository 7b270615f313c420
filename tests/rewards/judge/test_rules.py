"""The judge by rules: pairs of a text that holds and the trap beside it, criterion by criterion, and the encoder."""

import threading
from typing import Any

import pytest

from rewards.judge.judge import CRITERIA, JudgeRequest
from rewards.judge.rules import RulesJudge
from rewards.judge.settings import RulesSettings
from tests.rewards.judge.requests import filled

QUESTION = "Where was Mara Voss born?"
PASSAGE = "Mara Voss\nMara Voss is a painter. She was born in Arlen in 1901. Tellis Orn was born in Besk."


def score(criterion: str, **fields: Any) -> float:
    [verdict] = RulesJudge().ask([JudgeRequest(criterion=criterion, fields=fields)])
    return verdict.score


@pytest.mark.parametrize(
    ("question", "right", "wrong", "golds"),
    [
        (QUESTION, "the Arlen", "Besk", ["Arlen"]),
        (QUESTION, "Mara Voss was born in Arlen.", "Mara Voss was not born in Arlen.", ["Arlen"]),
        (QUESTION, "Arlen, not Besk", "Besk, not Arlen", ["Arlen"]),
        (QUESTION, "It was not Besk but Arlen.", "It was not Arlen but Besk.", ["Arlen"]),
        (QUESTION, "Arlen", "Arlen or Besk", ["Arlen"]),
        (QUESTION, "Arlen", "Arlen, Besk, Irna", ["Arlen"]),
        (QUESTION, "Arlen", "New Arlen", ["Arlen"]),
        (QUESTION, "Arlen", "It cannot be determined", ["Arlen"]),
        (QUESTION, "Port Camber", "Camber", ["Port Camber"]),
        ("Who is it?", "Dr. Marie Curie", "Marie", ["Marie Curie"]),
        ("Who is it?", "the Bard", "the Bald", ["William Shakespeare", "The Bard"]),
        ("Who is it?", "José Muñoz", "José Muro", ["Jose Munoz"]),
        ("When?", "May 12, 1901", "May 12, 1902", ["12 May 1901"]),
        ("When?", "It was in 1901.", "It was in 190.", ["1901"]),
        ("How many live there?", "about 12,500 people", "12,500 million", ["12500"]),
        ("How many live there?", "seven", "eight", ["7"]),
        ("Is it a river?", "Yes, it is a river.", "No, it is not.", ["yes"]),
        ("Is it a river?", "It is not a river.", "Yes, it is.", ["no"]),
    ],
)
def test_an_answer_is_right_where_it_commits_to_a_gold(question: str, right: str, wrong: str, golds: list[str]) -> None:
    assert score("answer", question=question, answer=right, golds=golds) == 1.0
    assert score("answer", question=question, answer=wrong, golds=golds) == 0.0


@pytest.mark.parametrize("answer", ["", "  ", "?!", "Arlen " * 0])
def test_an_empty_answer_is_wrong_and_so_is_any_without_golds(answer: str) -> None:
    assert score("answer", question=QUESTION, answer=answer, golds=["Arlen", ""]) == 0.0
    assert score("answer", question=QUESTION, answer="Arlen", golds=[]) == 0.0


@pytest.mark.parametrize(
    ("supported", "unsupported"),
    [
        ("Mara Voss was born in Arlen.", "Mara Voss was born in Besk."),
        ("Mara Voss was born in Arlen.", "Mara Voss was not born in Arlen."),
        ("Arlen is the birthplace of Mara Voss.", "Arlen is the birthplace of Mara Orn."),
        ("Mara Voss was born in 1901.", "Mara Voss was born in 1902."),
        ("Mara Voss was born in Arlen and is a painter.", "Mara Voss was born in Arlen and is a sailor."),
        ("Tellis Orn was born in Besk.", "Tellis Orn was born in Arlen."),
        ("Mara Voss is a painter.", "Mara Voss"),
    ],
)
def test_a_claim_is_supported_by_one_sentence_and_what_it_refers_to(supported: str, unsupported: str) -> None:
    assert score("supports", claim=supported, passages=["Irna\nA river.", PASSAGE]) == 1.0
    assert score("supports", claim=unsupported, passages=["Irna\nA river.", PASSAGE]) == 0.0
    assert score("supports", claim=supported, passages=[]) == 0.0


def test_a_swap_of_roles_is_no_support_unless_the_relation_has_no_direction() -> None:
    passages = ["Orin Beck taught Sana Lund.", "Petra Dahl married Aldo Rook."]
    assert score("supports", claim="Sana Lund was taught by Orin Beck.", passages=passages) == 1.0
    assert score("supports", claim="Orin Beck was taught by Sana Lund.", passages=passages) == 0.0
    assert score("supports", claim="Sana Lund taught Orin Beck.", passages=passages) == 0.0
    assert score("supports", claim="Aldo Rook married Petra Dahl.", passages=passages) == 1.0


def test_a_nugget_is_there_in_whole_in_part_or_not() -> None:
    text = "Mara Voss was born in Arlen in 1901."
    for nugget, expected in (
        ("Mara Voss was born in Arlen.", 1.0),
        ("Mara Voss was born in Arlen, and Mara Voss died in Irna.", 0.5),
        ("Mara Voss was born in Arlen in 1902.", 0.0),
        ("Mara Voss was never born in Arlen.", 0.0),
        ("Tellis Orn was born in Arlen.", 0.0),
        ("The bridge has four arches.", 0.0),
    ):
        assert score("nugget", text=text, nugget=nugget) == expected, nugget
    assert score("nugget", text="", nugget="Mara Voss was born in Arlen.") == 0.0


@pytest.mark.parametrize(("criterion", "asked"), [("usefulness", "query"), ("goal_met", "goal")])
def test_results_help_where_they_state_the_gold_of_the_entity_that_is_meant(criterion: str, asked: str) -> None:
    fields: dict[str, Any] = {asked: "birthplace of Mara Voss", "golds": ["Arlen"]}
    if criterion == "usefulness":
        fields["question"] = QUESTION
    for passage, expected in (
        (PASSAGE, 1.0),
        ("Mara Voss was not born in Arlen.", 0.0),
        ("Mara Orn was born in Arlen.", 0.0),
        ("Mara Voss was born in New Arlen.", 0.0),
        ("Mara Voss sold a picture to a museum of Arlen.", 0.0),
        ("Irna lies by a river.", 0.0),
    ):
        assert score(criterion, **fields, passages=[passage]) == expected, passage
    assert score(criterion, **fields, passages=[]) == 0.0
    assert score(criterion, **{**fields, "golds": []}, passages=["The birthplace of Mara Voss is Arlen."]) == 1.0


def test_relevance_is_the_best_passages_and_low_for_another_entity() -> None:
    def relevance(*passages: str) -> float:
        return score("relevance", question=QUESTION, query="birthplace of Mara Voss", passages=passages)

    whole, part, other = relevance(PASSAGE), relevance("Mara Voss is a painter."), relevance("Mara Orn was born here.")
    assert whole == 1.0 > part > 0.5 > other > relevance("Irna lies by a river.") == 0.0
    assert relevance("Irna lies by a river.", PASSAGE) == whole
    assert relevance() == 0.0


@pytest.mark.parametrize(
    ("thought", "good"),
    [
        ("The passage says that Mara Voss was born in Arlen.", True),
        ("I need to find where Mara Voss was born.", True),
        ("Mara Voss was born in Besk.", False),
        ("Mara Voss was not born in Arlen.", False),
        ("Mara Quist was born in Arlen.", False),
        ("Mara Voss was born in 1950.", False),
        ("", False),
        ("Hmm.", False),
        ("search again " * 20, False),
        ("I need Mara Voss. I need Mara Voss. I need Mara Voss. I need Mara Voss.", False),
    ],
)
def test_a_thought_is_good_where_it_is_relevant_and_held_by_what_was_read(thought: str, good: bool) -> None:
    assert (score("thought", question=QUESTION, thought=thought, context=[PASSAGE]) >= 0.5) is good


@pytest.mark.parametrize(
    ("query", "good"),
    [
        ("birthplace of Mara Voss", True),
        ("where was mara voss born", True),
        ("where was she born", False),
        ("birthplace of Mara", False),
        ("birthplace of Mara Quist", False),
        ("birthplace of Tellis Orn", False),
        ("Mara Voss was not born in Arlen", False),
        ("Mara Voss painter", False),
        ("", False),
    ],
)
def test_a_query_is_good_where_it_names_the_entity_of_the_thought_and_is_new(query: str, good: bool) -> None:
    thought = "I need to find where Mara Voss was born."
    fields = {"question": QUESTION, "thought": thought, "query": query, "context": [PASSAGE, "painter Mara Voss"]}
    assert (score("query", **fields) >= 0.5) is good


def test_a_long_query_earns_less_than_a_short_one() -> None:
    fields = {"question": QUESTION, "thought": "I need to find where Mara Voss was born.", "context": []}
    long = "please tell me in which town or village or other place on earth the painter Mara Voss was once born"
    assert score("query", query=long, **fields) == pytest.approx(2 / 3)
    assert score("query", query="birthplace Mara Voss", **fields) == 1.0


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n", "...", "'s", "Of", "not", "12", "\ud800", "A" * 10_000, "no " * 500, "é"]
)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_any_text_has_a_verdict_in_bounds(criterion: str, text: str) -> None:
    [verdict] = RulesJudge().ask([filled(criterion, text)])
    assert 0.0 <= verdict.score <= 1.0


def test_counters_hold_over_threads() -> None:
    judge = RulesJudge()
    threads = [threading.Thread(target=lambda: judge.ask([filled("query", "x")] * 5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (judge.asked, judge.failed, judge.cached, judge.cost) == (40, 0, 0, 0.0)


class Same:
    """Takes all texts for the same, as an encoder does that knows every paraphrase."""

    def cosine(self, a: str, b: str) -> float:
        return 0.9


def test_an_encoder_lifts_a_paraphrase_but_not_another_entity() -> None:
    judge = RulesJudge(RulesSettings(), embeddings=Same())

    def relevance(passage: str) -> float:
        fields = {"question": QUESTION, "query": "Mara Voss career", "passages": [passage]}
        return judge.ask([JudgeRequest(criterion="relevance", fields=fields)])[0].score

    assert relevance("Mara Voss painted for forty years.") == 0.9
    assert relevance("Tellis Orn painted for forty years.") == pytest.approx(0.36)
