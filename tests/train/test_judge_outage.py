"""A judge that fails must cost time and not a step: what is left of the rewards then says little."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from agent.trajectory import Unit
from envs.question import Question
from rewards.compose import RewardTerm, build_rewards
from rewards.reward import RewardContext
from rewards.score import Scores
from tests.train.fakes import trajectory, turn
from train.composition_config import CompositionConfig
from train.credit import load_estimator
from train.judge import UnitJudge
from train.judge_outage import JudgeGuard, JudgeReading, judges_of, read_judges
from train.outage import RolloutFailure

QUESTIONS = {"q": Question(id="q", text="q", golden_answers=("a",))}


class FlakyJudge:
    """Fails the first so many requests, and counts as judges do."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.asked, self.failed, self.cached, self.cost = failures, 0, 0, 0, 0.0

    def ask(self, count: int) -> int:
        """The number of requests, of `count`, that failed."""
        failed = min(count, self.failures)
        self.failures -= failed
        self.asked, self.failed, self.cost = self.asked + count, self.failed + failed, self.cost + 0.5 * count
        return failed


class Judged:
    """Asks `requests` times a unit, is NaN where one fails, and remembers how many units it has scored."""

    name, needs = "judged", frozenset()

    def __init__(self, context: Any, requests: int = 10) -> None:
        self.judge, self.requests, self.scored = FlakyJudge(), requests, 0

    def __call__(self, unit: Unit, questions: Mapping[str, Any]) -> Scores:
        self.scored += 1
        failed = np.full(len(unit.trajectories), self.judge.ask(self.requests) > 0)
        values = np.array([float(t.turns[0].action_ids[0]) for t in unit.trajectories])
        return Scores.of_outcome(unit, np.where(failed, np.nan, values), failed=failed)

    def state_dict(self) -> dict[str, Any]:
        return {"scored": self.scored}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scored = state["scored"]


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.time, self.slept = 100.0, []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def unit(number: int) -> Unit:
    members = [trajectory(f"{number}-{i}", [turn((i + 2, 5), (6,))], group=f"u{number}") for i in range(2)]
    return Unit(kind="group", trajectories=tuple(members))


def judging(failures: int, **settings: Any) -> tuple[UnitJudge, Judged, JudgeGuard, Clock, list[str]]:
    terms = {"judged": RewardTerm(use=f"{__name__}:Judged")}
    rewards = build_rewards(terms, RewardContext(passage=lambda id: None, corpus=lambda: None))
    reward: Any = rewards.rewards["judged"]
    reward.judge.failures = failures
    clock, told = Clock(), []
    guard = JudgeGuard(judges_of(rewards.rewards), tell=told.append, sleep=clock.sleep, now=clock.now, **settings)
    return UnitJudge(rewards, load_estimator("outcome"), QUESTIONS, guard=guard), reward, guard, clock, told


def test_a_step_is_scored_again_until_the_judge_answers() -> None:
    judge, reward, guard, clock, told = judging(failures=50)
    judged = judge.judge_step([unit(0), unit(1), unit(2)], 7)
    assert all(not np.isnan(one.scores["judged"].outcome).any() and len(one.rows) == 2 for one in judged)
    assert clock.slept == [2.0, 4.0] and guard.pauses == 1
    assert told[0].startswith("paused: 30 of the newest 30 requests to the judge failed; step 7 is not learnt from")
    assert told[1:] == ["goes on after 6 s: the judge answers again"]
    assert reward.scored == 3, "a reward's state is that of a run whose judge never failed"


def test_few_failures_are_nan_and_cost_no_time() -> None:
    judge, _, guard, clock, told = judging(failures=2)
    judged = judge.judge_step([unit(number) for number in range(3)], 0)
    assert np.isnan(judged[0].scores["judged"].outcome).all() and judged[0].rows == []
    assert guard.failed_share == pytest.approx(2 / 30)
    assert not clock.slept and not told


def test_a_step_of_which_failures_leave_nothing_is_scored_again_however_few_they_are() -> None:
    judge, reward, guard, clock, told = judging(failures=2)
    reward.requests = 1
    assert judge.teaches(unit(0)), "with a verdict it might"
    [judged] = judge.judge_step([unit(0)], 4)
    assert len(judged.rows) == 2 and judged.num_failed == 0
    assert clock.slept == [2.0] and not guard.is_failing
    assert told[0].startswith("paused: 2 of the newest 2 requests to the judge failed; step 4 is not learnt from")
    assert told[1:] == ["goes on after 2 s: the judge answers again"]


def test_a_step_that_failures_leave_empty_for_ever_ends_the_run_in_words() -> None:
    judge, reward, _, _, _ = judging(failures=0, patience_s=1)
    ask = reward.judge.ask

    def one_fails(count: int) -> int:
        reward.judge.failures = 1
        return ask(count)

    reward.judge.ask = one_fails
    with pytest.raises(RolloutFailure, match=r"step 3: 1 of the newest 10 .* \(10%, which left nothing\), for 1 s"):
        judge.judge_step([unit(0)], 3)


def test_after_patience_the_run_ends_with_what_to_do() -> None:
    judge, _, _, clock, _ = judging(failures=10**9, patience_s=600)
    with pytest.raises(RolloutFailure, match=r"step 3: 20 of .* 20 .*failed \(100%, above .*20%\).*--resume"):
        judge.judge_step([unit(0), unit(1)], 3)
    assert clock.slept[:6] == [2, 4, 8, 16, 32, 64] and max(clock.slept) == 64
    assert sum(clock.slept) == pytest.approx(600), "all of the patience, and no more"


def test_the_run_ends_with_the_reason_of_the_newest_failure_in_short() -> None:
    judge, reward, _, _, told = judging(failures=10**9, patience_s=1)
    reward.judge.last_failure = "HTTP 500:\n" + "x" * 300
    with pytest.raises(RolloutFailure, match=r"for 1 s; the newest because: HTTP 500: x{190} …: .*ablate: the same"):
        judge.judge_step([unit(0)], 3)
    assert "the newest because: HTTP 500: xxx" in told[0]


def test_a_failure_of_long_ago_is_not_the_reason_of_another_judge() -> None:
    old, new = FlakyJudge(failures=1), FlakyJudge(failures=99)
    old.last_failure, new.last_failure = "no JSON", "a time-out"  # type: ignore[attr-defined]
    clock = Clock()
    guard = JudgeGuard([old, new], patience_s=1, sleep=clock.sleep, now=clock.now)
    old.ask(1)
    guard.look()
    new.ask(20)
    guard.look()
    guard.wait(0)
    with pytest.raises(RolloutFailure, match="the newest because: a time-out"):
        guard.wait(0)


def test_the_share_is_of_the_newest_requests() -> None:
    judge = FlakyJudge()
    guard = JudgeGuard([judge], window=40, max_share=0.2)
    for _ in range(10):
        judge.ask(20)
        guard.look()
    judge.failures = 12
    judge.ask(20)
    guard.look()
    assert guard.failed_share == pytest.approx(12 / 40) and guard.is_failing
    for _ in range(2):
        judge.ask(20)
        guard.look()
    assert guard.failed_share == 0.0, "what lies further back is forgotten"


def test_so_few_requests_say_nothing() -> None:
    judge = FlakyJudge(failures=9)
    guard = JudgeGuard([judge])
    assert guard.failed_share == 0.0 and not guard.is_failing
    judge.ask(9)
    guard.look()
    assert guard.failed_share == 1.0 and not guard.is_failing
    judge.ask(1)
    guard.look()
    assert guard.is_failing


def test_a_group_is_not_refused_for_lack_of_spread_while_the_judge_fails() -> None:
    judge, reward, _, _, _ = judging(failures=10)
    assert judge.teaches(unit(0)), "its NaNs say nothing of its question"
    assert reward.scored == 1
    judged = judge.judge(unit(0))
    assert reward.scored == 2 and len(judged.rows) == 2, "it is scored again by the step that takes it"


def test_what_was_scored_ahead_and_well_is_not_asked_again_after_a_pause() -> None:
    judge, reward, _, _, _ = judging(failures=0)
    assert judge.teaches(unit(0))
    reward.judge.failures = 10
    judge.judge_step([unit(0), unit(1)], 0)
    assert reward.judge.asked == 30, "ten each, and the second unit's once more"


def test_readings_are_of_what_came_since_the_last() -> None:
    judge, _, _, _, _ = judging(failures=1)
    judge.judge_step([unit(0), unit(1)], 0)
    assert judge.take_reading() == JudgeReading(asked=20, failed=1, cached=0, cost=10.0)
    assert judge.take_reading() == JudgeReading()
    assert JudgeReading(asked=3, cost=0.5).metrics() == {
        "judge/asked": 3, "judge/failed": 0, "judge/cached": 0, "judge/cost": 0.5,
    }  # fmt: skip


def test_judges_are_found_once_and_without_any_there_is_no_guard() -> None:
    one, other = Judged(None), Judged(None)
    other.judge = one.judge
    one.judge.ask(3)
    assert judges_of({"one": one, "other": other}) == [one.judge]
    assert read_judges([one.judge, FlakyJudge()]).asked == 3
    one.judge = other.judge = None  # type: ignore[assignment]
    assert JudgeGuard.of({"one": one, "other": other}, CompositionConfig(), patience_s=1.0) is None


@pytest.mark.parametrize("settings", [{"max_share": 1.0}, {"max_share": -0.1}, {"window": 0}, {"patience_s": 0}])
def test_a_guard_that_makes_no_sense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"share of the requests|more than 0"):
        JudgeGuard([FlakyJudge()], **settings)  # type: ignore[arg-type]


def test_a_preview_of_a_unit_leaves_no_trace_in_the_rewards() -> None:
    judge, reward, _, _, _ = judging(failures=0)
    shown = judge.preview(unit(0))
    assert len(shown.rows) == 2 and judge.preview(unit(0), credit=False).rows == []
    assert reward.scored == 0 and reward.judge.asked == 20, "its requests were made and are counted"
