"""Exact match, F1 and SubEM of short answers, defined once for training and evaluation.

The functions equal the official scorers: `hotpot_evaluate_v1.py` of HotpotQA for exact match and F1 (with its rule
that yes, no and noanswer only ever match themselves), Search-R1's `subem_check` for SubEM. With several golds the
best one counts. The rewards add one thing: an episode without an answer, or with a blank one, scores 0.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.trajectory import Trajectory
from envs.question import Question
from rewards.bounds import Bounds
from rewards.per_trajectory import OutcomeReward
from rewards.reward import RewardContext

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})


def normalize_answer(text: str) -> str:
    """Lower-case, drop ASCII punctuation, drop the articles a, an, the, collapse whitespace; in this order.

    Unicode is left as it is: an accent or a typographic dash distinguishes two answers, as in the official scorer.

    >>> normalize_answer("The  U.S.-based band")
    'usbased band'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _best(measure: Callable[[str, str], float], prediction: str | None, golds: Sequence[str]) -> float:
    if isinstance(golds, str):
        raise ValueError(f"golds is a list of answers, got the single string {golds!r}; write [{golds!r}]")
    if not golds:
        return float("nan")
    if prediction is None:
        return 0.0
    answer = normalize_answer(prediction)
    return max(measure(answer, normalize_answer(gold)) for gold in golds)


class Overlap(NamedTuple):
    """What an answer's words share with a gold's: F1, precision and recall, in [0, 1]."""

    f1: float
    precision: float
    recall: float


def _overlap_of_normalized(prediction: str, gold: str) -> Overlap:
    if prediction != gold and (prediction in _CLOSED_ANSWERS or gold in _CLOSED_ANSWERS):
        return Overlap(0.0, 0.0, 0.0)
    predicted, wanted = prediction.split(), gold.split()
    num_same = sum((Counter(predicted) & Counter(wanted)).values())
    if num_same == 0:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = num_same / len(predicted), num_same / len(wanted)
    return Overlap(2 * precision * recall / (precision + recall), precision, recall)


def _f1_of_normalized(prediction: str, gold: str) -> float:
    return _overlap_of_normalized(prediction, gold).f1


def answer_overlap(prediction: str | None, golds: Sequence[str]) -> Overlap:
    """F1, precision and recall against the gold with the best F1: what HotpotQA's scorer makes joint figures of.

    None shares nothing; without golds all three are NaN.
    """
    if not golds:
        return Overlap(float("nan"), float("nan"), float("nan"))
    if prediction is None:
        return Overlap(0.0, 0.0, 0.0)
    answer = normalize_answer(prediction)
    return max(_overlap_of_normalized(answer, normalize_answer(gold)) for gold in golds)


def exact_match(prediction: str | None, golds: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals a normalised gold, else 0.0. None scores 0.0; without golds NaN.

    Source: HotpotQA's official scorer (Yang et al. 2018), which takes it from SQuAD.

    Raises:
        ValueError: `golds` is one string instead of a list.
    """
    return _best(lambda answer, gold: float(answer == gold), prediction, golds)


def f1(prediction: str | None, golds: Sequence[str]) -> float:
    """Token F1 with the best gold, in [0, 1]. None scores 0.0; without golds NaN.

    Tokens are the whitespace-separated words of the normalised answers, counted as multisets. Where either side is
    yes, no or noanswer and the two differ, F1 is 0. Source: HotpotQA's official scorer (Yang et al. 2018).

    Raises:
        ValueError: `golds` is one string instead of a list.
    """
    return _best(_f1_of_normalized, prediction, golds)


def sub_em(prediction: str | None, golds: Sequence[str]) -> float:
    """1.0 if a normalised gold is a substring of the normalised prediction, else 0.0. None scores 0.0; no golds NaN.

    A metric only, never a reward: an answer that copies every passage would have it. Source: Search-R1's `subem_check`.

    Raises:
        ValueError: `golds` is one string instead of a list.
    """
    return _best(lambda answer, gold: float(gold in answer), prediction, golds)


def has_answer(trajectory: Trajectory) -> bool:
    """True if the episode ended with an answer that holds more than whitespace."""
    answer = trajectory.final_answer
    return answer is not None and bool(answer.strip())


class ExactMatchReward(OutcomeReward):
    """Exact match of the final answer.

    Formula: outcome = `exact_match(answer, golden_answers)`; 0 where the episode ended without an answer or with a
    blank one. Range: {0, 1}. Source: HotpotQA's official scorer; the outcome reward of Search-R1 (Jin et al. 2025).
    Needs: `golden_answers`; without them NaN.
    """

    name = "exact_match"
    needs = frozenset({"golden_answers"})

    def __init__(self, context: RewardContext) -> None:
        del context

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """0.0 or 1.0."""
        return exact_match(trajectory.final_answer, question.golden_answers) if has_answer(trajectory) else 0.0

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """1 for right answers, 0 for the others."""
        return Bounds(low=float(correct), high=float(correct))


class F1Reward(OutcomeReward):
    """Token F1 of the final answer.

    Formula: outcome = `f1(answer, golden_answers)`; 0 where the episode ended without an answer or with a blank one.
    Range: [0, 1]. Source: HotpotQA's official scorer (Yang et al. 2018). Needs: `golden_answers`; without them NaN.
    """

    name = "f1"
    needs = frozenset({"golden_answers"})

    def __init__(self, context: RewardContext) -> None:
        del context

    def outcome(self, trajectory: Trajectory, question: Question) -> float:
        """In [0, 1]."""
        return f1(trajectory.final_answer, question.golden_answers) if has_answer(trajectory) else 0.0

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """1 for right answers, [0, 1] for the others: the words of a gold in another order have F1 1."""
        return Bounds(low=float(correct), high=1.0)
