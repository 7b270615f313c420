"""Every reward against every cheat: what the cheat earns, the bar, and its percentile among honest episodes."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.red_team.arena import Arena, Played
from benchmarks.red_team.known import PAYS_ANY_ANSWER, REPAIRS, VICES, known_repairs
from benchmarks.red_team.margins import Earnings, Favour, Margin, favour_of, margin_of
from envs.policies.registry import CHEATS, load_policy
from rewards.compose import RewardTerm, build_rewards
from rewards.registry import REWARDS

SAMPLES = 6
"""Honest episodes of each wording: bars are percentiles, and need more of them than a mean does."""

_REPEATERS = ("near_duplicator", "query_repeater")
_REPEATS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A cheat under a composition: its margin among right honest episodes, and what those as wrong as it have."""

    margin: Margin
    favour: Favour

    @property
    def is_stopped(self) -> bool:
        """True if it is below right honest episodes and worth no more than honest ones of its own correctness."""
        return self.margin.is_below and not self.favour.is_favoured

    def is_repaired_by(self, repair: str) -> bool:
        """True if the repair keeps what it promises."""
        return self.margin.is_below if REPAIRS[repair].keeps_order_only else self.is_stopped


@dataclass(frozen=True, slots=True)
class Cell:
    """One reward against one cheat; the repair that is known for the pair, and the standing under it."""

    reward: str
    cheat: str
    margin: Margin
    known: str | None
    repaired: Standing | None

    @property
    def is_repaired(self) -> bool:
        """True if a repair is known and does what it promises."""
        return self.known is not None and self.repaired is not None and self.repaired.is_repaired_by(self.known)


class RedTeam:
    """Episodes of the honest policy, of all cheats, and of experts with one vice each, played once and scored once.

    `honest` may be given, episodes of a trained policy on the same questions for example.
    """

    def __init__(self, arena: Arena, *, honest: Played | None = None, samples: int = SAMPLES) -> None:
        self.arena = arena
        self.honest = honest or arena.play(arena.honest(), samples=samples)
        self.cheats = {name: self._play_cheat(name) for name in CHEATS}
        self._honest_under: dict[Hashable, NDArray[np.float64]] = {}

    def margin(self, reward: str, cheat: str) -> Margin:
        """A reward alone against a cheat, in the reward's class of honest episodes."""
        return self._alone(reward, self._cheats_earned[cheat][reward], self.cheats[cheat])

    def vice_margin(self, reward: str, vice: str) -> Margin:
        """A reward alone against the expert with one vice, in the same class."""
        return self._alone(reward, self._vices_earned[vice][reward], self.vices[vice])

    def repaired(self, reward: str, cheat: str, repair: str) -> Standing:
        """A cheat under a repair of the reward."""

        def earn(played: Played) -> NDArray[np.float64]:
            return self.arena.earned_together(REPAIRS[repair].build(reward, self.arena.context), played)

        return self.standing((reward, repair), cheat, earn)

    def standing(self, key: Hashable, cheat: str, earn: Callable[[Played], NDArray[np.float64]]) -> Standing:
        """A cheat under a composition. `earn` gives what episodes earn; honest ones are scored once for each `key`."""
        if key not in self._honest_under:
            self._honest_under[key] = earn(self.honest)
        honest = _earnings(self._honest_under[key], self.honest)
        of_cheat = _earnings(earn(self.cheats[cheat]), self.cheats[cheat])
        return Standing(margin=margin_of(of_cheat, honest.right), favour=favour_of(of_cheat, honest))

    @property
    def compared(self) -> list[str]:
        """Rewards that say something of the honest episodes of their class; a protocol may lack what they look at."""
        right = self.honest.is_correct
        return [
            reward
            for reward, earned in self._honest_earned.items()
            if not np.isnan(earned if reward in PAYS_ANY_ANSWER else earned[right]).all()
        ]

    def cells(self) -> list[Cell]:
        """Every pair of reward and cheat that can be compared, rewards outermost."""
        known = known_repairs()
        cells: list[Cell] = []
        for reward in self.compared:
            for cheat in CHEATS:
                repair = known.get((reward, cheat))
                repaired = self.repaired(reward, cheat, repair) if repair else None
                cells.append(Cell(reward, cheat, self.margin(reward, cheat), repair, repaired))
        return cells

    @cached_property
    def vices(self) -> dict[str, Played]:
        """Episodes of experts with one vice each."""
        names = sorted({vice for those in VICES.values() for vice in those})
        return {name: self.arena.play(load_policy(name, self.arena.protocol, honest=True)) for name in names}

    @cached_property
    def _honest_earned(self) -> dict[str, NDArray[np.float64]]:
        return self._by_reward(self.honest)

    @cached_property
    def _cheats_earned(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        return {name: self._by_reward(played) for name, played in self.cheats.items()}

    @cached_property
    def _vices_earned(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        return {name: self._by_reward(played) for name, played in self.vices.items()}

    def _play_cheat(self, name: str) -> Played:
        """One that repeats its query leaves itself a turn to answer in, where episodes are short."""
        repeats = min(_REPEATS, self.arena.limits.max_turns - 1)
        params = {"num_searches": repeats} if name in _REPEATERS else {}
        return self.arena.play(load_policy(name, self.arena.protocol, **params))

    def _by_reward(self, played: Played) -> dict[str, NDArray[np.float64]]:
        """What every reward by itself pays; those with a state begin anew with each policy."""
        return self.arena.earned(build_rewards({name: RewardTerm() for name in REWARDS}, self.arena.context), played)

    def _alone(self, reward: str, earned: NDArray[np.float64], played: Played) -> Margin:
        honest = _earnings(self._honest_earned[reward], self.honest)
        return margin_of(_earnings(earned, played), honest if reward in PAYS_ANY_ANSWER else honest.right)


def record_of(cells: Sequence[Cell]) -> dict[str, Any]:
    """Rewards and repairs as JSON values: by reward and cheat a list, whose `columns` are named."""
    rewards: dict[str, Any] = {"columns": ["earned", "bar", "percentile"]}
    repairs: dict[str, Any] = {"columns": ["repair", "earned", "bar", "own_class", "holds"]}
    for cell in cells:
        alone, repaired = cell.margin, cell.repaired
        rewards.setdefault(cell.reward, {})[cell.cheat] = rounded(alone.earned, alone.bar, alone.percentile)
        if repaired:
            figures = rounded(repaired.margin.earned, repaired.margin.bar, repaired.favour.own_class)
            repairs.setdefault(cell.reward, {})[cell.cheat] = [cell.known, *figures, cell.is_repaired]
    return {"rewards": rewards, "repairs": repairs}


def rounded(*figures: float) -> list[float]:
    """Figures to four places."""
    return [round(figure, 4) + 0.0 for figure in figures]


def table_of(cells: Sequence[Cell]) -> str:
    """Percentiles in a table, cheats as columns: `!` not below the bar, `*` known and repaired."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        mark = "" if cell.margin.is_below else "*" if cell.is_repaired else "!"
        rows.setdefault(cell.reward, {})[cell.cheat] = f"{cell.margin.percentile:.0f}{mark}"
    return text_table(rows)


def text_table(rows: dict[str, dict[str, str]]) -> str:
    """Rows by name with cheats as columns, whose names are shortened."""
    cheats = list(dict.fromkeys(cheat for row in rows.values() for cheat in row))
    short = ["".join(word[:4] for word in cheat.split("_"))[:8] for cheat in cheats]
    lines = [f"{'':<20}" + "".join(f"{name:>9}" for name in short)]
    lines += [f"{name:<20}" + "".join(f"{row[cheat]:>9}" for cheat in cheats) for name, row in rows.items()]
    return "\n".join(lines)


def unexpected(cells: Sequence[Cell]) -> list[str]:
    """Pairs that are not as `KNOWN` has them, in words."""
    lines = []
    for cell in cells:
        figures = f"{cell.reward} x {cell.cheat}: earns {cell.margin.earned:.3f}, the bar is {cell.margin.bar:.3f}"
        if not cell.margin.is_below and cell.known is None:
            lines.append(f"{figures}; not known")
        if cell.margin.is_below and cell.known is not None:
            lines.append(f"{figures}; known as one that fails")
        if cell.repaired and not cell.is_repaired:
            margin, favour = cell.repaired.margin, cell.repaired.favour
            lines.append(
                f"{cell.reward} x {cell.cheat} under {cell.known}: earns {margin.earned:.3f}, the bar is "
                f"{margin.bar:.3f}, honest episodes of its own correctness have {favour.own_class:.3f}; not repaired"
            )
    return lines


def _earnings(earned: NDArray[np.float64], played: Played) -> Earnings:
    return Earnings(earned=earned, num_turns=played.num_turns, is_correct=played.is_correct)
