"""StepSearch's reward of a search turn: how much new gold content it showed, less what it showed again."""

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.bounds import Bounds
from rewards.per_trajectory import TurnReward
from rewards.reward import RewardContext, finite_parameter, whole_parameter
from rewards.tfidf import PassageSimilarity


class InformationGainReward(TurnReward):
    """TF-IDF coverage gain over the gold passages, less the share of repeated passages.

    Formula, with D_t the passages shown at turn t, k of them, and n gold passages d_i:
    c_i(t) = max over d in D_t of cos(d_i, d); gain G(t) = (1/n) sum_i max(c_i(t) - m_i(t-1), 0), where m_i is the
    running maximum of c_i, from 0; P(t) = share of D_t shown before, at an earlier turn or earlier in this one;
    turn[t] = G(t) - `redundancy` * P(t), and 0 for a turn that showed nothing. Range: [-redundancy, 1] a turn; the
    gains of a trajectory telescope, so their sum is at most 1 however many searches there are.
    Source: StepSearch (Wang et al. 2025), with two repairs: the IDF is fitted once on the corpus (on at most
    `max_fit_passages` evenly spaced passages of it), not on the n + 1 texts of a call, and a repeat inside one turn
    counts. "Shown" is `Turn.shown`, not what the retriever returned. Needs: `supporting_ids`; without them, and where
    none of them is in the corpus, NaN. A support that the corpus lacks leaves the mean.

    Raises (when scoring):
        ValueError: a passage was shown that the corpus does not have, so the context belongs to another index.
    """

    name = "information_gain"
    needs = frozenset({"supporting_ids"})

    def __init__(
        self,
        context: RewardContext,
        *,
        redundancy: float = 1.0,
        max_fit_passages: int = 200_000,
        max_cached_passages: int = 100_000,
    ) -> None:
        corpus = context.corpus()  # refused now, not in the middle of a run, where it is on a server; nothing is read
        self.redundancy = finite_parameter(self.name, "redundancy", redundancy)
        self.similarity = PassageSimilarity(
            context.passage,
            lambda: corpus,
            max_fit_passages=whole_parameter(self.name, "max_fit_passages", max_fit_passages, minimum=1),
            max_cached_passages=whole_parameter(self.name, "max_cached_passages", max_cached_passages, minimum=1),
        )

    def turns(self, trajectory: Trajectory, question: Question) -> NDArray[np.float64]:
        """`[num_turns]`, 0 where a turn showed nothing."""
        gold = [support for support in dict.fromkeys(question.supporting_ids) if self.similarity.knows(support)]
        if not gold:
            return np.full(trajectory.num_turns, np.nan)
        covered = [0.0] * len(gold)
        seen: set[str] = set()
        values = np.zeros(trajectory.num_turns)
        for t, turn in enumerate(trajectory.turns):
            if not turn.shown:
                continue
            gain, num_repeated = 0.0, 0
            for passage_id in (shown.passage_id for shown in turn.shown):
                if passage_id in seen:
                    num_repeated += 1
                    continue
                seen.add(passage_id)
                for i, support in enumerate(gold):
                    similarity = self._cosine(support, passage_id, trajectory)
                    gain += max(similarity - covered[i], 0.0)
                    covered[i] = max(covered[i], similarity)
            values[t] = gain / len(gold) - self.redundancy * num_repeated / len(turn.shown)
        return values

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[-redundancy * n, 1] with n turns that can search: all, but for the one that gives the right answer.

        The lower end is approached, not reached: the first turn that shows anything shows something new.
        """
        num_searching = max_turns - 1 if correct else max_turns
        return Bounds(low=-self.redundancy * num_searching, high=1.0 if num_searching else 0.0)

    def _cosine(self, support: str, passage_id: str, trajectory: Trajectory) -> float:
        try:
            return self.similarity.cosine(support, passage_id)
        except KeyError:
            raise ValueError(
                f"trajectory {trajectory.id} was shown passage {passage_id!r}, which the reward's corpus does not "
                "have; build the reward's context from the index that the episodes search"
            ) from None
