"""The watch as a state machine over lines: what raises an alarm, what does not, and that it is saved and replayed."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.config import check_config
from train.config_file import ConfigError
from train.watch import CollapseWatch
from train.watch_config import WatchConfig, WatchLimits
from train.watch_signals import SIGNALS

HEALTHY: dict[str, float] = {
    "logprob/correct": -0.2,
    "logprob/num_correct": 40.0,
    "logprob/mean": -0.4,
    "valid_action": 0.85,
    "thoughts/words": 12.0,
    "thoughts/repetition": 0.02,
    "actions/repetition": 0.05,
    "duplicate_query_rate": 0.1,
    "answer_rate": 0.8,
    "ratio/tail_share": 0.0,
    "update/tail_share": 0.02,
    "entropy": 0.3,
    "grad_norm": 0.2,
    "rewards/exact_match/weighted_mean": 0.4,
}
COLLAPSED: dict[str, dict[str, float]] = {
    "likelihood_fall": {"logprob/correct": -2.0},
    "confidence_fall": {"logprob/mean": -2.0},
    "valid_action_fall": {"valid_action": 0.1},
    "thinking_shrink": {"thoughts/words": 1.0},
    "thinking_growth": {"thoughts/words": 200.0},
    "thought_repetition_rise": {"thoughts/repetition": 0.7},
    "action_repetition_rise": {"actions/repetition": 0.7},
    "duplicate_query_rise": {"duplicate_query_rate": 0.9},
    "answer_rate_fall": {"answer_rate": 0.05},
    "ratio_tail": {"ratio/tail_share": 0.4},
    "update_tail": {"update/tail_share": 0.9},
    "entropy_rise": {"entropy": 4.0},
    "entropy_fall": {"entropy": 1e-5},
    "held_out_em_fall": {"dev/em": 0.1},
    "reward_without_em": {"dev/em": 0.33, "rewards/exact_match/weighted_mean": 0.9},
    "grad_norm_rise": {"grad_norm": 50.0},
}


def noisy(step: int, rng: random.Random, **changes: float) -> dict[str, Any]:
    """A line of a run that learns: 15 % of noise around figures that get better."""
    line = {name: value * rng.uniform(0.85, 1.15) for name, value in HEALTHY.items()}
    if step % 5 == 0:
        line["dev/em"] = min(0.9, 0.4 + 0.01 * step) * rng.uniform(0.95, 1.05)
    return {**line, **changes}


def test_every_limit_has_its_signal() -> None:
    assert list(WatchLimits.model_fields) == [signal.limit for signal in SIGNALS] == list(COLLAPSED)


def test_a_run_that_learns_raises_nothing() -> None:
    for seed in range(20):
        rng, watch = random.Random(seed), CollapseWatch(WatchConfig())
        assert [a for step in range(60) for a in watch.observe(step, noisy(step, rng))] == [], seed
        assert watch.metrics() == {"watch/alarms": 0.0}


@pytest.mark.parametrize("signal", list(COLLAPSED))
def test_each_signal_alone_is_seen_soon_and_told_once(signal: str) -> None:
    rng, watch = random.Random(1), CollapseWatch(WatchConfig())
    for step in range(21):
        assert watch.observe(step, noisy(step, rng)) == []
    raised = [a for step in range(21, 40) for a in watch.observe(step, {**noisy(step, rng), **COLLAPSED[signal]})]
    mine = [alarm for alarm in raised if alarm.signal == signal]
    assert len(mine) == 1, "an alarm that stands is not raised again"
    assert mine[0].step <= 23
    assert watch.metrics()[f"watch/{signal}"] == 1.0
    assert signal in mine[0].message and "nan" not in mine[0].message


def test_one_figure_is_enough_to_warn_and_two_to_stop() -> None:
    watch = CollapseWatch(WatchConfig())
    rng = random.Random(2)
    for step in range(8):
        watch.observe(step, noisy(step, rng))
    assert watch.observe(8, noisy(8, rng, entropy=9.0)) and not watch.says_stop
    assert watch.observe(9, noisy(9, rng, entropy=9.0, answer_rate=0.01)) and watch.says_stop


def test_at_the_limit_it_takes_two_steps_and_far_beyond_it_one() -> None:
    def alarms(*entropies: float) -> list[int]:
        watch = CollapseWatch(WatchConfig())
        lines = [0.1, *entropies]
        return [alarm.step for step, entropy in enumerate(lines) for alarm in watch.observe(step, {"entropy": entropy})]

    assert alarms(0.31, 0.1, 0.31, 0.1) == [], "a step beyond the limit that is not followed by another is noise"
    assert alarms(0.31, 0.32) == [2]
    assert alarms(0.95) == [1]


def test_an_alarm_ends_when_the_signal_is_back_and_may_then_be_raised_again() -> None:
    watch = CollapseWatch(WatchConfig(reference_steps=1))
    steps = [0.1, 0.95, 0.25, 0.95, 0.1, 0.95]
    raised = [a.step for step, entropy in enumerate(steps) for a in watch.observe(step, {"entropy": entropy})]
    assert raised == [1, 5], "0.25 is less than the limit, but not yet calm"


def test_what_is_beyond_its_limit_does_not_move_its_reference() -> None:
    """Else a policy that collapses within the first steps would be compared with its own collapse."""
    watch = CollapseWatch(WatchConfig(reference_steps=5))
    raised = [
        a for step, value in enumerate([0.1, 2.0, 2.0, 2.0, 2.0]) for a in watch.observe(step, {"entropy": value})
    ]
    assert [(a.step, a.reference) for a in raised] == [(1, 0.1)]


def test_a_gradient_that_is_not_finite_counts_and_figures_that_are_missing_do_not() -> None:
    rng, watch = random.Random(3), CollapseWatch(WatchConfig())
    for step in range(6):
        watch.observe(step, noisy(step, rng))
    for absent in ({}, dict.fromkeys(HEALTHY), {"dev/em": None, "grad_norm": 0.2}):
        assert [a for a in watch.observe(6, absent) if a.signal != "grad_norm_rise"] == []
    assert [a.value for a in watch.observe(7, {"grad_norm": float("nan")})] in ([], [None])
    assert "grad_norm_rise" in watch.standing


def test_few_right_answers_and_a_low_em_are_noise() -> None:
    watch = CollapseWatch(WatchConfig())
    few = {"logprob/num_correct": 1.0}
    lines = [{"logprob/correct": -0.1, **few}, {"logprob/correct": -3.0, **few}, {"dev/em": 0.08}, {"dev/em": 0.0}]
    assert [a for step, line in enumerate(lines) for a in watch.observe(step, line)] == []


def test_em_that_falls_while_the_reward_rises_is_told_before_em_alone() -> None:
    def raised(rewards: list[float]) -> list[str]:
        watch, found = CollapseWatch(WatchConfig()), []
        for step, (em, reward) in enumerate(zip([0.5, 0.5, 0.44, 0.43], rewards, strict=True)):
            found += watch.observe(step, {"dev/em": em, "rewards/hops/weighted_mean": reward})
        return [alarm.signal for alarm in found]

    assert raised([0.3, 0.3, 0.5, 0.6]) == ["reward_without_em"]
    assert raised([0.3, 0.3, 0.2, 0.2]) == []


def test_a_limit_of_none_switches_its_signal_off() -> None:
    watch = CollapseWatch(WatchConfig(limits=WatchLimits(entropy_rise=None)))
    assert [a for step, value in enumerate([0.1, 5.0, 5.0]) for a in watch.observe(step, {"entropy": value})] == []


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 29))
def test_saved_and_loaded_at_any_step_it_says_the_same(seed: int, cut: int) -> None:
    """State goes through JSON, as in a checkpoint, and lines too, as in metrics.jsonl: a replay is the run."""
    rng = random.Random(seed)
    collapse = rng.choice(list(COLLAPSED.values()))
    lines = [{**noisy(step, rng), **(collapse if step > 15 else {})} for step in range(30)]
    whole = CollapseWatch(WatchConfig())
    wanted = [alarm for step, line in enumerate(lines) for alarm in whole.observe(step, line)]
    first, second = CollapseWatch(WatchConfig()), CollapseWatch(WatchConfig())
    found = [alarm for step, line in enumerate(lines[:cut]) for alarm in first.observe(step, line)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [
        a for step, line in enumerate(lines[cut:], cut) for a in second.observe(step, json.loads(json.dumps(line)))
    ]
    assert found == wanted
    assert second.state_dict() == whole.state_dict()


def test_a_config_says_what_is_wrong_with_its_watch() -> None:
    base = {
        "policy": {"model": "m"},
        "data": {"index": "i", "train_questions": "q"},
        "rewards": {"exact_match": {"weight": 1.0}},
        "evaluate_every": 0,
    }
    assert check_config(base).watch.action == "warn"
    with pytest.raises(ConfigError, match="action"):
        check_config({**base, "watch": {"action": "halt"}})
    with pytest.raises(ConfigError, match="entropy_rise"):
        check_config({**base, "watch": {"limits": {"entropi_rise": 3.0}}})
