"""PPR's reward of a step: how well a thought and its queries follow a few principles."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Turn
from envs.question import Question
from rewards.bounds import Bounds
from rewards.judge.judge import Judge, JudgeRequest
from rewards.judged import JudgedTurnReward, aggregated
from rewards.parameter import AGGREGATES, one_of, opened_judge
from rewards.reading import Context, contexts_of, read_passages, read_texts
from rewards.reward import RewardContext, whole_parameter
from rewards.wording import all_words, content_words, key_words

PRONOUNS = frozenset(
    {"he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their", "this", "these", "those"}
)
"""Not `that` and `there`, which mostly are none in a query."""
_WORD = re.compile(r"\w+")


class PrinciplesReward(JudgedTurnReward):
    """Share of six principles that a turn keeps; the turn that answers is left to an outcome reward.

    Formula: r_t = mean of the principles that apply at turn t, each 0 or 1.
    T1, the decision to search is right: a gold support has not been shown yet. T2, facts are extracted: the thought has
    a word of a name or number in what the turn before showed; applies where it showed something. T3, the reasoning is
    relevant: the thought shares a content word with the question. S1, the queries have key entities: they share a word
    with the names of the question or of what was shown so far. S2, they are clear: no pronoun. S3, they are concise: at
    most `max_query_words` [15] words, those of all queries of the turn together. S1 to S3 are 0 where T1 is 0 or a
    query is empty: a search that is not justified is no good search. A turn that neither searches nor answers has 0; a
    turn that answers is NaN. With `judge` r_t is the mean of its scores for the thought and for the queries (criteria
    `thought`, `query`), 0 for an empty thought without asking; a failed verdict makes the turn NaN.

    Range: r_t in [0, 1], `aggregate: sum`, which ReNorm needs: it centres each r_t with the outcome. With `mean`, the
    default, turn[t] = r_t / (number of turns that have one), so the sum over a trajectory is in [0, 1]: summed, every
    further search pays. Source: PPR (principle set of Zhuohao-Li/OpenTool-PRM), whose scores are a language model's;
    the rules are this project's, T1 from the annotation. Needs: `supporting_ids` without a judge; without them NaN.
    """

    name = "principles"
    may_abstain = True

    def __init__(
        self,
        context: RewardContext,
        *,
        aggregate: str = "mean",
        max_query_words: int = 15,
        judge: str | Mapping[str, Any] | Judge | None = None,
    ) -> None:
        self._passage = context.passage
        self.aggregate = one_of(self.name, "aggregate", aggregate, AGGREGATES)
        self.max_query_words = whole_parameter(self.name, "max_query_words", max_query_words, minimum=1)
        self.judge = opened_judge(judge)
        self.needs = frozenset({"supporting_ids"} if self.judge is None else ())

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """A right answer takes one of the turns."""
        num_turns = max_turns - 1 if correct else max_turns
        return Bounds(low=0.0, high=float(min(num_turns, 1) if self.aggregate == "mean" else num_turns))

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """Thought and queries of each turn that searches, in the context of what was shown before."""
        asked: list[JudgeRequest] = []
        for t in _searching(trajectory):
            action = trajectory.turns[t].action
            context = read_texts(trajectory.turns[:t], self._passage)
            fields = {"question": question.wording(trajectory.view), "thought": action.thought, "context": context}
            if action.thought.strip():
                asked.append(JudgeRequest(criterion="thought", fields=fields))
            asked.append(JudgeRequest(criterion="query", fields={**fields, "query": queries_of(trajectory.turns[t])}))
        return asked

    def turns(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> NDArray[np.float64]:
        """`[num_turns]`, NaN at the turn that answers."""
        values = np.array([np.nan if turn.action.kind == "answer" else 0.0 for turn in trajectory.turns])
        scores = iter(verdicts)
        contexts = contexts_of(trajectory, question, self._passage) if self.judge is None else []
        for t in _searching(trajectory):
            if self.judge is None:
                values[t] = float(np.mean(self._kept(trajectory, question, t, contexts[t])))
            else:
                thought = next(scores) if trajectory.turns[t].action.thought.strip() else 0.0
                values[t] = (thought + next(scores)) / 2.0
        return aggregated(values, self.aggregate)

    def _kept(self, trajectory: Trajectory, question: Question, t: int, context: Context) -> list[bool]:
        """The principles that apply at a turn that searches, and whether it keeps each."""
        turn, before = trajectory.turns[t], trajectory.turns[:t]
        shown = {s.passage_id for earlier in before for s in earlier.shown}
        is_justified = not shown.issuperset(question.supporting_ids)
        thought = content_words(turn.action.thought)
        last = [p.contents for p in read_passages(before[-1], self._passage)] if before else []
        facts = {word for text in last for word in key_words(text)}
        query = queries_of(turn)
        is_query = is_justified and all(request.argument.strip() for request in turn.action.requests)
        return [
            is_justified,
            *([bool(thought & facts)] if facts else []),
            bool(thought & content_words(question.wording(trajectory.view))),
            is_query and bool(content_words(query) & context.key_words),
            is_query and not all_words(query) & PRONOUNS,
            is_query and len(_WORD.findall(query)) <= self.max_query_words,
        ]


def queries_of(turn: Turn) -> str:
    """The queries of a turn's action as one text."""
    return "; ".join(request.argument for request in turn.action.requests)


def _searching(trajectory: Trajectory) -> list[int]:
    return [t for t, turn in enumerate(trajectory.turns) if turn.action.kind == "call" and turn.action.requests]
