"""What a set of finished episodes is worth: figures per question, their means, and 95 % bootstrap intervals.

Every figure is one number per question (the mean over its samples, where there are several); NaN means "does not
apply" and leaves that mean. An outage of the retriever or the engine counts as a wrong answer, because a user got none,
but the exact match without such episodes stands beside it. EM, F1 and SubEM are those of `rewards.answer`, the two
citation figures those of `rewards.citation`: each is defined once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import FINISH_REASONS, NOT_THE_POLICYS_FAULT, Trajectory
from envs.question import Question
from evaluation.abstention import abstains
from evaluation.episode_cost import duplicate_searches, input_tokens
from evaluation.significance import bootstrap_interval
from evaluation.support_figures import over_citation, support_figures
from evaluation.trajectory_record import plain
from rewards.answer import exact_match, f1, sub_em
from rewards.citation import citation_precision, citation_recall, resolve_citations

METRICS: tuple[str, ...] = (
    "em",
    "f1",
    "subem",
    "support_recall",
    "citation_precision",
    "citation_recall",
    "searches_per_question",
    "turns_per_question",
    "tokens_per_question",
    "sampled_tokens_per_question",
    "observed_tokens_per_question",
    "support_em",
    "support_f1",
    "joint_em",
    "joint_f1",
    "over_citation",
    "abstention",
    "best_possible_em",
    "duplicate_searches_per_question",
    "input_tokens_per_question",
)
"""The means of a summary, each with `_low` and `_high` beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The figures of a set of episodes.

    Attributes:
        question_ids: the questions asked, in the order in which they first appear: `[num_questions]`.
        per_question: for each name of `METRICS`, and `em_without_outages`, one number per question: `[num_questions]`.
        finish_reasons: episodes by finish reason, all named.
        summary: the keys of `evaluate --json`, intervals included; None where nothing applies.
    """

    question_ids: tuple[str, ...]
    per_question: dict[str, NDArray[np.float64]]
    finish_reasons: dict[str, int]
    summary: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """Summary and per-question figures as JSON types (NaN as None)."""
        rows = {name: plain(values) for name, values in self.per_question.items()}
        return {**self.summary, "per_question": {"question_id": list(self.question_ids), **rows}}


def evaluate_trajectories(
    trajectories: Iterable[Trajectory],
    questions: Sequence[Question] | Mapping[str, Question],
    *,
    citations: bool = True,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Score finished episodes against their questions.

    Args:
        trajectories: the episodes, in any order; several of one question are averaged first.
        questions: at least every question asked, as a list or keyed by id.
        citations: whether the protocol knows citations; without them both citation figures do not apply.
        confidence: of the intervals, which are bootstrapped over questions with `seed`.

    Raises:
        ValueError: no trajectory at all, or one whose question is not among `questions`.
    """
    by_id = dict(questions) if isinstance(questions, Mapping) else {question.id: question for question in questions}
    rows: dict[str, list[dict[str, float]]] = {}
    reasons: Counter[str] = Counter()
    for trajectory in trajectories:
        if trajectory.question_id not in by_id:
            raise ValueError(
                f"trajectory {trajectory.id} answers question {trajectory.question_id!r}, which is not among the "
                f"{len(by_id)} questions given; evaluate it with the file that it was sampled from"
            )
        reasons[trajectory.finish_reason] += 1
        figures = episode_figures(trajectory, by_id[trajectory.question_id], citations=citations)
        rows.setdefault(trajectory.question_id, []).append(figures)
    if not rows:
        raise ValueError("there is no trajectory to evaluate; give at least one question")
    names = (*METRICS, "em_without_outages")
    per_question = {
        name: np.asarray([_mean([figures[name] for figures in samples]) for samples in rows.values()]) for name in names
    }
    finish_reasons: dict[str, int] = {reason: reasons[reason] for reason in FINISH_REASONS}
    summary: dict[str, Any] = {"n": len(rows), "num_trajectories": sum(reasons.values())}
    for name in names:
        low, high = bootstrap_interval(per_question[name], confidence=confidence, seed=seed)
        summary[name] = _mean(per_question[name])
        summary[f"{name}_low"], summary[f"{name}_high"] = low, high
    summary["num_outages"] = sum(reasons[reason] for reason in NOT_THE_POLICYS_FAULT)
    summary["finish_reasons"] = finish_reasons
    return Evaluation(
        question_ids=tuple(rows),
        per_question=per_question,
        finish_reasons=finish_reasons,
        summary=plain(summary),
    )


def episode_figures(trajectory: Trajectory, question: Question, *, citations: bool = True) -> dict[str, float]:
    """The figures of one episode, by the names of `METRICS`, and `em_without_outages` (NaN for an outage).

    support_recall: share of the question's supporting passages shown anywhere in the episode.
    citation_precision: share of the distinct citations of the answer that name a supporting passage; a number that was
        never shown counts as wrong; 0 where nothing is cited or answered.
    citation_recall: share of the supporting passages that the answer cites; 0 without an answer.
    The three are NaN where the question's supports are not annotated, as are the figures of `support_figures`
        (support_em, support_f1, joint_em, joint_f1) and over_citation.
    abstention: 1 if the episode declines to answer (`evaluation.abstention`); NaN for an outage.
    best_possible_em: 1 if it ended with an answer: EM, had every answer that was given been right.
    """
    prediction = trajectory.final_answer
    golds = question.golden_answers
    outage = trajectory.finish_reason in NOT_THE_POLICYS_FAULT
    em = exact_match(prediction, golds)
    supports = set(question.supporting_ids)
    cited = resolve_citations(trajectory)
    named = support_figures(cited, supports, prediction, golds)
    is_known = bool(supports) and citations
    sampled = float(sum(len(turn.action_ids) for turn in trajectory.turns))
    observed = float(sum(len(turn.observation_ids) for turn in trajectory.turns))
    return {
        "em": em,
        "f1": f1(prediction, golds),
        "subem": sub_em(prediction, golds),
        "support_recall": _support_recall(trajectory, supports),
        "citation_precision": citation_precision(cited, supports) if is_known else np.nan,
        "citation_recall": citation_recall(cited, supports) if is_known else np.nan,
        "searches_per_question": float(trajectory.num_searches),
        "turns_per_question": float(trajectory.num_turns),
        "tokens_per_question": sampled + observed,
        "sampled_tokens_per_question": sampled,
        "observed_tokens_per_question": observed,
        "em_without_outages": np.nan if outage else em,
        **{name: value if citations else np.nan for name, value in named._asdict().items()},
        "over_citation": over_citation(cited, supports) if is_known else np.nan,
        "abstention": np.nan if outage else float(abstains(trajectory)),
        "best_possible_em": float(trajectory.finish_reason == "answered") if golds else np.nan,
        "duplicate_searches_per_question": float(duplicate_searches(trajectory)),
        "input_tokens_per_question": float(input_tokens(trajectory)),
    }


def _support_recall(trajectory: Trajectory, supports: set[str]) -> float:
    if not supports:
        return np.nan
    seen = {shown.passage_id for turn in trajectory.turns for shown in turn.shown}
    return len(supports & seen) / len(supports)


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean of what applies, NaN where nothing does."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")
