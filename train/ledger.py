"""The ledger of a run's rollouts: what happened to every unit and trajectory, by id, one line an event.

It is the evidence that faults cost nothing: `audit` reads it and says which trajectory was lost, accepted twice, or
taken with the wrong group. Events, as JSON objects in the order in which they happened:

- `started`: a unit and its trajectories' ids, with the policy version; `extended`: it goes on with further ones;
- `accepted`: a trajectory's result; `again`: its worker was lost, and another attempt begins (what the first one may
  still send is awaited by nobody);
- `taken`: a unit, by a step; `rejected`: a complete unit that is not learnt from, and why;
- `resumed`: the run goes on from the checkpoint of a step; what later steps had taken before is void.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

Event = Literal["started", "extended", "accepted", "again", "taken", "rejected", "resumed"]


_BLOCK = 1 << 16


class Ledger:
    """Appends events to a file; each line is handed to the operating system at once. Use from one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._has_events = self._end_with_a_whole_line(path)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: Event, **fields: Any) -> None:
        """Append one event."""
        self._file.write(json.dumps({"event": event, **fields}, separators=(",", ":")) + "\n")

    def resume(self, step: int) -> None:
        """The run begins, or goes on, at a step: what was taken at later ones by a run before this one is void."""
        if self._has_events:
            self.write("resumed", step=step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @staticmethod
    def _end_with_a_whole_line(path: Path) -> bool:
        """Cut a line that a killed process left half-written; True if there are lines."""
        if not path.exists():
            return False
        with path.open("rb+") as file:
            end = size = file.seek(0, os.SEEK_END)
            while end:
                start = max(0, end - _BLOCK)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                end = start + newline + 1
                if newline >= 0:
                    break
            if end < size:
                file.truncate(end)
            return end > 0


def read_ledger(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a ledger in order; a last line that was cut short by a kill is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def audit(path: Path, *, steps: int, units_per_step: int, samples: int | None, max_staleness: int = 0) -> list[str]:
    """What is wrong with a finished run's rollouts, in words; empty where nothing is.

    Args:
        path: the ledger.
        steps: optimiser steps that the run was to do.
        units_per_step: units that each step takes.
        samples: trajectories of a unit; None where they differ, as in units that branch.
        max_staleness: versions that a unit may be older than the step that took it.
    """
    members: dict[str, list[str]] = {}
    versions: dict[str, int] = {}
    accepted: Counter[str] = Counter()
    taken: dict[str, int] = {}
    rejected: dict[str, int] = {}
    resumes = 0
    problems: list[str] = []
    for event in read_ledger(path):
        kind, unit = event["event"], event.get("unit", "")
        if kind == "started":
            if rejected.get(unit, resumes) < resumes:
                del rejected[unit]  # before the kill: what came after the checkpoint is void
            members[unit], versions[unit] = event["trajectories"], event["version"]
            for trajectory in event["trajectories"]:
                accepted.pop(trajectory, None)  # started again after a resume: what was accepted before is void
        elif kind == "extended":
            members.setdefault(unit, []).extend(event["trajectories"])
            for trajectory in event["trajectories"]:
                accepted.pop(trajectory, None)
        elif kind == "accepted":
            accepted[event["trajectory"]] += 1
            if event["trajectory"] not in members.get(unit, ()):
                problems.append(f"{event['trajectory']} was accepted for {unit or 'no unit'}, which it is no part of")
        elif kind == "taken":
            if unit in taken:
                problems.append(f"{unit} was taken by step {taken[unit]} and by step {event['step']}")
            taken[unit] = event["step"]
            short = [t for t in members.get(unit, ()) if accepted[t] != 1]
            of_all = len(members.get(unit, ())) if samples is None else samples
            if len(members.get(unit, ())) != of_all or short:
                problems.append(f"{unit} was taken with {len(members.get(unit, ())) - len(short)} of {of_all} samples")
            if not 0 <= event["step"] - versions.get(unit, event["step"]) <= max_staleness:
                problems.append(f"{unit} of version {versions[unit]} was taken by step {event['step']}")
        elif kind == "rejected":
            rejected[unit] = resumes
        elif kind == "resumed":
            resumes += 1
            taken = {unit: step for unit, step in taken.items() if step < event["step"]}
    problems.extend(f"{trajectory} was accepted {n} times" for trajectory, n in accepted.items() if n > 1)
    problems.extend(f"{unit} was both taken and rejected" for unit in sorted(set(rejected) & set(taken)))
    per_step = Counter(taken.values())
    problems.extend(
        f"step {step} took {per_step[step]} units, not {units_per_step}"
        for step in range(steps)
        if per_step[step] != units_per_step
    )
    problems.extend(f"step {step} was one too many" for step in sorted(per_step) if step >= steps)
    return problems
