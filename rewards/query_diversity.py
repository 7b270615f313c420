"""Pays a right answer for queries that asked different things, each of which found something."""

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, has_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext
from rewards.text_space import open_text_space


class QueryDiversityReward(OutcomeReward):
    """One minus the mean similarity of the episode's queries, where the answer is right.

    Formula: outcome = EM * (1 - mean over pairs i < j of sim(q_i, q_j)), over all search queries of the episode, with
    sim = max(E(q_i) . E(q_j), 0). With `productive_only` [true] sim = 1 for every pair in which a query's turn was not
    the first to show a gold support. Fewer than two queries have 0. A query without a word is a copy of all others. E
    is TF-IDF with the corpus's IDF, or the sentence encoder `model`. Range: [0, 1], 0 for a wrong answer or none.
    Source: SD-E^2 (arXiv 2601.17982), whose formula is known from the abstract alone; this is its form for searching.
    Needs: `golden_answers`, and `supporting_ids` with `productive_only`; without them NaN.

    In the plain form the cheapest cheat is a nonsense query beside the right ones: nothing is further away. Queries
    that found nothing new therefore lower the mean instead of raising it.
    """

    name = "query_diversity"
    needs = frozenset({"golden_answers", "supporting_ids"})

    def __init__(
        self,
        context: RewardContext,
        *,
        model: str | None = None,
        productive_only: bool = True,
        max_fit_passages: int = 50_000,
    ) -> None:
        if not isinstance(productive_only, bool):
            raise ValueError(f"reward {self.name}: productive_only must be true or false, got {productive_only!r}")
        self.productive_only = productive_only
        self.needs = frozenset({"golden_answers"} | ({"supporting_ids"} if productive_only else set()))
        self.space = open_text_space(context, reward=self.name, model=model, max_fit_passages=max_fit_passages)

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1]."""
        if not has_answer(trajectory) or exact_match(trajectory.final_answer, question.golden_answers) < 1.0:
            return 0.0
        missing = set(question.supporting_ids)
        queries: list[str] = []
        productive: list[bool] = []
        for turn in trajectory.turns:
            new = missing & {shown.passage_id for shown in turn.shown}
            missing -= new
            for call in turn.calls:
                if call.tool == "search":
                    found = new & {hit.passage.id for hit in call.hits}
                    new = new - found  # the support is the first query's that brought it
                    queries.append(call.argument)
                    productive.append(bool(found) or not self.productive_only)
        n = len(queries)
        if n < 2:
            return 0.0
        table = self.space.cosines(queries)
        says_something = np.diag(table) > 0
        counts = says_something & np.array(productive)
        distance = np.where(counts[:, None] & counts[None, :], 1.0 - np.clip(table, 0.0, 1.0), 0.0)
        return float(np.clip(distance[np.triu_indices(n, k=1)].mean(), 0.0, 1.0))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1] for a right answer after a search, else 0. Two queries may share a turn."""
        return Bounds(low=0.0, high=1.0 if correct and max_turns > 1 else 0.0)
