"""How far rollouts may run ahead of the learner: which units may start, and which a step takes.

Units are numbered in the order in which questions are asked; step `s` of a synchronous run takes units
`s * units_per_step` and those after it. A unit may start while the policy's version is at least its own step minus
`max_staleness` (versions count optimiser steps), and a step never takes a unit that started more than `max_staleness`
versions before it. Nothing is ever discarded for its age: starts are bounded, and a unit that would become too old is
waited for (Fu et al. 2025, AReaL, staleness control).

With `max_staleness` 0 every step takes its own units in order, which is the synchronous loop.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionState:
    """What a resume needs: units below `settled` are taken or rejected, and so are those in `beyond`.

    `rejected` counts units that others replaced, `put_back` the times that a unit was to be sampled again, `spent` what
    has been sampled for all of these, in whole episodes.
    """

    settled: int = 0
    beyond: tuple[int, ...] = ()
    rejected: int = 0
    put_back: int = 0
    spent: float = 0.0


class Admission:
    """The book of unit numbers. It counts, and knows neither episodes nor clocks.

    Args:
        units_per_step: units that a step takes, at least 1.
        max_staleness: versions that a unit may be older than the step that takes it, at least 0.
        state: from a checkpoint; units that had started but were not taken start again.
    """

    def __init__(
        self,
        *,
        units_per_step: int,
        max_staleness: int,
        total_steps: int | None = None,
        state: AdmissionState | None = None,
    ) -> None:
        if units_per_step < 1 or max_staleness < 0:
            raise ValueError(
                f"units_per_step={units_per_step}, max_staleness={max_staleness}: a step takes at least one unit, and "
                "staleness is 0 (synchronous) or more versions"
            )
        state = state or AdmissionState()
        self._per_step = units_per_step
        self._max_staleness = max_staleness
        self._total_steps = total_steps
        self._first_open = state.settled
        self._settled_beyond = set(state.beyond)
        self._rejected = state.rejected
        self._put_back = state.put_back
        self.spent = state.spent
        """Whole episodes that units have cost which were taken, rejected or put back."""
        self._next = 0
        self._started: dict[int, int] = {}
        self._finished: dict[int, None] = {}
        self._again: list[int] = []

    @property
    def state(self) -> AdmissionState:
        """What a resume needs."""
        return AdmissionState(
            settled=self._first_open,
            beyond=tuple(sorted(self._settled_beyond)),
            rejected=self._rejected,
            put_back=self._put_back,
            spent=self.spent,
        )

    @property
    def waiting(self) -> tuple[int, ...]:
        """Units that have started and are not taken, oldest first."""
        return tuple(self._started)

    def admit(self, version: int) -> list[int]:
        """Numbers of the units that may start now that the policy has this version; each is told once."""
        steps = version + 1 + self._max_staleness
        if self._total_steps is not None:
            steps = min(steps, self._total_steps)
        limit = steps * self._per_step + self._rejected
        again, self._again = sorted(self._again), []
        fresh = range(max(self._next, self._first_open), limit)
        admitted = again + [number for number in fresh if number not in self._settled_beyond]
        self._next = max(self._next, limit)
        self._started.update(dict.fromkeys(admitted, version))
        return admitted

    def finish(self, number: int) -> None:
        """A unit is complete."""
        if number not in self._started:
            raise ValueError(f"unit {number} has not started, or was taken before")
        self._finished[number] = None

    def reject(self, number: int) -> None:
        """A complete unit is not wanted (no spread in its rewards); another may start in its place."""
        self.settle((number,))
        self._rejected += 1

    def put_back(self, number: int) -> None:
        """A complete unit says nothing (an outage): it is to start again, with the policy of then."""
        self._forget(number)
        self._again.append(number)
        self._put_back += 1

    def spend(self, episodes: float) -> None:
        """What a unit that was taken, rejected or put back has cost."""
        self.spent += episodes

    def due(self, step: int) -> list[int]:
        """Units that the step must take, because they would be too old for the next, complete or not."""
        return [number for number, version in self._started.items() if version <= step - self._max_staleness]

    def take(self, step: int) -> list[int] | None:
        """Choose the units of a step; they belong to it from now on."""
        chosen = self.choose(step)
        if chosen is not None:
            self.settle(chosen)
        return chosen

    def choose(self, step: int) -> list[int] | None:
        """The units of a step in the order of their numbers, or None while too few that it may take are complete.

        Units are taken in the order in which they completed, as long as those that are left behind still fit into the
        steps before they are too old.
        """
        chosen: list[int] = []
        for number in self._finished:
            if len(chosen) < self._per_step and self._leaves_room(step, [*chosen, number]):
                chosen.append(number)
        if len(chosen) < self._per_step:
            return None
        return sorted(chosen)

    def settle(self, numbers: Iterable[int]) -> None:
        """Complete units are done with."""
        for number in numbers:
            self._forget(number)
            self._settled_beyond.add(number)
        while self._first_open in self._settled_beyond:
            self._settled_beyond.remove(self._first_open)
            self._first_open += 1

    def _leaves_room(self, step: int, chosen: list[int]) -> bool:
        """True if what is not chosen fits into the rest of this step and the steps until each is due."""
        left = sorted(version for number, version in self._started.items() if number not in chosen)
        open_places = self._per_step - len(chosen)
        return all(
            count <= open_places + (version + self._max_staleness - step) * self._per_step
            for count, version in enumerate(left, start=1)
        )

    def _forget(self, number: int) -> None:
        del self._finished[number]
        del self._started[number]
