"""A trajectory of which a verdict failed must change nothing for the others, as though an outage had ended it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.trajectory import NOT_THE_POLICYS_FAULT, Trajectory, Unit
from rewards.compose import RewardTerm, build_rewards
from rewards.judge.judge import JudgeRequest
from rewards.score import Scores
from tests.rewards.builders import QUESTION, answer, context, group, search
from tests.rewards.builders import trajectory as played
from tests.rewards.fake_judge import FakeJudge
from tests.train.credit_units import estimator, group_for, per_turn, scored
from tests.train.fakes import trajectory, turn, unit_of
from train.composition_config import CompositionConfig
from train.credit import ESTIMATORS, load_estimator
from train.credit.row import Row
from train.judge import Judged, UnitJudge
from train.judge_outage import JudgeGuard
from train.loop import refuse_nothing_to_learn
from train.outage import RolloutFailure
from train.ranks import Ranks
from train.step_metrics import rollout_metrics

NAN = float("nan")
every_estimator = pytest.mark.parametrize("name", sorted(ESTIMATORS))


def failed_at(unit: Unit, scores: dict[str, Scores], name: str, members: Sequence[int]) -> dict[str, Scores]:
    """The same scores, with a failed verdict of one reward for these trajectories: what it said of a turn stays."""
    failed = np.isin(np.arange(len(unit.trajectories)), members)
    outcome = np.where(failed, NAN, scores[name].outcome)
    return {**scores, name: replace(scores[name], outcome=outcome, failed=failed)}


def lost(unit: Unit, members: Sequence[int]) -> Unit:
    """The same unit, in which an outage ended these trajectories."""
    return replace(
        unit,
        trajectories=tuple(
            replace(t, finish_reason="engine_failure") if i in members else t for i, t in enumerate(unit.trajectories)
        ),
    )


def same_rows(rows: Sequence[Row], others: Sequence[Row]) -> None:
    assert [(row.trajectory_id, row.first_token) for row in rows] == [(r.trajectory_id, r.first_token) for r in others]
    for row, other in zip(rows, others, strict=True):
        np.testing.assert_array_equal(row.advantages, other.advantages)
        np.testing.assert_array_equal(row.loss_mask, other.loss_mask)


def test_a_failed_verdict_is_not_worth_0() -> None:
    """Nobody knows of the fourth that it is worse than the others."""
    unit = unit_of([1, 1, 1, 1])
    nuggets = Scores.of_outcome(unit, np.array([1.0, 1.0, 1.0, NAN]), failed=np.array([False, False, False, True]))
    scores = {"em": Scores.of_outcome(unit, np.zeros(4)), "nuggets": nuggets}
    rows = load_estimator("outcome")(unit, scores, {"em": 1.0, "nuggets": 0.5})
    assert {row.trajectory_id: per_turn(row) for row in rows} == {"t0": [0.0], "t1": [0.0], "t2": [0.0]}
    silent = {**scores, "nuggets": replace(nuggets, failed=None)}
    rows = load_estimator("outcome")(unit, silent, {"em": 1.0, "nuggets": 0.5})
    assert len(rows) == 4 and per_turn(rows[3])[0] < -1.4, "what does not apply adds nothing, as in TRL"


@every_estimator
@pytest.mark.parametrize("by", ["em", "steps", "rubric"])
def test_it_leaves_its_group_as_an_outage_does(name: str, by: str) -> None:
    unit = group_for(name, [2, 1, 3, 2])
    scores, weights = scored(unit, [1.0, 0.0, 1.0, 0.0], [[0.5, 0.25], [1.0], [0.0, 0.5, 0.25], [0.75, 0.5]])
    scores["rubric"] = Scores.of_outcome(unit, np.array([0.5, 1.0, 0.25, 0.0]))
    rows = estimator(name)(unit, failed_at(unit, scores, by, [2]), weights)
    same_rows(rows, estimator(name)(lost(unit, [2]), scores, weights))
    assert [row.trajectory_id for row in rows] == ["t0", "t1", "t3"]
    assert estimator(name)(unit, failed_at(unit, scores, by, range(4)), weights) == []


def forked() -> Unit:
    """Two forks of a root that leave it at its second turn, one fork of a fork, and one trajectory beside them."""
    root = trajectory("root", [turn((10,), (6,)), turn((11,), (6,)), turn((12,))])
    near = replace(trajectory("near", [root.turns[0], turn((13,), (6,)), turn((14,))]), parent_id="root", fork_turn=1)
    far = replace(trajectory("far", [*near.turns[:2], turn((15,))]), parent_id="near", fork_turn=2)
    return Unit(kind="branch_tree", trajectories=(root, near, far, trajectory("other", [turn((16,))])))


@pytest.mark.parametrize("name", ["tree", "branch"])
@pytest.mark.parametrize("members", [[0], [1], [2], [0, 1], [0, 1, 2]])
def test_what_others_share_with_it_is_trained_in_their_rows(name: str, members: list[int]) -> None:
    unit = forked()
    scores, weights = scored(unit, [1.0, 0.0, 0.5, 0.25], [[0.5, 0.0, 0.0], [0.5, 1.0, 0.0], [0.5, 1.0, 0.5], [0.0]])
    rows = estimator(name)(unit, failed_at(unit, scores, "em", members), weights)
    same_rows(rows, estimator(name)(lost(unit, members), scores, weights))
    if name == "tree":
        assert rows[0].first_token == 3, "the root's turn, by the first leaf that is left"


def test_in_a_paraphrase_set_the_other_wordings_keep_their_baselines() -> None:
    members = [replace(trajectory(f"t{i}", [turn((4, 5))], group=f"v{i // 3}"), view=i // 3) for i in range(6)]
    unit = Unit(kind="paraphrase_set", trajectories=tuple(members))
    scores, weights = scored(unit, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    whole = estimator("ps_grpo")(unit, scores, weights)
    rows = estimator("ps_grpo")(unit, failed_at(unit, scores, "rubric", [1]), weights)
    same_rows(rows[2:], whole[3:])
    assert [row.trajectory_id for row in rows[:2]] == ["t0", "t2"] and per_turn(rows[0])[0] == -per_turn(rows[1])[0]


def test_a_reward_that_weighs_nothing_takes_nobody_out() -> None:
    unit = unit_of([2, 2])
    scores, weights = scored(unit, [1.0, 0.0], [[0.0, 1.0], [1.0, 1.0]])
    plain = estimator("outcome")(unit, scores, {**weights, "steps": 0.0})
    same_rows(estimator("outcome")(unit, failed_at(unit, scores, "steps", [1]), {**weights, "steps": 0.0}), plain)


def test_but_a_state_is_not_read_off_a_part_of_its_scores() -> None:
    """Both have found one hop, as far as anybody can tell of the second: their turns after it must not be compared."""
    unit = unit_of([2, 2])
    scores, weights = scored(unit, [1.0, 0.0], [[1.0, 0.0], [1.0, NAN]])
    by_state = estimator("state", state="hops_found", progress="steps", episode_weight=0.0)
    rows = by_state(unit, scores, {**weights, "steps": 0.0})
    assert [per_turn(row)[1] != 0.0 for row in rows] == [True, True]
    rows = by_state(unit, failed_at(unit, scores, "steps", [1]), {**weights, "steps": 0.0})
    assert [per_turn(row) for row in rows] == [[0.0, 0.0], [0.0, 0.0]]


def one_fails(request: JudgeRequest) -> float:
    return math.nan if "drums" in request.fields["text"] else 1.0


def episodes(*texts: str) -> list[Trajectory]:
    return [played(search(["a"]), answer(text), sample=i) for i, text in enumerate(texts)]


def judging(judge: FakeJudge, **settings: Any) -> UnitJudge:
    terms = {"exact_match": RewardTerm(), "nuggets": RewardTerm(weight=0.5, params={"judge": judge, **settings})}
    rewards = build_rewards(terms, context())
    guard = JudgeGuard.of(rewards.rewards, CompositionConfig(), patience_s=60)
    return UnitJudge(rewards, load_estimator("outcome"), {"q": QUESTION}, guard=guard)


def test_a_judge_that_fails_for_one_trajectory_costs_that_one_and_is_counted() -> None:
    unit = group(*episodes("a town", "the bay", "a bridge", "drums"))
    judge = judging(FakeJudge(one_fails))
    [judged] = judge.judge_step([unit], 0)
    assert {row.trajectory_id: row.advantages.max() for row in judged.rows} == {"u-0": 0.0, "u-1": 0.0, "u-2": 0.0}
    assert judged.num_failed == 1 and not judged.teaches
    figures = rollout_metrics([unit], [judged.scores], {"q": QUESTION}, weights={"exact_match": 1.0, "nuggets": 0.5})
    assert figures["rewards/nuggets/failed"] == 1.0 and "rewards/exact_match/failed" not in figures
    assert (figures["rewards/nuggets/mean"], figures["rewards/nuggets/group_std"]) == (1.0, 0.0)
    [whole] = judging(FakeJudge(lambda request: 1.0)).judge_step([unit], 0)
    assert "rewards/nuggets/failed" not in rollout_metrics([unit], [whole.scores], {"q": QUESTION})


def test_what_failed_for_everybody_is_counted_too() -> None:
    unit = group(*episodes("drums", "drums and drums"))
    judged = judging(FakeJudge(one_fails)).preview(unit)
    assert judged.rows == [] and judged.num_failed == 2
    figures = rollout_metrics([unit], [judged.scores], {"q": QUESTION})
    assert figures["rewards/nuggets/failed"] == 2.0 and "rewards/nuggets/mean" not in figures


def test_a_part_of_a_trajectorys_scores_is_in_no_figure() -> None:
    unit = unit_of([2, 2])
    steps = Scores.of_turns(unit, [np.array([0.5, 0.5]), np.array([0.5, NAN])], failed=np.array([False, True]))
    figures = rollout_metrics([unit], [{"steps": steps}], {"q": QUESTION})
    assert figures["rewards/steps/mean"] == 1.0 and figures["rewards/steps/failed"] == 1.0


def test_a_step_without_a_row_says_that_verdicts_failed() -> None:
    unit = unit_of([1, 1])
    assert not {t.finish_reason for t in unit.trajectories} & NOT_THE_POLICYS_FAULT
    with pytest.raises(RolloutFailure, match="of 2 of them a judge's verdict failed; see that it answers"):
        refuse_nothing_to_learn([(unit, Judged(scores={}, rows=[], num_failed=2))], Ranks())
