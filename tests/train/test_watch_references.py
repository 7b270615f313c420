"""What the watch compares with, where a run is not like the next one: it begins at its best, its rewards' weights move,
its questions are few, its groups have no spread, or it goes on under another watch."""

import json
from typing import Any

from train.watch import CollapseWatch, reward_of
from train.watch_config import WatchConfig, WatchLimits


def raised(watch: CollapseWatch, lines: list[dict[str, Any]], begin: int = 0) -> list[tuple[int, str]]:
    return [(a.step, a.signal) for step, line in enumerate(lines, begin) for a in watch.observe(step, line)]


def paid(reward: float, **changes: Any) -> dict[str, Any]:
    return {"rewards/hops/weighted_mean": reward, **changes}


def em(value: float, high: float | None = None) -> dict[str, Any]:
    return {"dev/em": value, **({} if high is None else {"dev/em_high": high})}


def test_a_run_that_is_hacked_from_its_first_step_on_is_seen() -> None:
    """Its best EM is that of step 0, before any reward was paid: else the signal could never speak there."""

    def signals(*rewards: float) -> list[tuple[int, str]]:
        lines = [em(0.5), paid(rewards[0]), paid(rewards[1], **em(0.44)), paid(rewards[2], **em(0.43))]
        return raised(CollapseWatch(WatchConfig()), lines)

    assert signals(0.3, 0.5, 0.6) == [(3, "reward_without_em")]
    assert signals(0.3, 0.2, 0.2) == [], "EM alone has lost less than its own limit"


def test_a_weight_that_rises_by_its_schedule_is_no_reward_that_rises() -> None:
    assert reward_of(paid(0.3)) == 0.3
    assert reward_of(paid(0.3, **{"rewards/em/weighted_mean": 0.2})) == 0.5
    assert reward_of(paid(0.3, **{"rewards/em/weighted_mean": 0.2, "rewards/em/schedule": 0.1})) == 0.3
    assert reward_of(paid(0.3, **{"rewards/hops/schedule": 0.1})) is None
    assert reward_of({"em": 0.2}) is None


def test_under_a_gated_product_the_parts_are_not_paid_again() -> None:
    product = {"rewards/gated_product/weighted_mean": 0.1}
    assert reward_of(paid(0.3, **product)) == 0.1
    assert reward_of(paid(0.3, **product, **{"rewards/hops/schedule": 0.5})) is None, "the product moves with its parts"


def test_an_em_that_so_few_questions_cannot_tell_from_the_best_has_not_fallen() -> None:
    few = [em(0.25, 0.40), *[em(0.19, 0.34)] * 6]
    assert raised(CollapseWatch(WatchConfig()), few) == []
    many = [em(0.25, 0.27), *[em(0.19, 0.21)] * 6]
    assert raised(CollapseWatch(WatchConfig()), many) == [(2, "held_out_em_fall")]
    assert raised(CollapseWatch(WatchConfig()), [em(0.2, 0.27), em(0.0, 0.0)]) == [(1, "held_out_em_fall")]


def test_the_first_group_with_a_spread_after_many_without_is_no_exploding_gradient() -> None:
    """A policy that answers nothing yet has the gradient of the KL term alone."""
    watch = CollapseWatch(WatchConfig())
    assert raised(watch, [*[{"grad_norm": 0.0}] * 6, {"grad_norm": 0.3}]) == []
    watch = CollapseWatch(WatchConfig())
    assert raised(watch, [*[{"grad_norm": 2e-5}] * 12, *[{"grad_norm": 0.3}] * 12]) == []
    assert raised(watch, [{"grad_norm": 300.0}], 24) == [(24, "grad_norm_rise")], "and from then on it is watched"


def test_an_em_of_nothing_at_the_start_is_nothing_to_lose() -> None:
    assert raised(CollapseWatch(WatchConfig()), [em(0.0, 0.0), em(0.05, 0.1), em(0.0, 0.0), em(0.0, 0.0)]) == []


def test_an_alarm_of_a_signal_that_was_switched_off_or_renamed_stands_no_more() -> None:
    """Else it would count for ever towards those that end a run."""
    watch = CollapseWatch(WatchConfig())
    assert raised(watch, [{"entropy": 0.1}, {"entropy": 0.9}]) == [(1, "entropy_rise")]
    state = json.loads(json.dumps(watch.state_dict()))
    state["standing"]["of_an_older_version"] = 1
    same, without = CollapseWatch(WatchConfig()), CollapseWatch(WatchConfig(limits=WatchLimits(entropy_rise=None)))
    same.load_state_dict(state)
    without.load_state_dict(state)
    assert same.standing == {"entropy_rise": 1} and without.standing == {}
