"""Whether the answer says what a gold answer says, by a judge where it is no exact match."""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.answer import exact_match, has_answer, normalize_answer
from rewards.bounds import Bounds
from rewards.judge.judge import Judge, JudgeRequest
from rewards.judged import JudgedOutcomeReward
from rewards.parameter import opened_judge
from rewards.reward import RewardContext, whole_parameter
from rewards.wording import all_words, content_words, name_stems


class JudgedAnswerReward(JudgedOutcomeReward):
    """Exact match first, a judge on what is none.

    Formula: outcome = 1 for an exact match; 0 without an answer, and for one that is too long or leaves a choice open;
    else the score of the judge's verdict on the criterion `answer` (question, answer, golds). Too long: more than
    `max_extra_words` [10] words above the longest gold, which is a copied passage or a list. A choice left open: the
    word "or" where no gold has it, or, where the question itself names a gold (comparisons), another of its names
    beside it. `judge` [rules] is the judge; `rules` needs no model: an answer is right that states a gold in whole
    words, unless it negates it, names something else with it, or offers a second answer. A failed verdict is NaN.

    Range: [0, 1]. Source: exact match first and a verifier on what it misses is Search-Gen-V's strongest setting
    (linyue-ma/Search-Gen-V), and R3-RAG has a judge of correctness after the same match; the two limits are this
    project's. Needs: `golden_answers`; without them NaN.
    """

    name = "judged_answer"
    needs = frozenset({"golden_answers"})

    def __init__(
        self,
        context: RewardContext,
        *,
        max_extra_words: int = 10,
        judge: str | Mapping[str, Any] | Judge = "rules",
    ) -> None:
        del context
        self.max_extra_words = whole_parameter(self.name, "max_extra_words", max_extra_words)
        self.judge = opened_judge(judge)
        if self.judge is None:
            raise ValueError("reward judged_answer: judge must be named; without one, use exact_match")

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """A judge may call right what is no exact match."""
        return Bounds(low=1.0 if correct else 0.0, high=1.0)

    def requests(self, trajectory: Trajectory, question: Question) -> list[JudgeRequest]:
        """The answer against the golds, where it has a chance and is no exact match."""
        answer = trajectory.final_answer or ""
        if not self._is_open(trajectory, question):
            return []
        fields = {"question": question.wording(trajectory.view), "answer": answer, "golds": question.golden_answers}
        return [JudgeRequest(criterion="answer", fields=fields)]

    def outcome(self, trajectory: Trajectory, question: Question, verdicts: Sequence[float]) -> float:
        """In [0, 1]."""
        if verdicts:
            return verdicts[0]
        return exact_match(trajectory.final_answer, question.golden_answers) if has_answer(trajectory) else 0.0

    def _is_open(self, trajectory: Trajectory, question: Question) -> bool:
        answer, golds = trajectory.final_answer, question.golden_answers
        if answer is None or not has_answer(trajectory) or exact_match(answer, golds) == 1.0:
            return False
        is_short = _num_words(answer) <= max(map(_num_words, golds)) + self.max_extra_words
        return is_short and not leaves_a_choice_open(answer, question.wording(trajectory.view), golds)


def leaves_a_choice_open(answer: str, asked: str, golds: Sequence[str]) -> bool:
    """True if the answer offers alternatives, by the word "or" or by naming both sides of a comparison.

    "Lomira is older than Torvane" names both, too: who compares has to name the winner alone.
    """
    if "or" in all_words(answer) and not any("or" in all_words(gold) for gold in golds):
        return True
    if not any(content_words(gold) and content_words(gold) <= content_words(asked) for gold in golds):
        return False
    others = name_stems(asked).difference(*(content_words(gold) for gold in golds))
    return bool(content_words(answer) & others)


def _num_words(text: str) -> int:
    return len(normalize_answer(text).split())
