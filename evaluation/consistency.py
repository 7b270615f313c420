"""Does a policy answer alike however it is asked? Con-RAG's three components (arXiv:2510.04392), over greedy episodes.

Each question is asked in each of its wordings, every episode with searches of its own:

- retriever: how alike what the wordings found is, as sets of passages (Jaccard);
- end to end: how alike their answers are;
- generator: how alike their answers are where all of them read the same. Wording i is asked once more, and its n-th
  search finds what the n-th search of wording 0 found, whatever its query; further searches find nothing. The queries
  stay the wording's own: only what is read is held fixed, so what differs is what the policy makes of it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import ToolCall, Trajectory
from envs.actor import stable_seed
from envs.episode import EpisodeSpec
from envs.question import Question
from envs.units import Episodes, is_lost
from evaluation.significance import bootstrap_interval
from evaluation.trajectory_record import plain
from rewards.answer import normalize_answer
from rewards.similarity import Similarity, bleu2, token_f1

DEFAULT_WORDINGS = 6
"""Wordings of a question that are asked, itself included: Con-RAG's six."""


def same_answer(answer: str, other: str) -> float:
    """1.0 where two answers are the same once normalised, and not empty; else 0.0."""
    one = normalize_answer(answer)
    return float(bool(one) and one == normalize_answer(other))


SIMILARITIES: Mapping[str, Similarity] = {"f1": token_f1, "bleu2": bleu2, "em": same_answer}
"""Similarities of answers by name, in [0, 1]. An episode without an answer is like no other."""

MEASURES = (
    "consistency_retriever",
    *(f"consistency_generator_{name}" for name in SIMILARITIES),
    *(f"consistency_end_to_end_{name}" for name in SIMILARITIES),
)
"""The figures, one number per question, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """Consistency over questions.

    Attributes:
        question_ids: the questions with more than one wording: `[num_questions]`.
        per_question: for each of `MEASURES` one number per question, NaN where outages left no pair: `[num_questions]`.
        summary: mean and 95 % interval (`_low`, `_high`) of each; `consistency_generator` and `consistency_end_to_end`
            are those by token F1. `consistency_n` questions of at most `consistency_wordings` wordings.
    """

    question_ids: tuple[str, ...]
    per_question: dict[str, NDArray[np.float64]]
    summary: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """Summary and per-question figures as JSON types (NaN as None)."""
        rows = {name: plain(values) for name, values in self.per_question.items()}
        return {**self.summary, "per_question": {"question_id": list(self.question_ids), **rows}}


async def evaluate_consistency(
    questions: Sequence[Question],
    episodes: Episodes,
    *,
    wordings: int = DEFAULT_WORDINGS,
    seed: int = 0,
    noise: float = 0.0,
    name: str = "consistency",
    on_finish: Callable[[Trajectory], None] = lambda trajectory: None,
) -> Consistency:
    """Ask every question with a paraphrase in its first `wordings` wordings, greedily, twice but for wording 0.

    Costs, for n wordings, `2 n - 1` episodes a question, n of them with searches.

    Args:
        questions: those without a paraphrase are left out.
        episodes: where they are played, an `EpisodePool` for instance.
        wordings: asked of each question, itself included, at least 2; of a question with fewer, those that it has.
        seed: of the intervals, and of the scripted policies that draw.
        noise: share of searches that find nothing which helps (`envs.noise`).
        name: begins the episodes' ids.
        on_finish: called with each trajectory, for progress.

    Raises:
        ValueError: `wordings` below 2, or no question with a paraphrase.
    """
    asked = check_wordings(questions, wordings)
    specs = [
        EpisodeSpec(
            id=f"{name}-{question.id}-view{view:02d}",
            question=question,
            view=view,
            unit_id=f"{name}-{question.id}",
            group_id=f"{name}-{question.id}",
            seed=stable_seed(seed, question.id, view),
            temperature=0.0,
            noise=noise,
        )
        for question in asked
        for view in range(min(wordings, 1 + len(question.paraphrases)))
    ]
    own = await _play(episodes, specs, on_finish)
    first = {t.question_id: t for t in own if t.view == 0}
    fixed = [
        _reading(spec, first[spec.question.id]) for spec in specs if spec.view and not is_lost(first[spec.question.id])
    ]
    pinned = await _play(episodes, fixed, on_finish) if fixed else []
    return consistency_of(own, [*first.values(), *pinned], asked=[question.id for question in asked], seed=seed)


def consistency_line(consistency: Consistency) -> str:
    """The three components in a sentence, answers compared by token F1."""
    summary = consistency.summary

    def told(key: str) -> str:
        if summary[key] is None:
            return "not defined"
        return f"{summary[key]:.3f} ({summary[f'{key}_low']:.3f} to {summary[f'{key}_high']:.3f})"

    return (
        f"Consistency over at most {summary['consistency_wordings']} wordings of {summary['consistency_n']} questions: "
        f"retriever {told('consistency_retriever')}, generator {told('consistency_generator')}, end to end "
        f"{told('consistency_end_to_end')}."
    )


def check_wordings(questions: Sequence[Question], wordings: int) -> list[Question]:
    """The questions that have a paraphrase.

    Raises:
        ValueError: `wordings` below 2, or no question has one.
    """
    if wordings < 2:
        raise ValueError(f"wordings is {wordings}; consistency compares at least 2")
    asked = [question for question in questions if question.paraphrases]
    if not asked:
        raise ValueError(
            f"none of {len(questions)} questions has a paraphrase, and consistency compares answers over wordings: "
            "take a file whose questions have `paraphrases`, such as a world's"
        )
    return asked


def consistency_of(
    own: Sequence[Trajectory], fixed: Sequence[Trajectory], *, asked: Sequence[str], seed: int = 0
) -> Consistency:
    """The three components of finished episodes.

    `own`: one episode for each wording, with searches of its own; `fixed`: one for each wording, wording 0's own among
    them, that read what wording 0 found; `asked`: ids of the questions, in order.

    With y_i the answer to wording i and R_i what its searches found: retriever `mean over i < j of |R_i & R_j| / |R_i |
    R_j|` (pairs in which neither found anything say nothing), generator and end to end `mean over i != j of sim(y_i,
    y_j)`. Episodes that an outage ended are left out.
    """
    own_of, fixed_of = _by_question(own), _by_question(fixed)
    rows = [_measures(own_of.get(id, []), fixed_of.get(id, [])) for id in asked]
    per_question = {measure: np.array([row[measure] for row in rows], dtype=np.float64) for measure in MEASURES}
    summary: dict[str, Any] = {
        "consistency_n": len(asked),
        "consistency_wordings": max((len(members) for members in own_of.values()), default=0),
    }
    named = {measure: measure for measure in MEASURES}
    named |= {measure: f"{measure}_f1" for measure in ("consistency_generator", "consistency_end_to_end")}
    for key, measure in named.items():
        values = per_question[measure]
        summary[key] = float(np.nanmean(values)) if not np.isnan(values).all() else np.nan
        summary[f"{key}_low"], summary[f"{key}_high"] = bootstrap_interval(values, seed=seed)
    return Consistency(question_ids=tuple(asked), per_question=per_question, summary=plain(summary))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """`|A & B| / |A | B|`, NaN where both are empty.

    >>> jaccard(frozenset("ab"), frozenset("bc"))
    0.3333333333333333
    """
    return len(one & other) / len(one | other) if one or other else float("nan")


def _measures(own: Sequence[Trajectory], fixed: Sequence[Trajectory]) -> dict[str, float]:
    found = [frozenset(hit.passage.id for call in _searches(t) for hit in call.hits) for t in own]
    row = {"consistency_retriever": _mean([jaccard(a, b) for a, b in permutations(found, 2)])}
    for component, members in (("generator", fixed), ("end_to_end", own)):
        answers = [t.final_answer or "" for t in members]
        for name, similarity in SIMILARITIES.items():
            row[f"consistency_{component}_{name}"] = _mean(
                [similarity(a, b) if a and b else 0.0 for a, b in permutations(answers, 2)]
            )
    return row


def _mean(values: Sequence[float]) -> float:
    applicable = [value for value in values if not np.isnan(value)]
    return float(np.mean(applicable)) if applicable else float("nan")


def _by_question(trajectories: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    of_question: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        if not is_lost(trajectory):
            of_question.setdefault(trajectory.question_id, []).append(trajectory)
    return of_question


def _searches(trajectory: Trajectory) -> list[ToolCall]:
    return [call for turn in trajectory.turns for call in turn.calls if call.tool == "search"]


def _reading(spec: EpisodeSpec, first: Trajectory) -> EpisodeSpec:
    """The same wording, asked over what wording 0 found."""
    return EpisodeSpec(
        id=f"{spec.id}-fixed",
        question=spec.question,
        view=spec.view,
        unit_id=spec.unit_id,
        group_id=spec.group_id,
        seed=spec.seed,
        temperature=spec.temperature,
        pinned=tuple(call.hits for call in _searches(first)),
    )


async def _play(
    episodes: Episodes, specs: Sequence[EpisodeSpec], on_finish: Callable[[Trajectory], None]
) -> list[Trajectory]:
    futures = episodes.submit(specs)
    try:
        for future in asyncio.as_completed(futures):
            on_finish(await future)
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
