"""Pays an episode for the gold supports that its searches covered, less for every turn that it went on."""

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import f1, has_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, finite_parameter

VARIANTS = ("best", "union")


def discounted_turns(trajectory: Trajectory) -> int:
    """InForage's s: the last turn, counted from 0, after which the episode still went on, if that is above 1; else 0.

    An episode of T turns whose last one answered went on after turn T - 2; up to three turns are free.
    """
    last = trajectory.num_turns - 2
    return last if last > 1 else 0


def _discount(name: str, value: float) -> float:
    checked = finite_parameter(name, "discount", value)
    if checked > 1.0:
        raise ValueError(f"reward {name}: discount must be at most 1, got {value!r}; above 1 it would pay for length")
    return checked


class CoverageReward(OutcomeReward):
    """Gold supports covered, discounted by the length of the episode.

    Formula: outcome = (value [0.2] * C + F1) * discount [0.95]^s. C with `variant: best` [the default] = max over
    turns t of the share of the gold supports shown at t, as in InForage; with `variant: union` the share of them shown
    in the whole episode. The term F1 only with `f1: true` [false]. s = the last turn, counted from 0, after which the
    episode went on, where that is 2 or more; else 0. "Shown" is `Turn.shown`. Range: [0, value], with `f1`
    [0, 1 + value].
    Source: InForage's code, in which passages are named by URL. Needs: `supporting_ids`, and `golden_answers` with
    `f1`; without them NaN.

    The best turn alone gives nothing for two hops found one after the other; `union` does. One thing is added: an
    episode without an answer has 0, because two supports in one search would otherwise be worth more than an answer.
    """

    name = "coverage"
    needs = frozenset({"supporting_ids"})

    def __init__(
        self,
        context: RewardContext,
        *,
        variant: str = "best",
        value: float = 0.2,
        discount: float = 0.95,
        f1: bool = False,
    ) -> None:
        del context
        if variant not in VARIANTS:
            raise ValueError(f"reward {self.name}: variant must be one of {VARIANTS}, got {variant!r}")
        if not isinstance(f1, bool):
            raise ValueError(f"reward {self.name}: f1 must be true or false, got {f1!r}")
        self.variant = variant
        self.value = finite_parameter(self.name, "value", value)
        self.discount = _discount(self.name, discount)
        self.with_f1 = f1
        self.needs = frozenset({"supporting_ids"} | ({"golden_answers"} if f1 else set()))

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, value], or [0, 1 + value] with F1."""
        if not has_answer(trajectory):
            return 0.0
        base = f1(trajectory.final_answer, question.golden_answers) if self.with_f1 else 0.0
        earned = base + self.value * self._coverage(trajectory, question)
        return earned * self.discount ** discounted_turns(trajectory)

    def _coverage(self, trajectory: Trajectory, question: Question) -> float:
        gold = set(question.supporting_ids)
        by_turn = [gold & {s.passage_id for s in turn.shown} for turn in trajectory.turns]
        found = set().union(*by_turn) if self.variant == "union" else max(by_turn, key=len, default=set())
        return len(found) / len(gold)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """Up to `value` where there is a turn to search in; with F1, a right answer has at least 1, discounted."""
        # F1 is 1 for a wrong answer too where only the order of the words differs.
        high = (self.value if max_turns > 1 else 0.0) + float(self.with_f1)
        longest = max_turns - 2 if max_turns > 3 else 0
        return Bounds(low=self.discount**longest if correct and self.with_f1 else 0.0, high=high)
