"""Does an answer agree with what the other wordings of the question are answered: the majority across views."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from agent.trajectory import Trajectory, Unit
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.answer import exact_match, has_answer, normalize_answer
from rewards.bounds import Bounds
from rewards.reward import Questions, RewardContext
from rewards.score import Scores

Vote = tuple[int, str]
"""The view that votes, and its normalised answer."""


def majority(votes: Iterable[Vote]) -> str | None:
    """The answer with most votes; None without votes.

    Ties: the answer given under more views, then the one first in alphabetical order. Which sample came first never
    decides.
    """
    votes = list(votes)
    counts = Counter(answer for _, answer in votes)
    views = Counter(answer for _, answer in set(votes))
    return min(counts, key=lambda answer: (-counts[answer], -views[answer], answer), default=None)


class AgreementReward:
    """An answer is paid where it is the majority answer of the other wordings of its question.

    Formula: outcome = 1 if the normalised answer equals the majority of the normalised answers given under all other
    views, else 0; with `only_if_correct` [true] also 0 unless it is an exact match. Ties are broken by `majority`. An
    episode without an answer, or with a blank one, has 0 and no vote. Answers are one where their normalised strings
    are: other names of a thing and longer ways to say it (Oskel, the town of Oskel) are not merged, and split the vote.
    Range: {0, 1}. Source: Co-Reward's code, with two views; with more, the votes of all others are counted together.
    Needs: nothing of a question without `only_if_correct`, else `golden_answers`; and a unit of kind `paraphrase_set`
    with two or more views. NaN in any other unit, and where no other view voted, answered or not.

    The published reward needs no gold answers (`only_if_correct: false`), and a policy can earn it in full by giving
    the same answer to everything: a wrong majority confirms itself. The default closes that.
    """

    name = "agreement"
    may_abstain = True
    unit_kinds = frozenset({"paraphrase_set"})
    needs = frozenset({"golden_answers"})

    def __init__(self, context: RewardContext, *, only_if_correct: bool = True) -> None:
        del context
        if not isinstance(only_if_correct, bool):
            raise ValueError(f"reward {self.name}: only_if_correct must be true or false, got {only_if_correct!r}")
        self.only_if_correct = only_if_correct
        self.needs = frozenset({"golden_answers"} if only_if_correct else set())

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score a unit: outcome `[num_trajectories]`, every turn NaN."""
        values = np.full(len(unit.trajectories), np.nan)
        if unit.kind != "paraphrase_set" or len({t.view for t in unit.trajectories}) < 2:
            return Scores.of_outcome(unit, values)
        answers = [_answer(trajectory) for trajectory in unit.trajectories]
        votes = [(t.view, answer) for t, answer in zip(unit.trajectories, answers, strict=True) if answer is not None]
        targets = {t.view: majority(v for v in votes if v[0] != t.view) for t in unit.trajectories}
        for i, (trajectory, answer) in enumerate(zip(unit.trajectories, answers, strict=True)):
            question = question_of(trajectory, questions)
            applies = is_scorable(trajectory) and trajectory.finish_reason != "cut"
            if not applies or missing_fields(question, self.needs):
                continue
            target = targets[trajectory.view]
            if target is not None:
                right = not self.only_if_correct or exact_match(trajectory.final_answer, question.golden_answers) == 1.0
                values[i] = float(answer == target and right)
        return Scores.of_outcome(unit, values)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1]; 0 for a wrong answer where only right ones are paid."""
        del max_turns
        return Bounds(low=0.0, high=1.0 if correct or not self.only_if_correct else 0.0)


def _answer(trajectory: Trajectory) -> str | None:
    """The normalised answer, None where there is none that can vote. An answer of articles alone is one like any."""
    if not is_scorable(trajectory) or not has_answer(trajectory):
        return None
    return normalize_answer(trajectory.final_answer or "")
