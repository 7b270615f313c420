"""How far rollouts run ahead: bounds that hold in any order of completion, and what a resume goes on with."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.admission import Admission, AdmissionState


def test_without_staleness_every_step_takes_its_own_units_in_order():
    admission = Admission(units_per_step=3, max_staleness=0)
    assert admission.admit(0) == [0, 1, 2]
    assert admission.admit(0) == []
    for number in (2, 0):
        admission.finish(number)
    assert admission.take(0) is None
    admission.finish(1)
    assert admission.take(0) == [0, 1, 2]
    assert admission.admit(1) == [3, 4, 5]


def test_one_version_ahead_a_long_unit_does_not_hold_back_the_first_batch_but_the_second():
    admission = Admission(units_per_step=2, max_staleness=1)
    assert admission.admit(0) == [0, 1, 2, 3]
    admission.finish(1)
    admission.finish(3)
    assert admission.take(0) == [1, 3]
    assert admission.admit(1) == [4, 5]
    admission.finish(4)
    admission.finish(5)
    assert admission.due(1) == [0, 2]
    assert admission.take(1) is None, "units of version 0 would be two versions old at step 2"
    admission.finish(0)
    admission.finish(2)
    assert admission.take(1) == [0, 2]
    assert admission.admit(2) == [6, 7]
    assert admission.take(2) == [4, 5]


def test_a_rejected_unit_lets_another_one_start():
    admission = Admission(units_per_step=2, max_staleness=0)
    admission.admit(0)
    admission.finish(0)
    admission.reject(0)
    assert admission.admit(0) == [2]
    for number in (1, 2):
        admission.finish(number)
    assert admission.take(0) == [1, 2]
    assert admission.state == AdmissionState(settled=3, beyond=(), rejected=1)
    assert admission.admit(1) == [3, 4]


def test_a_unit_that_an_outage_spoiled_starts_again_and_no_other_in_its_place():
    admission = Admission(units_per_step=2, max_staleness=1)
    assert admission.admit(0) == [0, 1, 2, 3]
    admission.finish(1)
    admission.finish(2)
    admission.put_back(1)
    assert admission.waiting == (0, 2, 3) and admission.state == AdmissionState(put_back=1)
    assert admission.admit(0) == [1] and admission.admit(0) == []
    admission.finish(1)
    assert admission.choose(0) == [1, 2] == admission.take(0), "choosing books nothing"


def test_a_unit_cannot_complete_twice_or_before_it_started():
    admission = Admission(units_per_step=1, max_staleness=0)
    with pytest.raises(ValueError, match="has not started"):
        admission.finish(0)
    admission.admit(0)
    admission.finish(0)
    admission.take(0)
    with pytest.raises(ValueError, match="was taken before"):
        admission.finish(0)


@pytest.mark.parametrize(("units", "staleness"), [(0, 0), (1, -1)])
def test_bounds_are_checked(units: int, staleness: int):
    with pytest.raises(ValueError, match="at least one unit"):
        Admission(units_per_step=units, max_staleness=staleness)


@settings(max_examples=200, deadline=None)
@given(
    per_step=st.integers(1, 4),
    staleness=st.integers(0, 3),
    data=st.data(),
    steps=st.integers(1, 8),
)
def test_in_any_order_of_completion_with_kills_every_unit_is_taken_once_and_in_time(
    per_step: int, staleness: int, data: st.DataObject, steps: int
):
    admission = Admission(units_per_step=per_step, max_staleness=staleness)
    taken: list[int] = []
    rejected: list[int] = []
    began: dict[int, int] = {}
    running: list[int] = []
    outages = 0
    for step in range(steps):
        if data.draw(st.integers(0, 5)) == 0:
            admission = Admission(units_per_step=per_step, max_staleness=staleness, state=admission.state)
            running = []
        while True:
            for number in admission.admit(step):
                assert number not in taken and number not in rejected and number not in running
                began[number] = step
                running.append(number)
            batch = admission.take(step)
            if batch is not None:
                break
            assert running, "the step waits, but nothing runs that could end the wait"
            number = running.pop(data.draw(st.integers(0, len(running) - 1)))
            admission.finish(number)
            if data.draw(st.integers(0, 9)) == 0 and len(rejected) < 5:
                admission.reject(number)
                rejected.append(number)
            elif data.draw(st.integers(0, 4)) == 0 and outages < 8:
                admission.put_back(number)
                outages += 1
        assert len(batch) == per_step
        assert all(step - began[number] <= staleness for number in batch)
        if staleness == 0 and not rejected:
            assert batch == list(range(step * per_step, (step + 1) * per_step))
        taken.extend(batch)
    assert len(set(taken)) == len(taken) == steps * per_step
    assert not set(taken) & set(rejected)
