"""Exact match and form in one outcome, as Search-R1 and RE-Searcher weigh them."""

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.format import FormatReward
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, finite_parameter


class FormattedMatchReward(OutcomeReward):
    """Exact match, with a little of it for the form.

    Formula: with w = `format_weight` [0.2], outcome = 1 if the answer is an exact match and the form is kept, 1 - w if
    it is an exact match alone, w if the form is kept alone, else 0. The form is that of the `format` reward: every turn
    well formed, and an answer of 1 to `max_answer_words` [50] words at the end. Range: [0, 1]; w below 0.5 keeps every
    right answer above every wrong one. Source: RE-Searcher (arXiv:2509.26048) after Search-R1 v0.3; its printed
    equation pays kept form less than broken form, which is taken for a slip of the sign. Search-R1 also has 0.1 for a
    wrong answer that is there in broken form, which is 0 here, and a term for what was retrieved, 0 in its scripts,
    which is left out; its form is an order of tags, not that of `format`. Needs: `golden_answers`;
    without them NaN.
    """

    name = "formatted_match"
    needs = frozenset({"golden_answers"})

    def __init__(self, context: RewardContext, *, format_weight: float = 0.2, max_answer_words: int = 50) -> None:
        self.format_weight = finite_parameter(self.name, "format_weight", format_weight)
        if self.format_weight >= 0.5:
            raise ValueError(
                f"reward formatted_match: format_weight must be below 0.5, got {format_weight!r}; from there on a "
                "wrong answer in good form earns as much as a right one in bad form"
            )
        self._format = FormatReward(context, max_answer_words=max_answer_words)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """Whatever the number of turns."""
        return Bounds(low=1.0 - self.format_weight, high=1.0) if correct else Bounds(low=0.0, high=self.format_weight)

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """0, w, 1 - w or 1."""
        is_match = has_answer(trajectory) and exact_match(trajectory.final_answer, question.golden_answers) == 1.0
        has_form = self._format.outcome(trajectory, question) == 1.0
        if is_match:
            return 1.0 if has_form else 1.0 - self.format_weight
        return self.format_weight if has_form else 0.0
