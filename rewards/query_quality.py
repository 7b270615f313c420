"""SmartSearch's reward: was each query new and useful, within bounds that keep right answers above wrong ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import ToolCall, Trajectory, Turn, Unit
from envs.question import Question
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.answer import exact_match, f1, has_answer
from rewards.bounds import Bounds
from rewards.format import FormatReward
from rewards.judge.judge import Judge, JudgeRequest
from rewards.parameter import opened_judge
from rewards.reward import Questions, RewardContext, finite_parameter, share_parameter, whole_parameter
from rewards.score import Scores
from rewards.wording import named_in

CorrectBy = Literal["exact_match", "f1"]
Placed = Literal["outcome", "turns", "good"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryScore:
    """One query: its turn, whether it showed something new, and how useful that was (1, 0, or NaN: a failed judge)."""

    turn: int
    query: str
    novel: bool
    useful: float

    @property
    def good(self) -> float:
        """1.0 novel and useful, 0.0 not, NaN where that hangs on a verdict that failed."""
        return self.useful if self.novel else 0.0


class QueryQualityReward:
    """Queries that are novel and useful, under a right or a wrong answer.

    Formula: r = r_comp + `format_bonus` * 1[well formed]; r_comp = max(1 - g * n_bad, `floor`) with a right answer, and
    min(g * n_good, `ceiling`) with a wrong one, g = `gamma`. A query (every search of a turn is one) is good where it
    is novel and useful, else bad. Novel: at most `max_overlap` of the documents that it showed had been shown before,
    identical in text, and not all of them. Useful: a document that it showed names, as whole words, an answer of a hop
    not resolved so far, or a gold answer if that was not shown so far; the hops so named are resolved. With `judge`,
    that judge says what is useful (criterion `usefulness`) instead. A verdict that failed makes the trajectory NaN.
    Right: an exact match, or with `correct_by: f1` an F1 of at least `threshold`.
    Range: [0, ceiling + format_bonus] wrong, [floor, 1 + format_bonus] right; ceiling + format_bonus < floor is
    checked, so that a right one is always above a wrong one. One number a trajectory; with `placed: turns` the same
    sum: each turn gets what its queries changed, the last one the answer and the form besides. With `placed: good` the
    score of the queries alone: turn[t] = the share of the turn's queries that are good, in [0, 1], NaN for a turn
    without one; its weight is to be 0, for it is what a `refine` unit chooses bad queries by.
    Source: SmartSearch (RUC-NLPIR), gamma 0.1, floor 0.7, ceiling 0.3, overlap 1 (its code takes F1 >= 0.8 as right);
    two repairs: a failed evaluator is not "good", and a query that shows nothing new is never novel, else repeating a
    search with one hit would be. Needs: `golden_answers`, and `hops` without a judge; without them NaN.

    Raises (when scoring):
        ValueError: a passage was shown that the corpus does not have, so the context belongs to another index.
    """

    name = "query_quality"

    def __init__(
        self,
        context: RewardContext,
        *,
        gamma: float = 0.1,
        floor: float = 0.7,
        ceiling: float = 0.3,
        format_bonus: float = 0.1,
        max_overlap: int = 1,
        correct_by: CorrectBy = "exact_match",
        threshold: float = 0.8,
        placed: Placed = "outcome",
        judge: str | Mapping[str, Any] | Judge | None = None,
    ) -> None:
        self.gamma = finite_parameter(self.name, "gamma", gamma)
        self.floor = finite_parameter(self.name, "floor", floor)
        self.ceiling = finite_parameter(self.name, "ceiling", ceiling)
        self.format_bonus = finite_parameter(self.name, "format_bonus", format_bonus)
        self.max_overlap = whole_parameter(self.name, "max_overlap", max_overlap)
        self.threshold = share_parameter(self.name, "threshold", threshold)
        if self.floor > 1.0 or self.ceiling + self.format_bonus >= self.floor:
            raise ValueError(
                f"reward {self.name}: a wrong answer could earn as much as a right one: ceiling {ceiling!r} + "
                f"format_bonus {format_bonus!r} must be below floor {floor!r}, and floor at most 1"
            )
        for parameter, value, allowed in (
            ("correct_by", correct_by, get_args(CorrectBy)),
            ("placed", placed, get_args(Placed)),
        ):
            if value not in allowed:
                raise ValueError(f"reward {self.name}: {parameter} must be one of {allowed}, got {value!r}")
        self.correct_by, self.placed = correct_by, placed
        self.needs = frozenset({"golden_answers"} | ({"hops"} if judge is None else set()))
        self.judge = opened_judge(judge)
        self._format = FormatReward(context)
        self._passage = context.passage

    def __call__(self, unit: Unit, questions: Questions) -> Scores:
        """Score every trajectory of a unit: outcome `[num_trajectories]`, or with `placed: turns` turn[i]."""
        scored: dict[int, tuple[Trajectory, Question]] = {}
        for i, trajectory in enumerate(unit.trajectories):
            question = question_of(trajectory, questions)
            applies = is_scorable(trajectory) and trajectory.finish_reason != "cut"
            if applies and not missing_fields(question, self.needs):
                scored[i] = (trajectory, question)
        turns = [np.full(trajectory.num_turns, np.nan) for trajectory in unit.trajectories]
        outcome = np.full(len(unit.trajectories), np.nan)
        failed = np.zeros(len(unit.trajectories), dtype=bool)
        for i, queries in zip(scored, self.query_scores(scored.values()), strict=True):
            failed[i] = any(np.isnan(query.good) for query in queries)
            if self.placed == "good":
                turns[i] = _share_of_good(scored[i][0].num_turns, queries)
            else:
                turns[i], outcome[i] = self._paid(*scored[i], queries)
        if self.placed == "outcome":
            return Scores.of_outcome(unit, outcome, failed=failed)
        return Scores.of_turns(unit, turns, failed=failed)

    def query_scores(self, trajectories: Iterable[tuple[Trajectory, Question]]) -> list[list[QueryScore]]:
        """The queries of each trajectory in their order; one call of the judge for all of them."""
        asked: list[JudgeRequest] = []
        read: list[list[tuple[int, ToolCall, bool, list[str]]]] = []
        pairs = list(trajectories)
        for trajectory, question in pairs:
            queries = self._read(trajectory)
            read.append(queries)
            if self.judge is not None:
                golds = list(question.golden_answers)
                text = question.wording(trajectory.view)
                asked += [_request(text, call.argument, new, golds) for _, call, novel, new in queries if novel]
        verdicts = iter(self.judge.ask(asked) if self.judge is not None and asked else ())
        scores: list[list[QueryScore]] = []
        for (_, question), queries in zip(pairs, read, strict=True):
            unresolved = [hop.answers for hop in question.hops] + [question.golden_answers]
            rows = []
            for turn, call, novel, shown in queries:
                if self.judge is None:
                    named = [any(named_in(text, answers) for text in shown) for answers in unresolved]
                    unresolved = [a for a, is_named in zip(unresolved, named, strict=True) if not is_named]
                    useful = float(any(named))
                else:
                    verdict = next(verdicts).score if novel else 0.0
                    useful = verdict if np.isnan(verdict) else float(verdict >= 0.5)
                rows.append(QueryScore(turn=turn, query=call.argument, novel=novel, useful=useful))
            scores.append(rows)
        return scores

    def _read(self, trajectory: Trajectory) -> list[tuple[int, ToolCall, bool, list[str]]]:
        """Turn, call, novelty and documents of each search; what was opened counts as seen."""
        seen: set[str] = set()
        queries = []
        for t, turn in enumerate(trajectory.turns):
            for call, ids in _shown_by_call(turn):
                texts = list(dict.fromkeys(self._text(passage_id, trajectory) for passage_id in ids))
                overlap = sum(text in seen for text in texts)
                seen.update(texts)
                if call.tool == "search":
                    novel = overlap <= self.max_overlap and (overlap < len(texts) or not texts)
                    queries.append((t, call, novel, texts))
        return queries

    def _text(self, passage_id: str, trajectory: Trajectory) -> str:
        try:
            return self._passage(passage_id).contents
        except KeyError:
            raise ValueError(
                f"trajectory {trajectory.id} was shown passage {passage_id!r}, which the reward's corpus does not "
                "have; build the reward's context from the index that the episodes search"
            ) from None

    def _paid(
        self, trajectory: Trajectory, question: Question, queries: Sequence[QueryScore]
    ) -> tuple[NDArray[np.float64], float]:
        """What each turn is paid, `[num_turns]`, and the sum; NaN where a verdict failed."""
        right = self._is_right(trajectory, question)
        paid = np.zeros(trajectory.num_turns)
        good, total = np.array([query.good for query in queries]), 0.0
        if np.isnan(good).any():
            return np.full(trajectory.num_turns, np.nan), float("nan")
        for query, is_good in zip(queries, good, strict=True):
            if right and not is_good:
                change = max(total - self.gamma, self.floor - 1.0) - total
            else:
                change = 0.0 if right or not is_good else min(total + self.gamma, self.ceiling) - total
            total += change
            paid[query.turn] += change
        end = float(right) + self.format_bonus * self._format.outcome(trajectory, question)
        if len(paid):
            paid[-1] += end
        return paid, total + end

    def _is_right(self, trajectory: Trajectory, question: Question) -> bool:
        if not has_answer(trajectory):
            return False
        if self.correct_by == "f1":
            return f1(trajectory.final_answer, question.golden_answers) >= self.threshold
        return exact_match(trajectory.final_answer, question.golden_answers) == 1.0

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """As in the class's Range; a turn may hold any number of queries, so `max_turns` counts only where it is 1."""
        if self.placed == "good":
            return Bounds(low=0.0, high=float(max_turns - correct))
        low, high = (self.floor, 1.0) if correct else (0.0, self.ceiling)
        if self.gamma == 0.0:
            low, high = (1.0, 1.0) if correct else (0.0, 0.0)
        if correct:
            return Bounds(low=1.0 if max_turns == 1 else low, high=high + self.format_bonus)
        if self.correct_by == "f1":  # an F1 above the threshold without an exact match counts as right
            return Bounds(low=0.0, high=max(high, 1.0) + self.format_bonus)
        can_be_well_formed = max_turns > 1  # a single turn that searches and does not answer is not
        return Bounds(low=0.0, high=max(self.format_bonus, high + self.format_bonus * can_be_well_formed))


def _share_of_good(num_turns: int, queries: Sequence[QueryScore]) -> NDArray[np.float64]:
    """Of each turn's queries the share that is good: `[num_turns]`, NaN without queries or where a verdict failed."""
    return np.array(
        [
            np.mean(good) if (good := [query.good for query in queries if query.turn == turn]) else np.nan
            for turn in range(num_turns)
        ],
        dtype=np.float64,
    )


def _shown_by_call(turn: Turn) -> list[tuple[ToolCall, list[str]]]:
    """What each call showed: a passage belongs to the first call that returned it, else to the first call."""
    shown: list[list[str]] = [[] for _ in turn.calls]
    returned = [{hit.passage.id for hit in call.hits} for call in turn.calls]
    for item in turn.shown:
        owners = [i for i, ids in enumerate(returned) if item.passage_id in ids]
        if shown:
            shown[owners[0] if owners else 0].append(item.passage_id)
    return list(zip(turn.calls, shown, strict=True))


def _request(question: str, query: str, passages: Sequence[str], golds: Sequence[str]) -> JudgeRequest:
    fields = {"question": question, "query": query, "passages": list(passages), "golds": list(golds)}
    return JudgeRequest(criterion="usefulness", fields=fields)
