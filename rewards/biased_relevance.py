"""Relevance of an answer with the biases that keep it from being hacked: length, repetition, and what is compared."""

from typing import Literal

import numpy as np

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import has_answer, normalize_answer
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext, finite_parameter, whole_parameter
from rewards.text_space import open_text_space

AnswerType = Literal["auto", "closed", "open"]


def repetition(tokens: list[str], order: int) -> float:
    """Share of the n-grams of this order that stood there before, in [0, 1); 0 without any."""
    grams = [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


class BiasedRelevanceReward(OutcomeReward):
    """How relevant an answer is, to the gold answer of a closed question or to the words of an open one.

    Formula: outcome = max(0, rel * min(1, length / L) - repetition_penalty [0.5] * rep).
    Closed: for each gold answer, rel = cos(E(answer), E(gold)), L = the gold's number of words, rep = share of repeated
    words beyond the gold's own; 1 where the two are equal after normalisation; the best gold counts. Open: rel =
    cos(E(question), E(answer)) * share of the answer's distinct words that the question does not have, L = `saturation`
    [50] words, rep = share of repeated word pairs. `answer_type`: `closed`, `open`, or `auto` [the default]: closed
    where the longest gold answer has at most `closed_words` [10] words. Words are those of the normalised answer. 0
    without an answer; negative cosines count 0. E is TF-IDF with the corpus's IDF, or the sentence encoder `model`.
    Range: [0, 1].
    Source: R^3 (naver-ai/RRR), of which the abstract alone was read: relevance, length incentive, repetition penalty
    and the switch are its ingredients, the formula is this project's. Needs: no annotation; `golden_answers` with
    `answer_type: closed`, without which NaN. A question without gold answers is open.

    Length saturates, so padding earns nothing; a copy of the question is relevant and says nothing, so it has 0.
    """

    name = "biased_relevance"
    needs = frozenset()

    def __init__(
        self,
        context: RewardContext,
        *,
        model: str | None = None,
        answer_type: AnswerType = "auto",
        repetition_penalty: float = 0.5,
        saturation: int = 50,
        closed_words: int = 10,
        max_fit_passages: int = 50_000,
    ) -> None:
        if answer_type not in ("auto", "closed", "open"):
            raise ValueError(f"reward {self.name}: answer_type must be auto, closed or open, got {answer_type!r}")
        self.answer_type = answer_type
        self.repetition_penalty = finite_parameter(self.name, "repetition_penalty", repetition_penalty)
        self.saturation = whole_parameter(self.name, "saturation", saturation, minimum=1)
        self.closed_words = whole_parameter(self.name, "closed_words", closed_words, minimum=1)
        self.needs = frozenset({"golden_answers"} if answer_type == "closed" else set())
        self.space = open_text_space(context, reward=self.name, model=model, max_fit_passages=max_fit_passages)

    def is_closed(self, question: Question) -> bool:
        """True if the question has an answer of a few words to compare with."""
        if self.answer_type != "auto":
            return self.answer_type == "closed"
        golds = question.golden_answers
        return bool(golds) and max(len(normalize_answer(g).split()) for g in golds) <= self.closed_words

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1]."""
        if not has_answer(trajectory):
            return 0.0
        answer = normalize_answer(trajectory.final_answer or "")
        if self.is_closed(question):
            return max(self._closed(answer, normalize_answer(gold)) for gold in question.golden_answers)
        return self._open(answer, normalize_answer(question.wording(trajectory.view)))

    def _closed(self, answer: str, gold: str) -> float:
        said, wanted = answer.split(), gold.split()
        if answer == gold:
            return 1.0
        length = min(1.0, len(said) / len(wanted)) if wanted else 0.0
        repeated = max(0.0, repetition(said, 1) - repetition(wanted, 1))
        return max(0.0, self._cosine(answer, gold) * length - self.repetition_penalty * repeated)

    def _open(self, answer: str, asked: str) -> float:
        said = answer.split()
        if not said:
            return 0.0
        novelty = len(set(said) - set(asked.split())) / len(set(said))
        relevance = self._cosine(answer, asked) * novelty * min(1.0, len(said) / self.saturation)
        return max(0.0, relevance - self.repetition_penalty * repetition(said, 2))

    def _cosine(self, a: str, b: str) -> float:
        return float(np.clip(self.space.cosines([a, b])[0, 1], 0.0, 1.0))

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1]; exactly 1 for a right answer where every question is closed."""
        del max_turns
        return Bounds(low=1.0 if correct and self.answer_type == "closed" else 0.0, high=1.0)
