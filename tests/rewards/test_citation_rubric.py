import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards.judge
from retrieval.passage import Passage
from rewards.answer import normalize_answer
from rewards.citation_rubric import CitationRubricReward
from rewards.judge.judge import JudgeRequest, Verdict
from tests.rewards.builders import PASSAGES, QUESTION, answer, context, group, invalid, search, trajectory

FIRST, SECOND = "Who founded Lomira?", "In which town did Tavo Rinsel grow up?"
STEPS = (search(["a", "x"], FIRST), search(["b", "z"], SECOND))  # numbers: a 1, x 2, b 3, z 4
HONEST = trajectory(*STEPS, answer("Oskel", (1, 3)))


def scores(*trajectories, question=QUESTION, passages=None, **params) -> list[float]:
    reward = CitationRubricReward(context(passages), **params)
    return reward(group(*trajectories), {"q": question}).outcome.tolist()


def score(*turns, **params) -> float:
    return scores(trajectory(*turns), **params)[0]


def test_the_honest_episode_has_every_rubric() -> None:
    assert scores(HONEST) == [1.0]


def test_each_step_takes_its_part() -> None:
    assert score(*STEPS, answer("Oskel", (3,))) == 0.5, "the first hop is not cited"
    assert score(*STEPS, answer("Oskel", (1,))) == 0.0, "nothing that is supported leads from the answer"
    assert score(*STEPS, answer("Oskel")) == 0.0, "nothing is cited"
    assert score(*STEPS, answer("Oskel", (2, 4))) == 0.0, "what is cited supports nothing"
    unnamed = (search(["a", "x"], FIRST), search(["b", "z"], "in which town did that man grow up"))
    assert score(*unnamed, answer("Oskel", (1, 3))) == 0.0, "the founder is never named"
    assert scores(HONEST, identify_in="answer") == [0.0], "the answer alone does not name the founder"


def test_what_was_shown_is_not_what_was_said() -> None:
    """The founder stands in the passages only; a thought that names him identifies him."""
    silent = (search(["a"], FIRST), search(["b"], "town"))
    assert score(*silent, answer("Oskel", (1, 2))) == 0.0
    assert score(*silent, answer("Oskel", (1, 2), thought="Tavo Rinsel grew up there")) == 1.0


def test_a_citation_that_was_never_shown_supports_nothing() -> None:
    assert score(search(["a"], f"{FIRST} Tavo Rinsel"), answer("Oskel", (1, 2, 3))) == 0.0


def test_only_right_answers_are_paid_unless_told_otherwise() -> None:
    wrong = trajectory(*STEPS, answer("the harbour town of Oskel", (1, 3)))
    assert scores(wrong) == [0.0] and scores(wrong, only_if_correct=False) == [1.0]
    elsewhere = trajectory(*STEPS, answer("Lomira", (1, 3)))
    assert scores(elsewhere, only_if_correct=False) == [0.0], "the answer is not named, so nothing is reached"


def test_citations_beyond_the_rubrics_and_the_slack_dilute() -> None:
    stuffed = trajectory(*STEPS, answer("Oskel", tuple(range(1, 9))))
    assert scores(stuffed)[0] == pytest.approx(3 / 8)
    assert scores(stuffed, slack=None) == [1.0] and scores(stuffed, slack=6) == [1.0]
    assert scores(stuffed, slack=None, max_citations=1) == [0.0], "the first alone, which is the first hop's"


def test_normalised_divides_by_the_groups_largest() -> None:
    members = (
        trajectory(*STEPS, answer("Oskel", (3,))),
        trajectory(*STEPS, answer("Oskel", (1, 3, 2, 4)), sample=1),
        trajectory(*STEPS, answer("Oskel"), sample=2),
        trajectory(*STEPS, finish="retrieval_outage", sample=3),
    )
    raw = np.array([0.5, 0.75, 0.0, np.nan])
    np.testing.assert_allclose(scores(*members), raw)
    np.testing.assert_allclose(scores(*members, normalise=True), raw / 0.75)
    assert scores(members[2], normalise=True) == [0.0], "a largest of 0 divides nothing"
    other = replace(members[0], group_id="another", id="o")
    assert scores(members[1], other, normalise=True) == [1.0, 1.0], "each group has its own largest"


def test_another_passage_supports_by_both_names_or_by_the_words_of_the_gold_sentence() -> None:
    copy = Passage(id="c2", title="Oskel people", text="Among them Tavo Rinsel, who left.")
    said = (search(["a"], FIRST), search(["c2"], SECOND), answer("Oskel", (1, 2)))
    passages = PASSAGES | {"c2": copy}
    assert score(*said, passages=passages) == 1.0
    swapped = replace(copy, text="Among them Ilsa Marn, who left.")
    assert score(*said, passages=passages | {"c2": swapped}) == 0.0
    one_sided = replace(
        QUESTION, hops=(replace(QUESTION.hops[1], question="Where is the town?", triple=None, depends_on=()),)
    )
    near = Passage(id="c2", title="", text="Rinsel grew up in the harbour of Oskel, a town.")
    far = Passage(id="c2", title="", text="Oskel has many taverns and a famous brewery.")
    assert score(*said, passages=passages | {"c2": near}, question=one_sided) == 1.0
    assert score(*said, passages=passages | {"c2": far}, question=one_sided) == 0.0


def brute_force(passages: dict[str, set[str]], said: set[str], cited: Sequence[str], hops: int) -> float:
    """A chain n0 -> n1 -> ... to the answer by hand: which links are named and cited, from the end backwards."""
    count = 0
    for link in range(hops, 0, -1):
        ends = {f"n{link - 1}", f"n{link}"}
        named = all(e in said for e in ends - {"n0"})
        if not named or not any(ends <= passages[p] for p in cited):
            break
        count += 1
    return count / hops


@given(st.data())
def test_chains_equal_a_walk_from_the_answer_backwards(data: st.DataObject) -> None:
    hops = data.draw(st.integers(1, 4))
    names = [f"n{i}" for i in range(hops + 1)]
    chain = tuple(
        replace(
            QUESTION.hops[0],
            question=f"link {i}",
            answers=(names[i + 1],),
            supporting_id=None,
            depends_on=(i - 1,) if i else (),
            triple=(names[i], "to", names[i + 1]),
        )
        for i in range(hops)
    )
    question = replace(QUESTION, hops=chain, golden_answers=(names[-1],))
    texts = data.draw(st.lists(st.sets(st.sampled_from(names)), min_size=1, max_size=4))
    passages = {f"p{i}": Passage(id=f"p{i}", title="", text=" ".join(sorted(t))) for i, t in enumerate(texts)}
    said = data.draw(st.sets(st.sampled_from(names))) | {names[-1]}
    cited = data.draw(st.lists(st.sampled_from(range(len(texts))), unique=True))
    t = trajectory(search(list(passages), " ".join(sorted(said))), answer(names[-1], [i + 1 for i in cited]))
    reward = CitationRubricReward(context(passages), slack=None)
    got = reward(group(t), {"q": question}).outcome[0]
    want = brute_force(
        {p: set(normalize_answer(v.text).split()) for p, v in passages.items()}, said, [f"p{i}" for i in cited], hops
    )
    assert got == pytest.approx(want)


CHEATS = [
    pytest.param((*STEPS, answer("Oskel", tuple(range(1, 9)))), id="citation stuffing"),
    pytest.param((answer("Oskel", (1, 2, 3), thought=SECOND),), id="citing without reading"),
    pytest.param((*STEPS, answer(PASSAGES["b"].text, (1, 3))), id="copying a passage"),
    pytest.param(
        (*STEPS, answer("Oskel", thought="Tavo Rinsel of Lomira in Oskel")), id="naming everything, citing nothing"
    ),
    pytest.param((*STEPS, answer("Oskel", (5, 6))), id="inventing numbers"),
    pytest.param((search(["a", "x"], QUESTION.text), answer("Oskel", (1, 2))), id="copying the question"),
    pytest.param((invalid(), answer("Oskel", (1, 2))), id="a forged observation"),
    pytest.param((*STEPS, search(["c"]), search(["x"])), id="never answering"),
]


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_earn_less(cheat) -> None:
    assert score(*cheat) < scores(HONEST)[0] - 0.1


class PickyJudge:
    """Supports what names Lomira, fails on request, and remembers what it was asked."""

    name = "picky"

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.batches = fails, []

    def ask(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        self.batches.append(list(requests))
        return [Verdict(score=float("nan") if self.fails else float("Oskel" in r.fields["claim"])) for r in requests]


def test_a_judge_says_what_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = PickyJudge()
    monkeypatch.setattr(rewards.judge, "open_judge", lambda spec: judge)
    members = (HONEST, trajectory(*STEPS, answer("Oskel"), sample=1))
    assert scores(*members, judge="picky") == [0.5, 0.0]
    (asked,) = judge.batches
    assert [r.fields["claim"] for r in asked] == ["Lomira founder Tavo Rinsel", "Tavo Rinsel grew up in Oskel"]
    assert asked[0].fields["passages"] == [PASSAGES["a"].contents, PASSAGES["b"].contents]


def test_a_judge_that_fails_leaves_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards.judge, "open_judge", lambda spec: PickyJudge(fails=True))
    members = (HONEST, trajectory(*STEPS, answer("Oskel"), sample=1))
    np.testing.assert_array_equal(scores(*members, judge="picky"), [np.nan, 0.0])


def test_rubrics_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rubrics.jsonl"
    row = {"id": "q", "entities": {"E1": ["Tavo Rinsel"]}}
    row["rubrics"] = [{"text": "<E1> founded Lomira", "mentions": ["Lomira"]}, "<E1> grew up in <E0>"]
    path.write_text(json.dumps(row), encoding="utf-8")
    bare = replace(QUESTION, hops=(), supporting_ids=())
    assert scores(HONEST, question=bare, file=str(path)) == [1.0]
    assert CitationRubricReward(context(), file=path).needs == {"golden_answers"}
    path.write_text(json.dumps(row | {"id": "another"}), encoding="utf-8")
    assert np.isnan(scores(HONEST, question=bare, file=path)).all(), "the file does not have the question"


def test_what_does_not_apply_is_not_scored() -> None:
    assert np.isnan(scores(HONEST, question=replace(QUESTION, hops=()))).all()
    nameless = replace(QUESTION, hops=tuple(replace(hop, answers=()) for hop in QUESTION.hops))
    assert np.isnan(scores(HONEST, question=nameless)).all()
    assert np.isnan(scores(trajectory(*STEPS, finish="cut"))).all()
    assert scores(trajectory(finish="token_limit")) == [0.0]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("identify_in must be one of ('answer', 'episode'), got 'all'")):
        CitationRubricReward(context(), identify_in="all")
    with pytest.raises(ValueError, match="normalise must be true or false, got 'max'"):
        CitationRubricReward(context(), normalise="max")
    with pytest.raises(ValueError, match="max_citations must be a whole number >= 1, got 0"):
        CitationRubricReward(context(), max_citations=0)
    with pytest.raises(ValueError, match="cites passage 'a', which the reward's corpus does not have"):
        scores(HONEST, passages={"x": PASSAGES["x"]})
