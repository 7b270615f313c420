"""Pays a right answer for what it did not spend."""

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, finite_parameter

UNITS = ("searches", "tokens")


class EfficiencyReward(OutcomeReward):
    """What a right answer may cost, over what it cost.

    Formula: outcome = EM * min(1, free / max(spent, 1)). With `unit: searches` [the default] spent = tool calls carried
    out, searches and opened documents alike, and free = the number of distinct gold supports unless `free` says
    another; with `unit: tokens` spent = tokens that the policy sampled, observations left out, and `free` has to be
    given. 1 up to `free`, then falling as 1 / spent, never 0: one search too many costs most where few are needed.
    Range: [0, 1], 0 for a wrong answer or none. Source: the form is this project's; paying economy only with a right
    answer is what SD-E^2 and TeaRAG have in common. Needs: `golden_answers`, and `supporting_ids` where `free` is left
    out; without them NaN.

    Without the answer's gate, not searching at all would be the most efficient. Nothing is paid for less than `free`,
    so a right answer from memory has no advantage over one that was looked up.
    """

    name = "efficiency"
    needs = frozenset({"golden_answers", "supporting_ids"})

    def __init__(self, context: RewardContext, *, unit: str = "searches", free: float | None = None) -> None:
        del context
        if unit not in UNITS:
            raise ValueError(f"reward {self.name}: unit must be one of {UNITS}, got {unit!r}")
        if unit == "tokens" and free is None:
            raise ValueError(
                f"reward {self.name}: with unit tokens, free has to say how many sampled tokens a right answer may "
                "take without loss; give about the median of right answers, for example free: 200"
            )
        self.unit = unit
        self.free = None if free is None else finite_parameter(self.name, "free", free, minimum=1.0)
        self.needs = frozenset({"golden_answers"} | ({"supporting_ids"} if free is None else set()))

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1]."""
        if not has_answer(trajectory) or exact_match(trajectory.final_answer, question.golden_answers) < 1.0:
            return 0.0
        if self.unit == "tokens":
            spent = sum(len(turn.action_ids) for turn in trajectory.turns)
        else:
            spent = trajectory.num_searches + trajectory.num_opens
        free = len(set(question.supporting_ids)) if self.free is None else self.free
        return min(1.0, free / max(spent, 1))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """(0, 1] for a right answer, 0 for a wrong one. One turn searches nothing, so it is worth 1 in searches."""
        if not correct:
            return Bounds(low=0.0, high=0.0)
        return Bounds(low=1.0 if max_turns == 1 and self.unit == "searches" else 0.0, high=1.0)
