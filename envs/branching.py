"""Units that branch: episodes that share a prefix, to the token, and differ from one turn on.

`BranchSampler` is SLATE's truncated step-level sampling: at each step k candidates of one turn, of which one is gone on
from. `RefineSampler` is SmartSearch's: whole trajectories whose bad turns are sampled once more, with what follows.
Turns before `fork_turn` are the parent's, never sampled again; who trains on them masks them.

An outage spoils the one trajectory that it ended: it is never gone on from and leaves its baseline, like any other. A
path whose step has no candidate left ends there, and its earlier steps stay. Where more of a unit is lost than
`train.outage` allows, the whole unit is sampled again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Turn, Unit
from envs.episode import EpisodeSpec
from envs.units import Episodes, Scorer, UnitTask, is_lost, play_round

Retrieve = Literal["all", "winner"]


def choose_winner(advantages: NDArray[np.float64], *, eta: float, seed: int) -> int | None:
    """The candidate to go on from, drawn with probability `exp(A_j / eta) / sum_i exp(A_i / eta)` (SLATE).

    advantages: `[num_candidates]`; a candidate with NaN cannot win. `eta` > 0: towards 0 the best always wins. Equal
    arguments give an equal winner, None where nobody can win.

    >>> choose_winner(np.array([0.0, 9.0, np.nan]), eta=0.1, seed=0)
    1
    """
    able = np.flatnonzero(~np.isnan(advantages))
    if not len(able):
        return None
    values = advantages[able] / eta
    chances = np.exp(values - values.max())
    drawn = np.random.default_rng(seed).random() * chances.sum()
    return int(able[min(int(np.searchsorted(np.cumsum(chances), drawn, side="right")), len(able) - 1)])


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchSampler:
    """SLATE's unit: at every step `candidates` next turns from one prefix, one of which goes on.

    A step ends the path where its winner ends its episode (an answer, a limit), so there are at most
    `limits.max_turns` steps. `retrieve` is `all`: the calls of every candidate are carried out, so that rewards see
    what they bring; or `winner`: those of the winner alone, after it was chosen. Candidates that would have gone on
    are `cut`. Costs, for a path of T turns, `candidates * T` generations of one turn, and `candidates * (T - 1)` or
    `T - 1` searches.
    """

    candidates: int
    eta: float
    retrieve: Retrieve
    scorer: Scorer

    def opening(self, task: UnitTask) -> list[EpisodeSpec]:
        """The candidates of the first turn."""
        return self._step(task, 0, (), None)

    async def complete(self, task: UnitTask, opened: Sequence[Trajectory], episodes: Episodes) -> Unit:
        """Step after step, until a winner ends its episode or no candidate is left."""
        everything: list[Trajectory] = []
        step, candidates = 0, list(opened)
        while True:
            everything += candidates
            winner = await self._winner(task, step, everything, candidates)
            if winner is None or winner.finish_reason != "cut":
                break
            if _is_pending(winner):
                [read] = await play_round(episodes, [self._reading(task, step, winner)])
                position = everything.index(winner)
                winner = everything[position] = replace(read, id=winner.id)
                if winner.finish_reason != "cut":
                    break
            step += 1
            candidates = await play_round(episodes, self._step(task, step, winner.turns, winner.id))
        return Unit(kind="branch_tree", trajectories=tuple(everything))

    async def _winner(
        self, task: UnitTask, step: int, everything: Sequence[Trajectory], candidates: Sequence[Trajectory]
    ) -> Trajectory | None:
        advantages = (await self.scorer.advantages(Unit(kind="branch_tree", trajectories=tuple(everything))))[
            -len(candidates) :
        ]
        able = np.array([not is_lost(candidate) for candidate in candidates])
        if np.isnan(advantages[able]).all():  # no reward says anything of this step: any of them may go on
            advantages = np.zeros(len(candidates))
        index = choose_winner(np.where(able, advantages, np.nan), eta=self.eta, seed=task.seed("winner", step))
        return None if index is None else candidates[index]

    def _step(self, task: UnitTask, step: int, path: tuple[Turn, ...], parent_id: str | None) -> list[EpisodeSpec]:
        return [
            EpisodeSpec(
                id=f"{task.id}-turn{step:02d}-candidate{candidate:02d}",
                question=task.question,
                unit_id=task.id,
                group_id=f"{task.id}-turn{step}",
                parent_id=parent_id,
                fork_turn=step,
                sample=candidate,
                seed=task.seed("candidate", candidate),
                prefix_turns=path,
                stop_after_turns=step + 1,
                reads_last=self.retrieve == "all",
            )
            for candidate in range(self.candidates)
        ]

    def _reading(self, task: UnitTask, step: int, winner: Trajectory) -> EpisodeSpec:
        """The winner's calls and nothing else."""
        return EpisodeSpec(
            id=f"{winner.id}-read",
            question=task.question,
            unit_id=task.id,
            group_id=winner.group_id,
            parent_id=winner.parent_id,
            fork_turn=winner.fork_turn,
            sample=winner.sample,
            seed=task.seed("candidate", winner.sample),
            prefix_turns=winner.turns,
            stop_after_turns=step + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineSampler:
    """SmartSearch's unit: `seeds` whole trajectories, and for each at most `per_seed` that leave it at a bad query.

    A turn is bad that called a tool and that `component` scores below `bad_below` (NaN is not bad); the first ones
    come first. There the policy itself samples another action after the same prefix, at most `tries` times, until it
    is not the same calls again, and the episode goes on from it; where all tries repeat the calls, nothing is added.
    The parent of each is its seed, and all share one baseline. Costs `seeds` episodes, and for each regeneration 1 to
    `tries` turns and the rest of an episode.
    """

    seeds: int
    per_seed: int
    tries: int
    component: str
    bad_below: float
    scorer: Scorer

    def opening(self, task: UnitTask) -> list[EpisodeSpec]:
        """The seeds, y_0."""
        return [
            EpisodeSpec(
                id=f"{task.id}-seed{seed:02d}",
                question=task.question,
                unit_id=task.id,
                group_id=task.id,
                sample=seed,
                seed=task.seed("seed", seed),
            )
            for seed in range(self.seeds)
        ]

    async def complete(self, task: UnitTask, opened: Sequence[Trajectory], episodes: Episodes) -> Unit:
        """A round for each try, in all places at once, and one for what follows them."""
        open_places = await self._bad_turns(opened)
        found: dict[tuple[int, int], Trajectory] = {}
        for number in range(self.tries):
            if not open_places:
                break
            specs = [self._try(task, opened[seed], seed, turn, number) for seed, turn in open_places]
            tried = dict(zip(open_places, await play_round(episodes, specs), strict=True))
            found |= {place: t for place, t in tried.items() if not is_lost(t) and _differs(t, opened[place[0]])}
            open_places = [place for place in open_places if place not in found]
        places = sorted(found)
        going_on = [place for place in places if found[place].finish_reason == "cut"]
        specs = [self._rest(task, opened[seed], seed, turn, found[seed, turn]) for seed, turn in going_on]
        played = await play_round(episodes, specs) if specs else []
        found |= dict(zip(going_on, played, strict=True))
        refined = [
            replace(found[place], id=_refined_id(task, *place), sample=self.seeds + i) for i, place in enumerate(places)
        ]
        return Unit(kind="branch_tree", trajectories=(*opened, *refined))

    async def _bad_turns(self, seeds: Sequence[Trajectory]) -> list[tuple[int, int]]:
        """(seed, turn) of what is sampled once more, in order."""
        unit = Unit(kind="branch_tree", trajectories=tuple(seeds))
        scores = await self.scorer.turn_scores(unit, self.component)
        bad: list[tuple[int, int]] = []
        for number, (seed, values) in enumerate(zip(seeds, scores, strict=True)):
            if not is_lost(seed):
                calls = [i for i, turn in enumerate(seed.turns) if turn.action.kind == "call"]
                bad += [(number, i) for i in calls if values[i] < self.bad_below][: self.per_seed]
        return bad

    def _try(self, task: UnitTask, seed: Trajectory, number: int, turn: int, attempt: int) -> EpisodeSpec:
        return EpisodeSpec(
            id=f"{_refined_id(task, number, turn)}-try{attempt:02d}",
            question=task.question,
            unit_id=task.id,
            group_id=task.id,
            parent_id=seed.id,
            fork_turn=turn,
            seed=task.seed("try", number, turn, attempt),
            prefix_turns=seed.turns[:turn],
            stop_after_turns=turn + 1,
            reads_last=False,
        )

    def _rest(self, task: UnitTask, seed: Trajectory, number: int, turn: int, tried: Trajectory) -> EpisodeSpec:
        return EpisodeSpec(
            id=_refined_id(task, number, turn),
            question=task.question,
            unit_id=task.id,
            group_id=task.id,
            parent_id=seed.id,
            fork_turn=turn,
            seed=task.seed("rest", number, turn),
            prefix_turns=tried.turns,
        )


def _refined_id(task: UnitTask, seed: int, turn: int) -> str:
    return f"{task.id}-seed{seed:02d}-turn{turn:02d}"


def _is_pending(candidate: Trajectory) -> bool:
    """True if the candidate was cut before its calls were carried out."""
    return not candidate.turns[-1].observation_ids


def _differs(tried: Trajectory, seed: Trajectory) -> bool:
    """True if the turn that was sampled once more does not make the same calls again."""
    turn = len(tried.turns) - 1
    return _calls(tried.turns[turn]) != _calls(seed.turns[turn])


def _calls(turn: Turn) -> tuple[tuple[str, str], ...]:
    return tuple((request.tool, " ".join(request.argument.lower().split())) for request in turn.action.requests)
