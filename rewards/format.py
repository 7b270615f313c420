"""Did the policy keep to the protocol, turn by turn, up to an answer."""

from agent.trajectory import Trajectory, Turn
from envs.question import Question
from rewards.answer import has_answer, normalize_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, whole_parameter


def is_well_formed(turn: Turn) -> bool:
    """True if the protocol parsed the action, and every request in it says something."""
    action = turn.action
    if action.kind == "call":
        return bool(action.requests) and all(request.argument.strip() for request in action.requests)
    return action.kind == "answer" and action.error is None


class FormatReward(OutcomeReward):
    """Every turn is well formed and the last one answers.

    Formula: outcome = 1 if there is a turn, no turn is invalid by the protocol, the episode ended `answered`, and the
    answer has 1 to `max_answer_words` words after normalisation; else 0. Range: {0, 1}. One number a trajectory, not
    one a turn: a sum over turns would pay for turns. Source: the structure check of Search-R1 v0.3 (`qa_em_format`),
    on the parsed actions instead of the text. Needs: no annotation.

    A forged observation is an invalid action in every protocol, so it costs the whole reward. An immediate guess in
    good form earns it: weigh it well under the answer reward, so that it is a floor and never the goal.
    """

    name = "format"
    needs = frozenset()

    def __init__(self, context: RewardContext, *, max_answer_words: int = 50) -> None:
        del context
        self.max_answer_words = whole_parameter(self.name, "max_answer_words", max_answer_words, minimum=1)

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """0.0 or 1.0."""
        if not has_answer(trajectory) or not all(is_well_formed(turn) for turn in trajectory.turns):
            return 0.0
        num_words = len(normalize_answer(trajectory.final_answer or "").split())
        return float(num_words <= self.max_answer_words)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1], whatever the answer: the turns before a right one may be invalid, and it may be too long."""
        return Bounds(low=0.0, high=1.0)
