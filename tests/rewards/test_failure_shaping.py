"""SubSearch's schedule and gate, against the numbers that its code's rules give by hand."""

import json
import math

import pytest

from rewards.failure_shaping import FailureShaping, gated_beta, scheduled_beta

PLAIN = {"beta": 0.2, "floor": 0.02, "warmup_steps": 200, "decay_steps": 2000}


def test_the_schedule_bends_at_the_warm_up_and_ends_at_the_floor() -> None:
    at = {step: scheduled_beta(step, **PLAIN) for step in (0, 50, 100, 200, 1200, 2200, 9000)}
    assert at[0] == 0.2 and at[200] == pytest.approx(0.15) and at[2200] == at[9000] == 0.02
    assert at[50] == pytest.approx(0.2 - 0.05 / 8)  # (1/4) ** 1.5
    assert at[100] == pytest.approx(0.2 - 0.05 * 0.5 * math.sqrt(0.5))
    assert at[1200] == pytest.approx((0.15 + 0.02) / 2)
    values = [scheduled_beta(step, **PLAIN) for step in range(2300)]
    assert values == sorted(values, reverse=True)


def test_a_floor_above_beta_leaves_beta() -> None:
    assert {scheduled_beta(step, beta=0.01, floor=0.02, warmup_steps=2, decay_steps=5) for step in range(10)} == {0.01}


GATE = {"target_em": 0.65, "low": 0.02, "high": 0.2, "max_step": 0.01}


def test_the_gate_raises_a_flat_low_em_lowers_a_rising_high_one_and_leaves_the_rest() -> None:
    assert gated_beta(0.15, ema=0.55, slope=0.0, **GATE) == pytest.approx(0.15 + 0.2 * 0.10 * 0.05)
    assert gated_beta(0.15, ema=0.85, slope=0.01, **GATE) == pytest.approx(0.15 - 0.2 * 0.20 * 0.13)
    assert gated_beta(0.05, ema=0.0, slope=0.0, **GATE) == pytest.approx(0.06)  # 0.0195, held to the largest step
    assert gated_beta(0.15, ema=0.55, slope=0.01, **GATE) == 0.15  # low, but rising: wait
    assert gated_beta(0.15, ema=0.85, slope=0.0, **GATE) == 0.15  # high, but flat
    assert gated_beta(0.15, ema=None, slope=0.0, **GATE) == 0.15


def test_the_moving_average_takes_one_value_a_step() -> None:
    shaping = FailureShaping("r", {"units_per_step": 2, "ema_decay": 0.5, "gated": False})
    shaping.observe([1.0, 0.0])
    assert shaping.ema is None and shaping.step == 0
    shaping.observe([1.0, 1.0])
    assert shaping.ema == 0.75 and shaping.step == 1
    shaping.observe([])
    shaping.observe([])
    assert shaping.ema == 0.75 and shaping.step == 2  # outages alone move the step, not the average
    shaping.observe([0.0])
    shaping.observe([])
    assert shaping.ema == 0.375


def test_the_weight_holds_within_a_step_and_the_state_restores_it() -> None:
    settings = {"units_per_step": 3, "warmup_steps": 4, "decay_steps": 6}
    shaping = FailureShaping("r", settings)
    seen = []
    for unit in range(40):
        seen.append(shaping.beta)
        shaping.observe([float(unit % 3 == 0)])
        copy = FailureShaping("r", settings)
        copy.load_state_dict(json.loads(json.dumps(shaping.state_dict())))
        assert copy.beta == shaping.beta and copy.ema == shaping.ema
        copy.observe([1.0])
        assert copy.step >= shaping.step
    assert len({tuple(seen[i : i + 3]) for i in range(0, 39, 3)}) > 5
    assert all(len(set(seen[i : i + 3])) == 1 for i in range(0, 39, 3))
    assert all(0.02 <= beta <= 0.2 for beta in seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 2.0}, "reward r: beta must be at most 1"),
        ({"beta": float("nan")}, "reward r: beta must be a finite number"),
        ({"units_per_step": 0}, "reward r: units_per_step must be a finite number >= 1"),
        ({"decay_steps": 1.5}, "reward r: decay_steps must be a whole number"),
        ({"gated": "yes"}, "reward r: gated must be true or false"),
        ({"bta": 0.2}, r"reward r: the schedule has no \['bta'\]; it has"),
    ],
)
def test_settings_are_checked(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        FailureShaping("r", settings)
