"""IKEA's reward of knowing what one knows: a right answer is worth more the fewer searches it took."""

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.citation import resolve_citations
from rewards.format import is_well_formed
from rewards.parameter import flag
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, finite_parameter, whole_parameter

MALFORMED = -1.0


class BoundaryReward(OutcomeReward):
    """Right with few searches, before right with many, before wrong after searching, before wrong without.

    Formula: outcome = -1 where the trajectory is malformed; else, with s searches carried out,
    1 + `bonus` [0.6] * max(0, 1 - s / `free_searches` [3]) where the answer is an exact match, `wrong_searched` [0.05]
    where it is not and s > 0, else 0. Malformed: no turn, a turn that the protocol calls invalid or whose call says
    nothing, an end by `malformed`, with `thought_required` a turn without a thought (for protocols that have a thinking
    block), and an answer that cites a number under which nothing was shown. Range: [-1, 1 + bonus].
    Source: IKEA (hzy312/knowledge-r1, `qa_em.py`, the branch of the train split), with searches counted where they were
    carried out instead of by their tags; counting a citation of something unread as malformed is this project's:
    without it, inventing sources for a guess would be ahead of reading. A right answer from memory is meant to be worth
    most: this is no reward against guessing, and its boundary is the model's own. Needs: `golden_answers`; without them
    NaN.
    """

    name = "boundary"
    needs = frozenset({"golden_answers"})

    def __init__(
        self,
        context: RewardContext,
        *,
        bonus: float = 0.6,
        free_searches: int = 3,
        wrong_searched: float = 0.05,
        thought_required: bool = False,
    ) -> None:
        del context
        self.bonus = finite_parameter(self.name, "bonus", bonus)
        self.free_searches = whole_parameter(self.name, "free_searches", free_searches, minimum=1)
        self.wrong_searched = finite_parameter(self.name, "wrong_searched", wrong_searched)
        if self.wrong_searched >= 1.0:
            raise ValueError(
                f"reward {self.name}: wrong_searched must be below 1, what a right answer earns, got {wrong_searched!r}"
            )
        self.thought_required = flag(self.name, "thought_required", thought_required)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """A right answer can be malformed too: an invalid turn before it, or a source that was never shown."""
        return Bounds(low=MALFORMED, high=1.0 + self.bonus if correct else self.wrong_searched)

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [-1, 1 + bonus]."""
        if self._is_malformed(trajectory):
            return MALFORMED
        num_searches = trajectory.num_searches
        if has_answer(trajectory) and exact_match(trajectory.final_answer, question.golden_answers) == 1.0:
            return 1.0 + self.bonus * max(0.0, 1.0 - num_searches / self.free_searches)
        return self.wrong_searched if num_searches else 0.0

    def _is_malformed(self, trajectory: Trajectory) -> bool:
        return (
            not trajectory.turns
            or trajectory.finish_reason == "malformed"
            or not all(is_well_formed(turn) for turn in trajectory.turns)
            or (self.thought_required and not all(turn.action.thought.strip() for turn in trajectory.turns))
            or bool(resolve_citations(trajectory).unresolved)
        )
