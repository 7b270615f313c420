"""A weight that does not follow its schedule trains something else than the config says."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewards.schedule import Schedule
from rewards.term import RewardTerm


def curve(count: int, **settings: Any) -> list[float]:
    return [Schedule(**settings).factor(step, 10) for step in range(count)]


def test_the_curves() -> None:
    assert curve(6, kind="linear", steps=4) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert curve(4, kind="linear", start=0.0, end=1.0, steps=2) == [0.0, 0.5, 1.0, 1.0]
    assert curve(3, kind="constant", start=0.3) == [0.3, 0.3, 0.3]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert curve(6, kind="cosine", steps=4) == pytest.approx([*cosine, 0.0, 0.0])
    assert curve(4, kind="exponential", end=0.01, steps=2) == pytest.approx([1.0, 0.1, 0.01, 0.01])


def test_a_share_is_of_the_runs_steps() -> None:
    assert curve(7, kind="linear", share=0.5) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    assert curve(10, kind="linear")[-1] == pytest.approx(0.1), "over the whole run the last step still counts"
    with pytest.raises(ValueError, match="needs to know the run's steps; give it `steps`"):
        Schedule(kind="linear", share=0.5).factor(0)


@given(
    kind=st.sampled_from(["linear", "cosine", "exponential"]),
    start=st.floats(0.01, 5),
    end=st.floats(0.01, 5),
    steps=st.integers(1, 50),
    step=st.integers(0, 100),
)
def test_it_goes_from_start_to_end_without_leaving_them_and_stays(
    kind: Any, start: float, end: float, steps: int, step: int
) -> None:
    schedule = Schedule(kind=kind, start=start, end=end, steps=steps)
    assert schedule.factor(0) == pytest.approx(start)
    assert schedule.factor(steps) == schedule.factor(steps + 7) == end
    near, far = schedule.factor(step), schedule.factor(step + 1)
    assert min(start, end) - 1e-9 <= near <= max(start, end) + 1e-9
    assert (far - near) * (end - start) >= -1e-12


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "linear", "share": 0.5, "steps": 3}, "give the length once"),
        ({"kind": "constant", "end": 0.5}, "a constant schedule has a start alone"),
        ({"kind": "exponential"}, "neither reaches nor leaves 0.*give an end such as 0.01, or choose linear"),
        ({"kind": "linear", "share": 0}, "greater than 0"),
        ({"kind": "linear", "share": 1.5}, "less than or equal to 1"),
        ({"kind": "linear", "steps": 0}, "greater than or equal to 1"),
        ({"kind": "linear", "end": -1}, "greater than or equal to 0"),
        ({"kind": "linear", "end": math.inf}, "finite"),
        ({"kind": "sudden"}, "'constant', 'linear', 'cosine' or 'exponential'"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RewardTerm(schedule=settings)


def test_the_weight_of_a_component_is_its_weight_times_the_factor() -> None:
    term = RewardTerm(weight=-0.5, schedule=Schedule(kind="linear", steps=4))
    assert [term.weight_at(step, None) for step in (0, 2, 4)] == [-0.5, -0.25, 0.0]
    assert RewardTerm(weight=2.0).weight_at(99, None) == 2.0
