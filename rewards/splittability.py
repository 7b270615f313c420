"""Do the sub-queries of a search split the question: each near to it, all of it covered, none the same as another."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.failed_attempt import FailedAttemptReward
from rewards.reward import RewardContext, finite_parameter
from rewards.text_space import open_text_space
from rewards.tfidf import words

ENCODER_PEAK = 0.85
TFIDF_PEAK = 0.6
"""Mean cosine of a question and its paraphrases in the fictional world (preset tiny: 0.60, quartiles 0.49 and 0.73)."""


def rephrasing(similarity: float, peak: float) -> float:
    """max(0, 1 - |similarity - peak| / (1 - peak)): 1 at the peak, 0 for a copy and for what is too far; in [0, 1]."""
    return max(0.0, 1.0 - abs(similarity - peak) / (1.0 - peak))


def split_quality(cosines: NDArray[np.float64], peak: float) -> float:
    """The quality of one search's sub-queries, in [0, 1].

    cosines: `[1 + n, 1 + n]`, the question first, then its n >= 1 sub-queries. One sub-query: `rephrasing`. Several:
    0.5 cos(E(q), normalised mean of E_i) + 0.5 mean_i [ s_i (1 - mean over l != i of E_i . E_l) ], clipped to [0, 1].
    """
    to_question, among = cosines[0, 1:], cosines[1:, 1:]
    n = len(to_question)
    if n == 1:
        return rephrasing(float(to_question[0]), peak)
    length = float(np.sqrt(max(among.sum(), 0.0)))
    coverage = float(to_question.sum()) / length if length > 0 else 0.0
    to_siblings = (among.sum(axis=1) - np.diag(among)) / (n - 1)
    parts = float((to_question * (1.0 - to_siblings)).mean())
    return min(1.0, max(0.0, 0.5 * coverage + 0.5 * parts))


class SplittabilityReward(FailedAttemptReward):
    """A failed episode is paid for sub-queries that divide the question, less and less as training goes on.

    Formula: per search turn, `split_quality` of its sub-queries (a single one: max(0, 1 - |s - peak| / (1 - peak)), s
    its cosine with the question as it was asked); r = mean over search turns; outcome = share [0.5] * beta_t *
    (r * (1 - EM) + EM), with beta_t and `pay_right` as in `answerability`. `peak`: 0.85 with an encoder (SubSearch's);
    0.6 in TF-IDF space, the mean cosine of a question and its paraphrases in the fictional world.
    Range: [0, share * beta]. Source: SubSearch's code; peak in TF-IDF space: this project.
    Needs: `golden_answers`; without them NaN.

    A sub-query is one search call. One with the very words of the question or of a sub-query asked before is left out,
    and a search with nothing left has 0: copies of the question would otherwise count as covering it, and asking the
    same again as splitting further.
    """

    name = "splittability"

    def __init__(
        self,
        context: RewardContext,
        *,
        model: str | None = None,
        peak: float | None = None,
        share: float = 0.5,
        pay_right: bool = True,
        schedule: Mapping[str, Any] | None = None,
        max_fit_passages: int = 50_000,
    ) -> None:
        super().__init__(share=share, pay_right=pay_right, schedule=schedule)
        default = TFIDF_PEAK if model is None else ENCODER_PEAK
        self.peak = finite_parameter(self.name, "peak", default if peak is None else peak, minimum=0.5)
        if self.peak >= 1.0:
            raise ValueError(f"reward {self.name}: peak must be below 1, got {peak!r}; at 1 a copy would be the best")
        self.space = open_text_space(context, reward=self.name, model=model, max_fit_passages=max_fit_passages)

    def quality(self, trajectory: Trajectory, question: Question) -> float:
        """Mean split quality over search turns, in [0, 1]."""
        asked = question.wording(trajectory.view)
        said = {tuple(sorted(words(asked)))}
        by_turn: list[float] = []
        for turn in trajectory.turns:
            queries = [call.argument for call in turn.calls if call.tool == "search"]
            if not queries:
                continue
            fresh: list[str] = []
            for query in queries:
                key = tuple(sorted(words(query)))
                if key not in said:
                    said.add(key)
                    fresh.append(query)
            by_turn.append(split_quality(self.space.cosines([asked, *fresh]), self.peak) if fresh else 0.0)
        return sum(by_turn) / len(by_turn) if by_turn else 0.0
