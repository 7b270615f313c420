"""R3-RAG's reward: how relevant the documents of each search were, scaled by how the episode came out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, f1, has_answer
from rewards.bounds import Bounds
from rewards.judge.judge import Judge, JudgeRequest
from rewards.judged import JudgedTurnReward
from rewards.parameter import AGGREGATES, one_of, opened_judge
from rewards.reading import answers_of, read_passages
from rewards.relevance import first_shown
from rewards.reward import RewardContext, finite_parameter, share_parameter
from rewards.wording import content_words, mentions, recall


class DocumentRelevanceReward(JudgedTurnReward):
    """Pays each search for relevant documents, more where the answer came out right, and the answer itself.

    Formula: at a turn with calls, turn[t] = c * rho_t / m, where rho_t in [0, 1] is the relevance of what it showed and
    c the scale of the end: `correct_scale` [1.6], `wrong_scale` [0.8], `unanswered_scale` [0.9], `malformed_scale`
    [0.8], and 1 for a branch's candidate that was cut. m is the number of turns with calls for `aggregate: mean`, the
    default, and 1 for `sum`, the source's, under which searching on for ever is worth more than answering. The turn
    that answers has `answer_step` [2.0] if the answer is right, else 0; every other turn 0. Right: an exact match, or
    token F1 of at least `min_f1` [0.8] (null: exact matches alone, which an ordering guarantee needs).

    rho_t by `relevance`: `support` (default), 1 if a gold support is shown for the first time; `alias`, 1 if an answer
    of the question or of a hop is said for the first time; `lexical`, the share of the query's content words in the
    best passage, the mean over the turn's queries (the policy writes the query, so quoting a passage that it has read
    earns 1). With `judge` (criterion `relevance`) its score; a failed verdict makes the turn NaN and leaves m.

    Range: mean, sum over turns in [0, answer_step + correct_scale]; sum, in [0, answer_step + (T - 1) correct_scale].
    Source: R3-RAG (Yuan-Li-FNLP/R3-RAG, `experience_maker.py`). Its rho is a language model's rating; first showings
    instead, the mean, and a malformed end that is worth no more than a wrong answer (the source leaves it rho, more
    than a wrong answer has) are this project's. As in the source an end without an answer is worth a little more than a
    wrong one: put `never_answering` beside it. Needs: `golden_answers`, and `supporting_ids` with `relevance: support`
    and no judge; without them NaN.
    """

    name = "document_relevance"

    def __init__(
        self,
        context: RewardContext,
        *,
        relevance: str = "support",
        aggregate: str = "mean",
        correct_scale: float = 1.6,
        wrong_scale: float = 0.8,
        unanswered_scale: float = 0.9,
        malformed_scale: float = 0.8,
        answer_step: float = 2.0,
        min_f1: float | None = 0.8,
        judge: str | Mapping[str, Any] | Judge | None = None,
    ) -> None:
        self._passage = context.passage
        self.relevance = one_of(self.name, "relevance", relevance, ("support", "alias", "lexical"))
        self.aggregate = one_of(self.name, "aggregate", aggregate, AGGREGATES)
        self.correct_scale = finite_parameter(self.name, "correct_scale", correct_scale)
        self.wrong_scale = finite_parameter(self.name, "wrong_scale", wrong_scale)
        self.unanswered_scale = finite_parameter(self.name, "unanswered_scale", unanswered_scale)
        self.malformed_scale = finite_parameter(self.name, "malformed_scale", malformed_scale)
        self.answer_step = finite_parameter(self.name, "answer_step", answer_step)
        self.min_f1 = None if min_f1 is None else share_parameter(self.name, "min_f1", min_f1)
        self.judge = opened_judge(judge)
        by_support = self.relevance == "support" and self.judge is None
        self.needs = frozenset({"golden_answers"} | ({"supporting_ids"} if by_support else set()))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """An answer leaves one turn fewer for searches; a close answer counts as right though it is no exact match."""

        def searches(num_turns: int) -> int:
            return min(num_turns, 1) if self.aggregate == "mean" else num_turns

        paid = self.answer_step + self.correct_scale * searches(max_turns - 1)
        if correct:
            return Bounds(low=self.answer_step, high=paid)
        ends = [
            self.wrong_scale * searches(max_turns - 1),
            max(self.unanswered_scale, self.malformed_scale, 1.0) * searches(max_turns),
        ]
        return Bounds(low=0.0, high=max(ends) if self.min_f1 is None else max(*ends, paid))

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """What each turn with calls showed, against its queries."""
        return [
            JudgeRequest(
                criterion="relevance",
                fields={
                    "question": question.wording(trajectory.view),
                    "query": "; ".join(call.argument for call in turn.calls),
                    "passages": [passage.contents for passage in read_passages(turn, self._passage)],
                },
            )
            for turn in trajectory.turns
            if turn.calls
        ]

    def turns(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> NDArray[np.float64]:
        """`[num_turns]`, 0 at turns that neither search nor answer."""
        searching = [t for t, turn in enumerate(trajectory.turns) if turn.calls]
        relevance = self._relevance(trajectory, question, searching) if self.judge is None else list(verdicts)
        is_right = self._is_right(trajectory, question)
        num_shares = sum(not np.isnan(rho) for rho in relevance) if self.aggregate == "mean" else 1
        values = np.zeros(trajectory.num_turns)
        for t, rho in zip(searching, relevance, strict=True):
            values[t] = self._scale(trajectory, is_right=is_right) * rho / max(num_shares, 1)
        if is_right:
            values[-1] = self.answer_step
        return values

    def _relevance(self, trajectory: Trajectory, question: Question, searching: Sequence[int]) -> list[float]:
        if self.relevance == "support":
            first = first_shown(trajectory)
            gains = {first[support] for support in question.supporting_ids if support in first}
            return [float(t in gains) for t in searching]
        rhos: list[float] = []
        unsaid = set(answers_of(question))
        for t in searching:
            turn = trajectory.turns[t]
            texts = [passage.contents for passage in read_passages(turn, self._passage)]
            if self.relevance == "alias":
                said = {answer for answer in unsaid if any(mentions(text, (answer,)) for text in texts)}
                unsaid -= said
                rhos.append(float(bool(said)))
            else:
                words = [content_words(text) for text in texts]
                best = [max((recall(content_words(c.argument), w) for w in words), default=0.0) for c in turn.calls]
                rhos.append(float(np.mean(best)))
        return rhos

    def _is_right(self, trajectory: Trajectory, question: Question) -> bool:
        if not has_answer(trajectory):
            return False
        answer, golds = trajectory.final_answer, question.golden_answers
        return exact_match(answer, golds) == 1.0 or (self.min_f1 is not None and f1(answer, golds) >= self.min_f1)

    def _scale(self, trajectory: Trajectory, *, is_right: bool) -> float:
        match trajectory.finish_reason:
            case "answered":
                return self.correct_scale if is_right else self.wrong_scale
            case "malformed":
                return self.malformed_scale
            case "cut":
                return 1.0
            case _:
                return self.unanswered_scale
