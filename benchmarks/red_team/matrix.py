"""Every reward against every cheat: what the cheat earns, the bar, and its percentile among honest episodes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.red_team.arena import Arena, Played
from benchmarks.red_team.known import PAYS_ANY_ANSWER, REPAIRS, VICES, known_repairs
from benchmarks.red_team.margins import Margin, margin_of
from envs.policies.registry import CHEATS, load_policy
from rewards.compose import RewardTerm, build_rewards
from rewards.registry import REWARDS

SAMPLES = 6
"""Honest episodes of each wording: bars are percentiles, and need more of them than a mean does."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One reward against one cheat; the repair that is known for the pair, and the margin under it."""

    reward: str
    cheat: str
    margin: Margin
    known: str | None
    repaired: Margin | None


class RedTeam:
    """Episodes of the honest policy, of all cheats, and of experts with one vice each, played and scored once.

    `honest` may be given, episodes of a trained policy on the same questions for example.
    """

    def __init__(self, arena: Arena, *, honest: Played | None = None, samples: int = SAMPLES) -> None:
        vices = sorted({vice for those in VICES.values() for vice in those})
        self.arena = arena
        self.honest = honest or arena.play(arena.honest(), samples=samples)
        self.cheats = {name: arena.play(load_policy(name, arena.protocol)) for name in CHEATS}
        self.vices = {name: arena.play(load_policy(name, arena.protocol, honest=True)) for name in vices}
        self._honest_earned = self._by_reward(self.honest)
        self._honest_repaired: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._cheats_earned = {name: self._by_reward(played) for name, played in self.cheats.items()}
        self._vices_earned = {name: self._by_reward(played) for name, played in self.vices.items()}

    def margin(self, reward: str, cheat: str) -> Margin:
        """A reward alone against a cheat, in the reward's class of honest episodes."""
        return self._alone(reward, self._cheats_earned[cheat][reward], self.cheats[cheat])

    def vice_margin(self, reward: str, vice: str) -> Margin:
        """A reward alone against the expert with one vice, in the same class."""
        return self._alone(reward, self._vices_earned[vice][reward], self.vices[vice])

    def repaired(self, reward: str, cheat: str, repair: str) -> Margin:
        """A cheat under a repair of the reward, against right honest episodes."""
        build = REPAIRS[repair].build
        if (reward, repair) not in self._honest_repaired:
            of_honest = self.arena.earned_together(build(reward, self.arena.context), self.honest)
            self._honest_repaired[reward, repair] = of_honest
        of_cheat = self.arena.earned_together(build(reward, self.arena.context), self.cheats[cheat])
        return self._among_right(of_cheat, self.cheats[cheat], self._honest_repaired[reward, repair])

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

    def _by_reward(self, played: Played) -> dict[str, NDArray[np.float64]]:
        """What every reward by itself pays; those with a state begin anew with each policy."""
        return self.arena.earned(build_rewards({name: RewardTerm() for name in REWARDS}, self.arena.context), played)

    def _alone(self, reward: str, earned: NDArray[np.float64], played: Played) -> Margin:
        honest = self._honest_earned[reward]
        if reward not in PAYS_ANY_ANSWER:
            return self._among_right(earned, played, honest)
        return margin_of(earned, played.num_turns, honest, self.honest.num_turns)

    def _among_right(self, earned: NDArray[np.float64], played: Played, honest: NDArray[np.float64]) -> Margin:
        right = self.honest.is_correct
        return margin_of(earned, played.num_turns, honest[right], self.honest.num_turns[right])


def record_of(cells: Sequence[Cell]) -> dict[str, Any]:
    """The matrix as JSON values: reward, cheat, figures."""
    found: dict[str, Any] = {}
    for cell in cells:
        found.setdefault(cell.reward, {})[cell.cheat] = {
            **asdict(cell.margin),
            "is_below": cell.margin.is_below,
            "known": cell.known,
            "repaired": {**asdict(cell.repaired), "is_below": cell.repaired.is_below} if cell.repaired else None,
        }
    return found


def table_of(cells: Sequence[Cell]) -> str:
    """Percentiles in a table, cheats as columns: `!` not below the bar, `*` known and repaired."""
    cheats = list(dict.fromkeys(cell.cheat for cell in cells))
    lines = [f"{'':<20}" + "".join(f"{_short(cheat):>9}" for cheat in cheats)]
    for reward in dict.fromkeys(cell.reward for cell in cells):
        row = {cell.cheat: cell for cell in cells if cell.reward == reward}
        lines.append(f"{reward:<20}" + "".join(f"{_shown(row[cheat]):>9}" for cheat in cheats))
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
        if cell.repaired and not cell.repaired.is_below:
            lines.append(
                f"{cell.reward} x {cell.cheat} under {cell.known}: earns {cell.repaired.earned:.3f}, the bar is "
                f"{cell.repaired.bar:.3f}; not repaired"
            )
    return lines


def _short(cheat: str) -> str:
    return "".join(word[:4] for word in cheat.split("_"))[:8]


def _shown(cell: Cell) -> str:
    mark = "" if cell.margin.is_below else "*" if cell.repaired and cell.repaired.is_below else "!"
    return f"{cell.margin.percentile:.0f}{mark}"
