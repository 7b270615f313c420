"""A verdict that failed must leave its trajectory marked all the way to credit: taken for a 0, or for what does not
apply, it would pay or cost what nobody has judged."""

import math
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Trajectory, Unit
from rewards.adapters import to_trl
from rewards.combine import GATED_PRODUCT, GatedProduct
from rewards.compose import Composition, RewardTerm, build_rewards
from rewards.judge.judge import JudgeRequest
from rewards.registry import REWARDS
from rewards.score import Scores
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory
from tests.rewards.fake_judge import FakeJudge

ASKED = {"q": QUESTION}
JUDGED: dict[str, dict[str, Any]] = {
    "judgement": {"label": "answer"},
    "reflection": {},
    "document_relevance": {},
    "nuggets": {},
    "principles": {},
    "step_quality": {},
    "judged_answer": {},
    "citation_rubric": {"only_if_correct": False},
    "query_quality": {},
}
"""Every reward that takes a judge, with what it needs to ask about the episodes below."""
PLACES = [("query_quality", {"placed": "turns"}), ("query_quality", {"placed": "good"})]


def fails_of_drums(request: JudgeRequest) -> float:
    return math.nan if "drum" in str(request.fields).lower() else 0.9


def episode(sample: int, about: str, passage: str) -> Trajectory:
    """Asks, thinks and answers about something, and cites what it read."""
    said = f"Tavo Rinsel founded Lomira, {about}"
    turns = (
        search([passage], f"query {about}", thought=said, goal=about),
        answer(f"Oskel of {about}", (1,), thought=said, judgement=True, reflection=True),
    )
    return trajectory(*turns, sample=sample)


def outage(sample: int) -> Trajectory:
    return trajectory(search(["x"], "drums", goal="drums"), finish="engine_failure", sample=sample)


UNIT = group(episode(0, "town", "a"), episode(1, "drums", "x"), outage(2), episode(3, "harbour", "b"))


def test_every_reward_with_a_judge_is_here() -> None:
    def takes_a_judge(name: str) -> bool:
        try:
            REWARDS[name](context(), judge="rules")
        except TypeError:
            return False
        except ValueError:  # it takes one with other parameters alone
            return True
        return True

    assert {name for name in REWARDS if takes_a_judge(name)} == set(JUDGED)


@pytest.mark.parametrize(("name", "params"), [*JUDGED.items(), *PLACES])
def test_the_trajectory_of_a_failed_verdict_is_marked_and_no_other(name: str, params: dict[str, Any]) -> None:
    judge = FakeJudge(fails_of_drums)
    scores = REWARDS[name](context(), judge=judge, **params)(UNIT, ASKED)
    assert judge.asked and scores.has_failed.tolist() == [False, True, False, False]
    assert np.isnan([*scores.turn[1], scores.outcome[1]]).any()
    answering = REWARDS[name](context(), judge=FakeJudge(lambda r: 0.9), **params)(UNIT, ASKED)
    assert not answering.has_failed.any()


def test_a_reflection_is_a_mean_over_the_verdicts_that_are_there() -> None:
    turns = (search(["x"], goal="drums"), search(["a"], goal="town"), answer("Oskel", reflection=True))
    some = REWARDS["reflection"](context(), judge=FakeJudge(fails_of_drums))(group(trajectory(*turns)), ASKED)
    assert some.outcome.tolist() == [1.0] and not some.has_failed.any()
    silent = REWARDS["reflection"](context(), judge=FakeJudge(fails_of_drums))(
        group(trajectory(search(["x"], goal="drums"), answer("Oskel"))), ASKED
    )
    assert np.isnan(silent.outcome).all() and not silent.has_failed.any(), "it reflects on nothing, which is no failure"


def test_a_rubric_is_0_where_the_answer_is_not_named_whatever_the_judge_would_say() -> None:
    first = search(["a"], "who founded Lomira", thought="Tavo Rinsel founded Lomira")
    unit = group(trajectory(first, answer("Quillon Bay", (1,))), trajectory(first, answer("in Oskel", (1,)), sample=1))
    reward = REWARDS["citation_rubric"](context(), judge=FakeJudge(lambda r: math.nan), only_if_correct=False)
    scores = reward(unit, ASKED)
    np.testing.assert_array_equal(scores.outcome, [0.0, np.nan])
    assert scores.has_failed.tolist() == [False, True]


def composed(judged: dict[str, Any] | None = None, **terms: dict[str, Any]) -> Composition:
    made = {"nuggets": {"params": {"judge": FakeJudge(fails_of_drums)}, **(judged or {})}, **terms}
    rule = GatedProduct(bottom_line=("format", "nuggets")) if "format" in terms else None
    return build_rewards({name: RewardTerm(**term) for name, term in made.items()}, context(), rule=rule)


def test_a_failure_goes_through_a_gate_and_counts_as_no_missing_annotation() -> None:
    composition = composed({"gate": "answered"}, exact_match={})
    scores = composition.score(UNIT, ASKED)
    assert scores["nuggets"].has_failed.tolist() == [False, True, False, False]
    assert not scores["exact_match"].has_failed.any()
    assert composition.missing == {"nuggets": 0, "exact_match": 0}


class Careless:
    """A reward of a user's own that marks everything, outages too."""

    name, needs = "careless", frozenset()

    def __init__(self, context: Any) -> None: ...

    def __call__(self, unit: Unit, questions: Any) -> Scores:
        num = len(unit.trajectories)
        return Scores.of_outcome(unit, np.full(num, np.nan), failed=np.ones(num, dtype=bool))


def test_what_an_outage_ended_has_no_verdict_that_could_fail() -> None:
    composition = composed(mine={"use": f"{__name__}:Careless"})
    assert composition.score(UNIT, ASKED)["mine"].has_failed.tolist() == [True, True, False, True]


def test_a_product_of_which_a_part_failed_is_not_paid_for_the_failure() -> None:
    """Left out of the geometric mean, a failed bottom line would be as good as one that is kept."""
    scores = composed(format={}, f1={}).score(UNIT, ASKED)
    product = scores[GATED_PRODUCT]
    assert product.has_failed.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(np.isnan(product.outcome), [False, True, True, False])
    parts = {name: scores[name] for name in ("format", "f1", "nuggets")}
    rule = GatedProduct(bottom_line=("format",))
    as_utility = rule.combined(parts, {"format": 1.0, "f1": 1.0, "nuggets": 0.5})
    assert as_utility.has_failed.tolist() == [False, True, False, False] and np.isnan(as_utility.outcome[1])
    assert not rule.combined(parts, {"format": 1.0, "f1": 1.0, "nuggets": 0.0}).has_failed.any(), "it is no part of it"


def test_a_trl_trainer_gets_none_and_not_the_sum_of_what_is_left() -> None:
    reward = REWARDS["document_relevance"](context(), judge=FakeJudge(fails_of_drums))
    turns = (search(["a"], "town"), search(["x"], "drums"), answer("Oskel"))
    function = to_trl(reward, questions=ASKED)
    paid = function([""], [""], trajectory=[trajectory(*turns[::2])])
    assert paid[0] is not None and function([""], [""], trajectory=[trajectory(*turns)]) == [None]


@pytest.mark.parametrize("failed", [np.zeros(2, dtype=bool), np.zeros(4), [False] * 3])
def test_marks_of_another_shape_or_type_are_refused(failed: Any) -> None:
    with pytest.raises(ValueError, match="it must tell of each of 4 trajectories"):
        Scores.of_outcome(UNIT, np.zeros(4), failed=failed)
