"""SLATE's reward of a step: thought and query, or thought and answer, each good, fair or bad."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory, Turn
from envs.question import Question
from retrieval.passage import Passage
from rewards.answer import exact_match, f1
from rewards.bounds import Bounds
from rewards.judge.judge import Judge, JudgeRequest
from rewards.judged import JudgedTurnReward, aggregated
from rewards.parameter import AGGREGATES, one_of, opened_judge
from rewards.principles import queries_of
from rewards.reading import Context, answers_of, contexts_of, read_passages, read_texts
from rewards.reward import RewardContext, finite_parameter, whole_parameter
from rewards.wording import all_words, content_words, jaccard, mentions, name_stems

SAME_WORDS = 0.8
"""Token Jaccard above which two queries, or two thoughts, say the same."""
_MIN_CONTENT_WORDS = 2
_FAIR_F1 = 0.5
_GOOD, _BAD = 2 / 3, 1 / 3


class StepQualityReward(JudgedTurnReward):
    """Ternary scores of thought and query, or thought and answer, of each turn, with a bonus for answering early.

    Formula, turns counted from t = 1: r_t = think + query at a turn that searches; think + answer + `early_bonus` [0.1]
    * max(0, (B - t) / B), B = `max_turns` [4], at one that answers; each component in {-1, 0, 1}. An invalid turn has
    -2. think: -1 without a content word, or with token Jaccard above 0.8 to an earlier thought; 1 if it has a word of a
    name of the question or of what was shown so far, and no name that stands in neither; else 0. query: -1 with fewer
    than 2 content words, or with token Jaccard above 0.8 to an earlier query or to another of its turn; 1 if it brought
    a gold support, or an answer of a hop or of the question, for the first time; else 0, also where it was not carried
    out. answer: 1 for an exact match, 0 for token F1 of at least 0.5, else -1. With `judge` (criteria `thought`,
    `query`, `answer`; the query is judged without its results) a score s counts as 1 from 2/3 up, -1 up to 1/3, else 0;
    a failed verdict makes the turn NaN.

    Range: r_t in [-2, 2], at an answer [-2, 2 + early_bonus]: that is `aggregate: sum`. With `mean`, the default,
    turn[t] = r_t / (number of turns that have one), so the sum over a trajectory stays in that range: summed, a fresh
    thought with a useless query is worth 1 a turn, and searching on pays more than answering. Candidates of one step
    have equally many turns, so among them the two differ by a factor alone.
    Source: SLATE (algoprog/SLATE), whose components are a language model's; the rules are this project's, t counts from
    1 as in the paper and not from 0 as in its code, and a failed verdict is not 0. Needs: `golden_answers`,
    `supporting_ids` (`golden_answers` alone with a judge); without them NaN.
    """

    name = "step_quality"

    def __init__(
        self,
        context: RewardContext,
        *,
        early_bonus: float = 0.1,
        max_turns: int = 4,
        aggregate: str = "mean",
        judge: str | Mapping[str, Any] | Judge | None = None,
    ) -> None:
        self._passage = context.passage
        self.early_bonus = finite_parameter(self.name, "early_bonus", early_bonus)
        self.max_turns = whole_parameter(self.name, "max_turns", max_turns, minimum=1)
        self.aggregate = one_of(self.name, "aggregate", aggregate, AGGREGATES)
        self.judge = opened_judge(judge)
        self.needs = frozenset({"golden_answers"} | ({"supporting_ids"} if self.judge is None else set()))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """By rules a right answer scores at least -1 + 1 at its turn, and a wrong one at most 1 + 0 and the bonus.

        A right answer keeps at least one turn's worth above -2 each; a judge may call it anything.
        """
        best_answer, worst_answer = (2.0, -2.0) if self.judge is not None else (2.0, 0.0) if correct else (1.0, -2.0)
        totals: list[float] = []
        for num_turns in range(1, max_turns + 1):
            bonus = self._bonus(num_turns)
            parts = num_turns if self.aggregate == "mean" else 1
            searches = 2.0 * (num_turns - 1)
            totals += [(best_answer + bonus + searches) / parts, (worst_answer + bonus - searches) / parts]
            if not correct:
                totals += [2.0 * num_turns / parts, -2.0 * num_turns / parts]
        return Bounds(low=min(totals), high=max(totals))

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """Thought and queries, or thought and answer, of each valid turn; an empty thought is not asked about."""
        asked: list[JudgeRequest] = []
        wording = question.wording(trajectory.view)
        for t, turn in enumerate(trajectory.turns):
            action = turn.action
            context = read_texts(trajectory.turns[:t], self._passage)
            fields = {"question": wording, "thought": action.thought, "context": context}
            if action.kind != "invalid" and action.thought.strip():
                asked.append(JudgeRequest(criterion="thought", fields=fields))
            if action.kind == "call":
                asked.append(JudgeRequest(criterion="query", fields={**fields, "query": queries_of(turn)}))
            elif action.kind == "answer":
                fields = {"question": wording, "answer": action.answer or "", "golds": question.golden_answers}
                asked.append(JudgeRequest(criterion="answer", fields=fields))
        return asked

    def turns(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> NDArray[np.float64]:
        """`[num_turns]`, each in [-2, 2 + early_bonus] before it is shared out."""
        scores = map(_ternary, verdicts)
        context = contexts_of(trajectory, question, self._passage) if self.judge is None else []
        new = _bringing_turns(trajectory, question, self._passage) if self.judge is None else frozenset[int]()
        values = np.empty(trajectory.num_turns)
        for t, turn in enumerate(trajectory.turns):
            if turn.action.kind == "invalid":
                values[t] = -2.0
                continue
            if self.judge is not None:
                think = next(scores) if turn.action.thought.strip() else -1.0
                said = next(scores)
            else:
                think = _think(trajectory.turns, t, context[t])
                is_call = turn.action.kind == "call"
                said = _query(trajectory.turns, t, brings=t in new) if is_call else _answer(turn, question)
            bonus = self._bonus(t + 1) if turn.action.kind == "answer" else 0.0
            values[t] = think + said + bonus
        return aggregated(values, self.aggregate)

    def _bonus(self, turn: int) -> float:
        return self.early_bonus * max(0.0, (self.max_turns - turn) / self.max_turns)


def _think(turns: Sequence[Turn], t: int, context: Context) -> float:
    thought = turns[t].action.thought
    words, content = all_words(thought), content_words(thought)
    earlier = (all_words(turn.action.thought) for turn in turns[:t])
    if not content or any(jaccard(words, others) > SAME_WORDS for others in earlier):
        return -1.0
    return 1.0 if content & context.key_words and name_stems(thought) <= context.content_words else 0.0


def _query(turns: Sequence[Turn], t: int, *, brings: bool) -> float:
    asked = [all_words(request.argument) for turn in turns[:t] for request in turn.action.requests]
    for request in turns[t].action.requests:
        words = all_words(request.argument)
        is_repeated = any(jaccard(words, others) > SAME_WORDS for others in asked)
        if is_repeated or len(content_words(request.argument)) < _MIN_CONTENT_WORDS:
            return -1.0
        asked.append(words)
    return float(brings)


def _answer(turn: Turn, question: Question) -> float:
    answer, golds = turn.action.answer, question.golden_answers
    if answer is None or not answer.strip():
        return -1.0
    if exact_match(answer, golds) == 1.0:
        return 1.0
    return 0.0 if f1(answer, golds) >= _FAIR_F1 else -1.0


def _bringing_turns(trajectory: Trajectory, question: Question, passage: Callable[[str], Passage]) -> frozenset[int]:
    """Turns that showed a gold support, or said an answer of the question or of a hop, for the first time."""
    missing, unsaid = set(question.supporting_ids), set(answers_of(question))
    found: set[int] = set()
    for t, turn in enumerate(trajectory.turns):
        passages = read_passages(turn, passage)
        supports = missing & {p.id for p in passages}
        said = {answer for answer in unsaid if any(mentions(p.contents, (answer,)) for p in passages)}
        if supports or said:
            found.add(t)
        missing -= supports
        unsaid -= said
    return frozenset(found)


def _ternary(score: float) -> float:
    if np.isnan(score):
        return score
    return 1.0 if score >= _GOOD else -1.0 if score <= _BAD else 0.0
