"""The audit finds each kind of damage, and a ledger survives a kill in the middle of a line."""

from pathlib import Path

import pytest

from train.ledger import Ledger, audit, read_ledger


def _write(path: Path, *, steps: int = 2, samples: int = 2, without: tuple[str, str] | None = None) -> None:
    ledger = Ledger(path)
    for step in range(steps):
        unit = f"u{step}"
        trajectories = [f"{unit}-{sample}" for sample in range(samples)]
        ledger.write("started", unit=unit, version=step, trajectories=trajectories)
        for trajectory in trajectories:
            if without != ("accepted", trajectory):
                ledger.write("accepted", unit=unit, trajectory=trajectory)
        if without != ("taken", unit):
            ledger.write("taken", unit=unit, step=step)
    ledger.close()


def _problems(path: Path, steps: int = 2) -> list[str]:
    return audit(path, steps=steps, units_per_step=1, samples=2)


def test_a_clean_run_has_no_problem(tmp_path: Path):
    _write(tmp_path / "ledger.jsonl")
    assert _problems(tmp_path / "ledger.jsonl") == []


def test_a_lost_trajectory_and_a_missing_step_are_found(tmp_path: Path):
    _write(tmp_path / "a.jsonl", without=("accepted", "u1-0"))
    assert _problems(tmp_path / "a.jsonl") == ["u1 was taken with 1 of 2 samples"]
    _write(tmp_path / "b.jsonl", without=("taken", "u1"))
    assert _problems(tmp_path / "b.jsonl") == ["step 1 took 0 units, not 1"]


@pytest.mark.parametrize(
    ("event", "fields", "problem"),
    [
        ("accepted", {"unit": "u1", "trajectory": "u1-0"}, "u1-0 was accepted 2 times"),
        ("accepted", {"unit": "u0", "trajectory": "u1-0"}, "u1-0 was accepted for u0, which it is no part of"),
        ("taken", {"unit": "u0", "step": 1}, "u0 was taken by step 0 and by step 1"),
        ("rejected", {"unit": "u0", "why": "no spread"}, "u0 was both taken and rejected"),
    ],
)
def test_a_doubled_or_misplaced_event_is_found(tmp_path: Path, event, fields, problem):
    path = tmp_path / "ledger.jsonl"
    _write(path)
    ledger = Ledger(path)
    ledger.write(event, **fields)
    ledger.close()
    assert problem in _problems(path)


def test_too_old_a_unit_and_a_step_too_many_are_found(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    _write(path)
    ledger = Ledger(path)
    ledger.write("started", unit="u2", version=0, trajectories=["a", "b"])
    for trajectory in ("a", "b"):
        ledger.write("accepted", unit="u2", trajectory=trajectory)
    ledger.write("taken", unit="u2", step=2)
    ledger.close()
    assert _problems(path) == ["u2 of version 0 was taken by step 2", "step 2 was one too many"]
    assert audit(path, steps=3, units_per_step=1, samples=2, max_staleness=2) == []


def test_steps_repeated_after_a_resume_count_once(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    _write(path)
    ledger = Ledger(path)
    ledger.write("resumed", step=1)
    ledger.write("started", unit="u1", version=1, trajectories=["u1-0", "u1-1"])
    ledger.write("accepted", unit="u1", trajectory="u1-0")
    ledger.write("accepted", unit="u1", trajectory="u1-1")
    ledger.write("taken", unit="u1", step=1)
    ledger.close()
    assert _problems(path) == []


def test_a_line_that_a_kill_cut_short_is_left_out_and_overwritten(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    _write(path)
    with path.open("a") as file:
        file.write('{"event":"tak')
    assert len(list(read_ledger(path))) == 8
    ledger = Ledger(path)
    ledger.write("resumed", step=2)
    ledger.close()
    assert [event["event"] for event in read_ledger(path)][-2:] == ["taken", "resumed"]


def test_a_unit_that_was_rejected_after_the_checkpoint_may_be_taken_after_the_resume_and_not_without(tmp_path: Path):
    for resumes in (True, False):
        path = tmp_path / f"{resumes}.jsonl"
        _write(path, steps=1)
        ledger = Ledger(path)
        members = ["u1-0", "u1-1"]
        for _ in range(2):
            ledger.write("started", unit="u1", version=1, trajectories=members)
            for trajectory in members:
                ledger.write("accepted", unit="u1", trajectory=trajectory)
            if "rejected" not in path.read_text():
                ledger.write("rejected", unit="u1", why="outage")
                if resumes:
                    ledger.write("resumed", step=1)
        ledger.write("taken", unit="u1", step=1)
        ledger.close()
        assert _problems(path) == ([] if resumes else ["u1 was both taken and rejected"])
