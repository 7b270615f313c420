"""StepSearch's reward of sub-query keywords: did the queries ask what the gold sub-questions ask."""

from collections import Counter
from functools import lru_cache

from agent.trajectory import Trajectory
from envs.question import Hop, Question
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext
from rewards.sub_question import filled_sub_questions, key_word_counts, key_word_f1


class KeywordReward(OutcomeReward):
    """How well the best query for each gold sub-question matches its key words.

    Formula: outcome = (1/M) sum_i max_j max_t F1(q_t, k_ij), with M the hops that have key words, q_t the key words of
    the t-th search, and k_ij those of hop i's sub-question with the j-th combination of gold answers of earlier hops
    filled in (`#1` becomes the answer of hop 1, every alias of it in turn). Key words are the normalised words without
    articles and function words, counted as multisets. 0 where nothing was searched. Range: [0, 1].
    Source: r_key of StepSearch (Wang et al. 2025), whose recipe adds 0.618 of it to the answer's F1; two repairs: the
    best matching query counts, where the public code keeps the last one, and the reference sets come from the hops
    instead of a synthesised file. Needs: `hops`; without them, or where no sub-question has a key word, NaN.

    A query that lists the words of all hops at once loses precision in each of them, and the words of a later hop hold
    the answer of an earlier one, which has to be found first. Further queries never lower it, and it does not look at
    what was found: alone it collapses (StepSearch's ablation), so put an answer reward beside it.
    """

    name = "keyword"
    needs = frozenset({"hops"})

    def __init__(self, context: RewardContext) -> None:
        del context

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1], or NaN."""
        references = _references(question.hops)
        if not references:
            return float("nan")
        calls = (call for turn in trajectory.turns for call in turn.calls)
        queries = [key_word_counts(query) for query in dict.fromkeys(c.argument for c in calls if c.tool == "search")]
        best = [max((key_word_f1(q, k) for q in queries for k in hop), default=0.0) for hop in references]
        return sum(best) / len(best)

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1]; 0 where the only turn is the one that gives the right answer."""
        return Bounds(low=0.0, high=0.0 if correct and max_turns == 1 else 1.0)


@lru_cache(maxsize=10_000)
def _references(hops: tuple[Hop, ...]) -> list[list[Counter[str]]]:
    """The reference sets of each hop that has any; what comes back is shared, and only read."""
    variants = [[key_word_counts(text) for text in filled_sub_questions(hops, i)] for i in range(len(hops))]
    filled = [[words for words in hop if words] for hop in variants]
    return [hop for hop in filled if hop]
