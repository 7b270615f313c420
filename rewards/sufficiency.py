"""How much of the evidence was read, for each step that it took."""

from collections.abc import Iterable
from functools import lru_cache

from agent.trajectory import Trajectory
from envs.question import Hop, Question
from rewards.answer import has_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, share_parameter
from rewards.tfidf import words


def token_recall(evidence: str, passage_words: frozenset[str]) -> float:
    """Share of the distinct words of `evidence` that a passage has, in [0, 1]; 0 for evidence without words."""
    wanted = set(words(evidence.replace("_", " ")))
    return len(wanted & passage_words) / len(wanted) if wanted else 0.0


def num_steps(trajectory: Trajectory) -> int:
    """Turns, a turn with several tool calls counted once a call."""
    return sum(max(1, len(turn.calls)) for turn in trajectory.turns)


class SufficiencyReward(OutcomeReward):
    """Gold evidence that was shown, divided by the number of steps.

    Formula: outcome = (1/n) sum over evidence e of max over steps of match(e, step) / #steps. Evidence is one per
    annotated hop: its triple (subject, relation, object), or the sub-question and its answers where there is no triple.
    match = 1 if one passage shown in that step has at least `threshold` [0.6] of the words of e, and of its object (or
    of one of its answers), else 0. #steps = turns, the answer among them, a turn with several calls counted once a
    call. 0 without an answer. Range: [0, 1/2]. Source: the process reward of TeaRAG (arXiv 2511.05385, from reading
    notes); there a reranker scores e against sub-query, context and summary, the best scores are summed over e, the
    coverage of entities and sub-queries is added before dividing by the steps, and a question of one hop without
    evidence has F1 / steps. Here the sum is a mean, neither of the other two is there, and a question without
    annotated hops says nothing. Needs: `hops`; without them NaN.

    Choices: what the policy wrote itself (sub-query, summary) is no evidence, or writing the guess down would be paid.
    The answer is a step, or finding one of two hops in one search would be worth as much as finding both in two.
    Divided by steps, n hops found one by one earn 1 / (n + 1): compare inside a group, not across questions.
    """

    name = "sufficiency"
    needs = frozenset({"hops"})

    def __init__(self, context: RewardContext, *, threshold: float = 0.6) -> None:
        self.threshold = share_parameter(self.name, "threshold", threshold)
        self._passage = context.passage
        self._words_of = lru_cache(maxsize=100_000)(self._compute_words)

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1/2]."""
        if not has_answer(trajectory):
            return 0.0
        passages = [self._words_shown(trajectory, i) for i in _shown_ids(trajectory)]
        found = sum(any(self._matches(hop, passage) for passage in passages) for hop in question.hops)
        return found / len(question.hops) / num_steps(trajectory)

    def _matches(self, hop: Hop, passage: frozenset[str]) -> bool:
        if hop.triple is not None:
            whole, objects = " ".join(hop.triple), (hop.triple[2], *hop.answers)
        else:
            whole, objects = " ".join((hop.question, *hop.answers[:1])), hop.answers
        return token_recall(whole, passage) >= self.threshold and any(
            token_recall(thing, passage) >= self.threshold for thing in objects
        )

    def _words_shown(self, trajectory: Trajectory, passage_id: str) -> frozenset[str]:
        try:
            return self._words_of(passage_id)
        except KeyError:
            raise ValueError(
                f"trajectory {trajectory.id} was shown passage {passage_id!r}, which the reward's corpus does not "
                "have; build the reward's context from the index that the episodes search"
            ) from None

    def _compute_words(self, passage_id: str) -> frozenset[str]:
        return frozenset(words(self._passage(passage_id).contents))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1/2]: at best one search shows everything and the next turn answers."""
        del correct
        return Bounds(low=0.0, high=0.5 if max_turns > 1 else 0.0)


def _shown_ids(trajectory: Trajectory) -> Iterable[str]:
    return dict.fromkeys(shown.passage_id for turn in trajectory.turns for shown in turn.shown)
