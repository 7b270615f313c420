"""Do the citations of the answer name the gold supports, and only those.

A citation is a number. It is resolved over the whole trajectory through `Turn.shown`: the passage that stood under
that number before the policy's eyes. A number that was never shown resolves to nothing and is a wrong citation. Two
marks on the same passage are one citation.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, whole_parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Citations:
    """What an answer cites: distinct passage ids, and distinct numbers that were never shown, in order of mention."""

    passage_ids: tuple[str, ...] = ()
    unresolved: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.passage_ids) + len(self.unresolved)


def resolve_citations(trajectory: Trajectory) -> Citations:
    """The citations of the final answer; empty where the episode ended without one.

    Where a protocol restarts its numbers each turn, a number means the passage that it stood for last.
    """
    if not has_answer(trajectory):
        return Citations()
    passage_of = {shown.number: shown.passage_id for turn in trajectory.turns for shown in turn.shown}
    numbers: Sequence[int] = trajectory.turns[-1].action.citations
    return Citations(
        passage_ids=tuple(dict.fromkeys(passage_of[n] for n in numbers if n in passage_of)),
        unresolved=tuple(dict.fromkeys(n for n in numbers if n not in passage_of)),
    )


def citation_precision(citations: Citations, supports: Collection[str]) -> float:
    """Share of the distinct citations that name a gold support, in [0, 1]; 0.0 where nothing is cited.

    Zero, not NaN, as in HotpotQA's official scorer of supporting facts: with NaN an answer without citations would
    leave the baseline and never be worse than the average, so that citing nothing would beat citing badly.
    """
    right = sum(passage_id in supports for passage_id in citations.passage_ids)
    return right / len(citations) if len(citations) else 0.0


def citation_recall(citations: Citations, supports: Collection[str]) -> float:
    """Share of the distinct gold supports that are cited, in [0, 1]; NaN without supports."""
    wanted = set(supports)
    return len(wanted & set(citations.passage_ids)) / len(wanted) if wanted else float("nan")


class _CitationReward(OutcomeReward):
    needs_of_protocol = frozenset({"citations"})

    def __init__(self, context: RewardContext, *, only_if_correct: bool = False) -> None:
        del context
        if not isinstance(only_if_correct, bool):
            raise ValueError(f"reward {self.name}: only_if_correct must be true or false, got {only_if_correct!r}")
        self.only_if_correct = only_if_correct
        self.needs = frozenset({"supporting_ids"} | ({"golden_answers"} if only_if_correct else set()))

    def _is_gated(self, trajectory: Trajectory, question: Question) -> bool:
        """True if the answer is wrong and only right answers are paid."""
        return self.only_if_correct and exact_match(trajectory.final_answer, question.golden_answers) < 1.0

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1]; 0 where nothing could be read before the answer, and for wrong answers with `only_if_correct`."""
        can_earn = max_turns > 1 and (correct or not self.only_if_correct)
        return Bounds(low=0.0, high=float(can_earn))


class CitationPrecisionReward(_CitationReward):
    """Share of the citations that name a gold support.

    Formula: outcome = #{distinct cited passages that are gold} / #{distinct citations, unresolved numbers included};
    0 where nothing is cited or nothing is answered; with `only_if_correct`, 0 where the answer is not an exact match.
    Range: [0, 1]. Source: precision of HotpotQA's supporting facts (Yang et al. 2018); paying citations only with a
    right answer is the mix of CaRR (C-GRPO). Needs: `supporting_ids`, and `golden_answers` with `only_if_correct`;
    without them NaN.
    """

    name = "citation_precision"
    needs = frozenset({"supporting_ids"})

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1]."""
        if self._is_gated(trajectory, question):
            return 0.0
        return citation_precision(resolve_citations(trajectory), question.supporting_ids)


class CitationRecallReward(_CitationReward):
    """Share of the gold supports that are cited, diluted where the answer cites far more than there are.

    Formula: outcome = recall * min(1, (n + slack) / m), where recall = #{distinct gold supports cited} / n, n the
    number of distinct gold supports and m that of distinct citations; 0 where nothing is cited or answered; with
    `only_if_correct`, 0 where the answer is not an exact match. Range: [0, 1]. Plain recall would pay citing everything
    in full; with the dilution, citations beyond n + `slack` cost. The evaluation's metric is the plain recall. Source:
    recall of HotpotQA's supporting facts (Yang et al. 2018); the dilution is this project's. Needs: `supporting_ids`,
    and `golden_answers` with `only_if_correct`; without them NaN.
    """

    name = "citation_recall"
    needs = frozenset({"supporting_ids"})

    def __init__(self, context: RewardContext, *, only_if_correct: bool = False, slack: int = 1) -> None:
        super().__init__(context, only_if_correct=only_if_correct)
        self.slack = whole_parameter(self.name, "slack", slack)

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1]."""
        if self._is_gated(trajectory, question):
            return 0.0
        citations = resolve_citations(trajectory)
        allowed = len(set(question.supporting_ids)) + self.slack
        return citation_recall(citations, question.supporting_ids) * min(1.0, allowed / max(len(citations), 1))
