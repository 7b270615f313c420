"""PS-GRPO's reward: does a rollout answer like the rollouts of the other wordings of its question."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

import numpy as np

from agent.trajectory import Trajectory, Unit
from envs.question import Question
from rewards.annotation import is_scorable, missing_fields, question_of
from rewards.answer import exact_match, has_answer, normalize_answer
from rewards.bounds import Bounds
from rewards.embeddings import TextEmbeddings
from rewards.reward import RewardContext
from rewards.score import Scores
from rewards.similarity import Similarity, bleu2, embedding_similarity, token_f1
from rewards.text_space import shared_embeddings

_T = TypeVar("_T")
SimilarityName = Literal["bleu2", "token_f1", "embedding"]
REFUSALS = (
    "cannot be determined",
    "can not be determined",
    "cannot determine",
    "unknown",
    "not known",
    "unclear",
    "not sure",
    "none",
    "no answer",
    "noanswer",
    "n/a",
    "na",
    "i do not know",
    "i don't know",
    "insufficient information",
    "not enough information",
    "not available",
    "not found",
    "not specified",
)
"""Answers that say nothing. Giving the same one to every wording would be perfectly consistent."""


class ConsistencyReward:
    """Agreement of a rollout's answer with those of the other wordings, in units of kind `paraphrase_set`.

    Formula: outcome of rollout j of wording i = mean over the wordings u != i of mean over the rollouts m of u of
    sim(o_ij, o_um), which with g rollouts of each of n wordings is 1 / ((n - 1) g) times the sum. `similarity`: `bleu2`
    (smoothed, o_um the reference), `token_f1`, or `embedding` (cosine by the sentence-transformers `model`); it is
    computed once for each distinct pair of answers. A rollout that ended without an answer, with a blank one, or with
    one of the `refusals`, has similarity 0 with everything and gets 0; outages are left out on both sides, and so are
    candidates that were cut. NaN where no other wording has a rollout left: in a plain group always. With
    `only_if_correct`, 0 where the answer is not an exact match. Range: [0, 1].
    Source: Con-RAG (arXiv 2510.04392), whose reward is alpha * r_cons + gamma * F1 with values not recovered: the
    weights of this reward and of `f1` in the config. Needs: `paraphrases`, and `golden_answers` with `only_if_correct`.

    With `wordings` (kappa) and `rollouts` (s), the sampled estimate: kappa of the other wordings without replacement,
    s rollouts of each without replacement, all uniformly. The ids of unit and trajectory shuffle both, and `seed` says
    where in the shuffled order to begin, so a resume draws the same, and consecutive seeds go evenly round: it is
    unbiased, and 1,000 seeds average to the exact reward within 0.01. The standard error of one draw, over
    ids, is at most 0.5 / sqrt(kappa) whatever s is, as a similarity is in [0, 1]; `standard_error` gives it for a table
    of them. Over the seeds of one fixed rollout, which are a sweep and no independent draws, single values can scatter
    more. Exact is the default: cached by distinct pair, it costs little for short answers.

    Consistently wrong is paid like consistently right: put an answer reward beside it, or set `only_if_correct`.
    """

    name = "consistency"
    may_abstain = True
    unit_kinds = frozenset({"paraphrase_set"})

    def __init__(
        self,
        context: RewardContext,
        *,
        similarity: SimilarityName = "bleu2",
        model: str | None = None,
        wordings: int | None = None,
        rollouts: int | None = None,
        seed: int = 0,
        only_if_correct: bool = False,
        refusals: Sequence[str] = REFUSALS,
        embeddings: TextEmbeddings | None = None,
    ) -> None:
        del context
        if similarity not in get_args(SimilarityName):
            raise ValueError(
                f"reward {self.name}: similarity must be one of {get_args(SimilarityName)}, got {similarity!r}"
            )
        if similarity == "embedding" and model is None and embeddings is None:
            raise ValueError(
                f"reward {self.name}: similarity embedding needs a model, a sentence-transformers name or folder"
            )
        if similarity != "embedding" and model is not None:
            raise ValueError(
                f"reward {self.name}: model {model!r} is for similarity embedding, and similarity is {similarity}; set "
                "similarity: embedding, or leave the model out"
            )
        if not isinstance(model, str | None):
            raise ValueError(f"reward {self.name}: model must be a folder or a hub id, got {model!r}")
        if (wordings is None) != (rollouts is None):
            raise ValueError(
                f"reward {self.name}: the sampled estimate needs both wordings (kappa) and rollouts (s), got "
                f"{wordings!r} and {rollouts!r}; leave both out for the exact reward"
            )
        for parameter, value in (("wordings", wordings), ("rollouts", rollouts)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"reward {self.name}: {parameter} must be a whole number >= 1, got {value!r}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"reward {self.name}: seed must be a whole number, got {seed!r}")
        if not isinstance(only_if_correct, bool):
            raise ValueError(f"reward {self.name}: only_if_correct must be true or false, got {only_if_correct!r}")
        if not isinstance(refusals, list | tuple) or not all(isinstance(refusal, str) for refusal in refusals):
            raise ValueError(f"reward {self.name}: refusals must be a list of answers, got {refusals!r}")
        self.only_if_correct = only_if_correct
        self.wordings, self.rollouts, self.seed = wordings, rollouts, seed
        self.embeddings: TextEmbeddings | None = None
        if similarity == "embedding":
            self.embeddings = embeddings or shared_embeddings(model or "")
        self.needs = frozenset({"paraphrases"} | ({"golden_answers"} if only_if_correct else set()))
        self._similarity: Similarity = (
            embedding_similarity(self.embeddings)
            if self.embeddings
            else {"bleu2": bleu2, "token_f1": token_f1}[similarity]
        )
        self._refusals = frozenset(normalize_answer(refusal) for refusal in refusals)

    def __call__(self, unit: Unit, questions: Mapping[str, Question]) -> Scores:
        """Score every rollout of a set: outcome `[num_trajectories]`, every turn NaN."""
        values = np.full(len(unit.trajectories), np.nan)
        if unit.kind != "paraphrase_set":
            return Scores.of_outcome(unit, values)
        answers = [self._answer(trajectory) for trajectory in unit.trajectories]
        views: dict[int, list[int]] = {}
        for i, trajectory in enumerate(unit.trajectories):
            annotated = not missing_fields(question_of(trajectory, questions), self.needs)
            if annotated and is_scorable(trajectory) and trajectory.finish_reason != "cut":
                views.setdefault(trajectory.view, []).append(i)
        if self.embeddings is not None:  # all at once: one batch for the encoder
            self.embeddings.vectors([text for text in (normalize_answer(a or "") for a in answers) if text])
        table: dict[tuple[str, str], float] = {}
        for view, members in views.items():
            others = [views[other] for other in sorted(views) if other != view]
            if not others:
                continue
            for i in members:
                trajectory = unit.trajectories[i]
                golds = question_of(trajectory, questions).golden_answers
                if self.only_if_correct and exact_match(trajectory.final_answer, golds) < 1.0:
                    values[i] = 0.0
                    continue
                drawn = self._drawn(others, unit, trajectory)
                values[i] = _mean([_mean([self._like(answers[i], answers[m], table) for m in u]) for u in drawn])
        return Scores.of_outcome(unit, values)

    def _answer(self, trajectory: Trajectory) -> str | None:
        """The answer, or None where it says nothing."""
        if not has_answer(trajectory) or normalize_answer(trajectory.final_answer or "") in self._refusals:
            return None
        return trajectory.final_answer

    def _like(self, answer: str | None, other: str | None, table: dict[tuple[str, str], float]) -> float:
        if answer is None or other is None:
            return 0.0
        pair = (answer, other)
        if pair not in table:
            table[pair] = self._similarity(answer, other)
        return table[pair]

    def _drawn(self, others: list[list[int]], unit: Unit, trajectory: Trajectory) -> list[list[int]]:
        """The rollouts to compare with, wording by wording: all, or a sample."""
        if self.wordings is None or self.rollouts is None:
            return others
        named = f"{unit.id} {trajectory.id}".encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(named).digest()[:8], "big"))
        # Members in the order of their ids, so that the draw does not depend on the order inside the unit.
        ordered = [sorted(members, key=lambda m: unit.trajectories[m].id) for members in others]
        shuffled = [[members[m] for m in rng.permutation(len(members))] for members in ordered]
        wordings = [shuffled[u] for u in rng.permutation(len(shuffled))]
        lap, start = divmod(self.seed, len(wordings))
        return [_window(members, lap, self.rollouts) for members in _window(wordings, start, self.wordings)]

    def bounds(self, *, correct: bool, max_turns: int) -> Bounds:
        """[0, 1], and 0 for wrong answers with `only_if_correct`."""
        return Bounds(low=0.0, high=0.0 if self.only_if_correct and not correct else 1.0)


def _mean(values: Sequence[float]) -> float:
    """Summed exactly, so that the order of a unit's trajectories makes no difference."""
    return math.fsum(values) / len(values)


def _window(values: list[_T], start: int, length: int) -> list[_T]:
    """`length` of the values in a circle, beginning at `start`; all of them where there are no more."""
    return [values[(start + k) % len(values)] for k in range(min(length, len(values)))]


def standard_error(similarities: Sequence[Sequence[float]], *, wordings: int, rollouts: int) -> float:
    """The standard error of one sampled estimate of one rollout's reward.

    With x_um the similarity with rollout m of wording u, N other wordings of M_u rollouts each, mean x_u and variance
    v_u (over M_u - 1) of a wording's similarities, and V the variance of the x_u (over N - 1):
    SE^2 = (1 - kappa/N) V / kappa + (1 / (kappa N)) sum_u (1 - s/M_u) v_u / s, for kappa = min(wordings, N) and
    s = min(rollouts, M_u): two-stage sampling without replacement (Cochran 1977, chapter 10). 0 where all are drawn.

    Args:
        similarities: one sequence for each other wording, `[N][M_u]`.
        wordings: kappa, the wordings drawn.
        rollouts: s, the rollouts drawn of each.
    """
    means = np.array([np.mean(u) for u in similarities])
    num, kappa = len(means), min(wordings, len(means))
    between = (1 - kappa / num) * means.var(ddof=1) / kappa if num > 1 else 0.0
    within = 0.0
    for u in similarities:
        s = min(rollouts, len(u))
        within += (1 - s / len(u)) * float(np.var(u, ddof=1)) / s if len(u) > 1 else 0.0
    return float(np.sqrt(between + within / (kappa * num)))
