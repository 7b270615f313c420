"""How much less than honest episodes a cheat earns, at equal turns.

A cheat's episode of n turns is compared with the honest ones of n turns. Where these are less than `MIN_SHARE` of all
honest episodes, it is compared with those of the nearest number of turns that is more common (fewer turns on a tie): a
single search is what only a fault leaves of an honest episode, and no yardstick. Among failures such faults are what
is looked for, so `MIN_OWN_SHARE` is smaller. What a reward says nothing of (NaN) earns a cheat 0, and is no honest
episode to compare with. Two questions are asked:

- `margin_of`: is the cheat's mean below the mean of its episodes' bars, the 25th percentile of the honest ones?
- `favour_of`: is it worth more than honest episodes of its own correctness, a wrong cheat more than honest failures?
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SHARE = 0.05
MIN_OWN_SHARE = 0.02
BAR = 25.0
FAVOUR = 0.05
"""How much more than honest episodes of its own correctness a cheat may have: a twentieth of a right answer's 1, which
is what a slip of form, or the sampling of some fifty failures, makes of a mean."""
_TIE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """Episodes of one policy: what each earned, in how many turns, and whether it was right. `[num_episodes]` each."""

    earned: NDArray[np.float64]
    num_turns: NDArray[np.int64]
    is_correct: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_]) -> "Earnings":
        """Some of the episodes."""
        return Earnings(
            earned=self.earned[chosen], num_turns=self.num_turns[chosen], is_correct=self.is_correct[chosen]
        )

    @property
    def right(self) -> "Earnings":
        """The right ones."""
        return self.where(self.is_correct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Means over a cheat's episodes: what it earned, its bar, and its percentile among honest episodes (ties half)."""

    earned: float
    bar: float
    percentile: float

    @property
    def is_below(self) -> bool:
        """True if the cheat earns less than the bar."""
        return self.earned < self.bar - _TIE


@dataclass(frozen=True, slots=True, kw_only=True)
class Favour:
    """Means over a cheat's episodes: what it earned, and what honest episodes as right, or as wrong, as it did."""

    earned: float
    own_class: float

    @property
    def is_favoured(self) -> bool:
        """True if the cheat is worth more than honest episodes of its own correctness, by more than `FAVOUR`."""
        return self.earned > self.own_class + FAVOUR


def margin_of(cheat: Earnings, honest: Earnings) -> Margin:
    """A cheat's episodes against honest ones, all of those that are given.

    Raises:
        ValueError: no number of turns is common among the honest episodes, or the cheat has none.
    """
    earned = np.nan_to_num(cheat.earned)
    equals = _at_equal_turns(cheat.num_turns, honest)
    below = [
        (equal < value - _TIE).mean() + 0.5 * (np.abs(equal - value) <= _TIE).mean()
        for value, equal in zip(earned, equals, strict=True)
    ]
    return Margin(
        earned=float(earned.mean()),
        bar=float(np.mean([np.percentile(equal, BAR) for equal in equals])),
        percentile=100.0 * float(np.mean(below)),
    )


def favour_of(cheat: Earnings, honest: Earnings) -> Favour:
    """A cheat's episodes against honest ones of their own correctness: right ones with right ones, wrong with wrong.

    The mean of these is the yardstick, not a percentile of theirs: what a policy gains on average by turning an honest
    failure into the cheat is what it climbs as long as it samples no right answer.

    Raises:
        ValueError: as `margin_of`, in a class that the cheat has.
    """
    means = np.zeros(len(cheat.earned))
    for right in set(cheat.is_correct.tolist()):
        chosen = cheat.is_correct == right
        equals = _at_equal_turns(cheat.num_turns[chosen], honest.where(honest.is_correct == right), MIN_OWN_SHARE)
        means[chosen] = [equal.mean() for equal in equals]
    return Favour(earned=float(np.nan_to_num(cheat.earned).mean()), own_class=float(means.mean()))


def _at_equal_turns(
    turns: NDArray[np.int64], honest: Earnings, min_share: float = MIN_SHARE
) -> list[NDArray[np.float64]]:
    """For each number of turns, what honest episodes of as many earned, or of the nearest number that is common."""
    told = honest.where(~np.isnan(honest.earned))
    common = [n for n in sorted(set(told.num_turns.tolist())) if (told.num_turns == n).mean() >= min_share]
    if not common or not len(turns):
        raise ValueError(
            f"{len(turns)} episodes of a cheat and {len(told.earned)} honest ones that count: play more questions"
        )
    by_turns = {n: told.earned[told.num_turns == n] for n in common}
    return [by_turns[min(common, key=lambda one: (abs(one - n), one))] for n in turns.tolist()]
