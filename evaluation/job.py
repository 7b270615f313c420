"""One evaluation from files to files: a policy, an index and questions in; figures, trajectories and a report out.

Everything is checked before the model is loaded. What is written into the output folder: `evaluation.json` (summary,
controls, comparability, figures per question), `trajectories/` and `conditions/` (compressed and indexed, written as
episodes end: a killed evaluation goes on from them) and `report.html` with its `report.json`.
"""

import asyncio
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.engines.opening import OpenAISpec
from agent.protocol import AgentProtocol
from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory
from envs.datasets import check_supports_in, resolve_titles
from envs.noise import noise_line, noise_warnings
from envs.question import Question
from evaluation.ceilings import answers_found, coverage_ceiling
from evaluation.comparability import comparability_block
from evaluation.consistency import Consistency, check_wordings
from evaluation.controls import oracle_decomposition
from evaluation.episode_cost import latency_summary
from evaluation.evaluated_policy import (
    SCRIPTED,
    EvaluatedPolicy,
    load_model_policy,
    load_scripted_policy,
)
from evaluation.evaluation_file import FORMAT
from evaluation.job_play import JobPlay, Played, Progress, controls_of
from evaluation.job_report import job_report
from evaluation.job_settings import READS_GOLD, EvaluationJob, check_job, prepare_folder
from evaluation.metrics import Evaluation, evaluate_trajectories
from evaluation.outages import validity
from evaluation.predictions import PREFIX, read_predictions
from evaluation.presets import PRESETS
from evaluation.question_columns import question_columns
from evaluation.question_set import QuestionSet, read_question_set
from evaluation.report import write_report
from evaluation.several_samples import sample_summary
from evaluation.trajectory_record import plain
from evaluation.trajectory_store import TrajectoryWriter
from evaluation.turn_recall import recall_by_turn
from retrieval.access import DocumentReader
from retrieval.ready import ready_retriever
from retrieval.retriever import OpenRetriever, RetrievalError
from retrieval.spec import retriever_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came out: the evaluation, summaries of the controls, retrieval ceilings, warnings, and the report's path.

    `consistency` is None where it was not asked for. `figures` are those beside the summary: validity, latencies,
    recall by turn, several samples, and the studies. `ceilings` are coverage and what reading could answer.
    """

    evaluation: Evaluation
    consistency: Consistency | None
    controls: dict[str, dict[str, Any]]
    retrieval: dict[str, dict[str, Any]]
    comparability: dict[str, Any]
    warnings: tuple[str, ...]
    report: Path
    noise: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    ceilings: dict[str, Any] = field(default_factory=dict)

    def told(self) -> list[str]:
        """The warnings."""
        return list(self.warnings)

    def record(self) -> dict[str, Any]:
        """The object of `evaluate --json`."""
        return {
            **self.evaluation.summary,
            **self.figures,
            **(self.consistency.summary if self.consistency else {}),
            "controls": self.controls,
            "retrieval": self.retrieval,
            "ceilings": self.ceilings,
            "warnings": list(self.warnings),
            "comparability": self.comparability,
        }


def run_job(job: EvaluationJob, *, progress: Progress = lambda stage, done, total: None) -> JobResult:
    """Evaluate and write everything; go on where a killed evaluation of the same kind has stopped.

    Raises:
        ValueError, FileNotFoundError: something given cannot be used; the message says what to do.
    """
    check_job(job)
    protocol = load_protocol(job.protocol)
    asked = read_question_set(
        job.questions, job.question_format, where=job.where, limit=job.limit, budget=job.budget, seed=job.seed
    )
    questions = asked.questions
    example = questions[0].text if questions else None
    warnings: list[str] = list(noise_warnings(questions, "questions")) if job.noise or job.noise_curve else []
    with ready_retriever(
        job.index,
        top_k=job.limits.top_k,
        example=example,
        max_query_chars=job.limits.max_query_chars,
        corpus_index=job.corpus_index,
    ) as index:
        controls, left_out = controls_of(job, index)
        try:
            if protocol.offers_open:
                DocumentReader(index).check()
            questions, unresolved = resolve_titles(index, questions)
            supports = check_supports_in(index, questions)
            predicted = read_predictions(job.policy.removeprefix(PREFIX), questions) if job.is_predictions else None
            policy = None if job.is_predictions else _open_policy(job, protocol, questions, index)
        except RetrievalError as error:
            raise ValueError(f"the retriever {retriever_spec(job.index)} stopped answering: {error}") from error
        block = _comparability(job, protocol, index, policy, asked)
        if job.consistency:
            check_wordings(questions, job.wordings)
        prepare_folder(job, block)
        if policy is None:
            assert predicted is not None
            played = _scored(job, predicted, questions)
        else:
            play = JobPlay(
                job,
                protocol=protocol,
                questions=questions,
                index=index,
                policy=policy,
                controls=controls,
                progress=progress,
            )
            played = asyncio.run(play.play())
        warnings.extend(_outages(played.evaluation, index, job.limits.top_k, example))
        retrieval, ceilings = _ceilings(job, index, questions, warnings, progress)
    warnings = [*supports_told(supports, unresolved), *asked.warnings, *warnings, *left_out, *played.warnings]
    warnings.extend(_of_policy(job, policy))
    figures = {
        **validity(played.evaluation.summary),
        **asked.counts,
        "latency": latency_summary(played.trajectories, played.sampling_s),
        **sample_summary(played.trajectories, {q.id: q for q in questions}, seed=job.seed),
        "recall_by_turn": recall_by_turn(played.trajectories, {q.id: q for q in questions}, seed=job.seed),
        "resumed_trajectories": played.resumed,
        "corrupt_trajectories": played.corrupt,
        **played.figures,
    }
    if figures["invalid_because"]:
        warnings.insert(0, f"INVALID: {figures['invalid_because']}")
    result = JobResult(
        evaluation=played.evaluation,
        consistency=played.consistency,
        controls=played.controls,
        retrieval=plain(retrieval),
        comparability=block,
        warnings=tuple(warnings),
        report=job.out / "report.html",
        noise=job.noise,
        figures=plain(figures),
        ceilings=plain(ceilings),
    )
    _write(job, result, played.trajectories, questions)
    return result


def supports_told(supports: Any, unresolved: str | None) -> list[str]:
    """What is to be said of supports that the corpus lacks, or that a title does not tell."""
    return [*([] if supports.ok else [supports.message()]), *([unresolved] if unresolved else [])]


def _scored(job: EvaluationJob, predicted: list[Trajectory], questions: Sequence[Question]) -> Played:
    """Answers that are written down: nothing is played, and what a killed evaluation stored is written anew."""
    with suppress(FileNotFoundError):
        shutil.rmtree(job.out / "trajectories")
    with TrajectoryWriter(job.out / "trajectories") as writer:
        writer.append(0, predicted)
    return Played(evaluation=evaluate_trajectories(predicted, questions, seed=job.seed), trajectories=predicted)


def _ceilings(
    job: EvaluationJob, index: OpenRetriever, questions: Sequence[Question], warnings: list[str], progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What searching and reading can find at best, where controls were asked for."""
    if not job.controls:
        return {}, {}
    try:
        progress("ceilings", 0, 3)
        retrieval = oracle_decomposition(index, questions, seed=job.seed)
        progress("ceilings", 1, 3)
        read: dict[str, Any] = answers_found(index, questions, k=job.limits.top_k, seed=job.seed)
        progress("ceilings", 2, 3)
        ceilings = {**read, "coverage": coverage_ceiling(index, questions, seed=job.seed)}
        progress("ceilings", 3, 3)
    except RetrievalError as error:
        warnings.append(f"the oracle decomposition is missing, because a search was not answered: {error}")
        return {}, {}
    return retrieval, ceilings


def _of_policy(job: EvaluationJob, policy: EvaluatedPolicy | None) -> list[str]:
    told = []
    if policy is not None and not policy.exact:
        told.append(
            "the server gives text without token ids: it was encoded anew, and what stands after the policy's first "
            "action may be told to it in other tokens than it sampled"
        )
    if job.policy in READS_GOLD:
        told.append(f"{job.policy} reads the gold annotations: its exact match is no skill; see its support recall")
    if job.policy == f"{SCRIPTED}closed_book" and job.answers_from is None:
        told.append(
            f"{job.policy} guesses among the answers of the very questions asked; name others with --answers-from"
        )
    return told


def _open_policy(
    job: EvaluationJob, protocol: AgentProtocol, questions: Sequence[Question], index: OpenRetriever
) -> EvaluatedPolicy:
    if not job.is_scripted:
        on_ray = job.ray_address is not None
        return load_model_policy(job.policy, job.spec(), trust_remote_code=job.trust_remote_code, opened=not on_ray)
    return load_scripted_policy(
        job.policy.removeprefix(SCRIPTED),
        protocol,
        questions,
        index,
        top_k=job.limits.top_k,
        answers_from=job.answers_from,
    )


def _outages(evaluation: Evaluation, index: OpenRetriever, k: int, example: str | None) -> list[str]:
    """A warning where searches were not answered, with what the retriever says now."""
    reasons = evaluation.summary["finish_reasons"]
    lost = reasons.get("retrieval_outage", 0)
    if not lost or example is None:
        return []
    try:
        index.search([example], k)
        now = "it answers again now"
    except RetrievalError as error:
        now = f"now it says: {error}"
    return [
        f"{lost} of {sum(reasons.values())} episodes ended because the retriever did not answer ({now}); they count as "
        "wrong: evaluate again"
    ]


def _comparability(
    job: EvaluationJob,
    protocol: AgentProtocol,
    index: OpenRetriever,
    policy: EvaluatedPolicy | None,
    asked: QuestionSet,
) -> dict[str, Any]:
    spec = job.spec()
    tokenizer = policy.tokenizer if policy is not None else None
    served = policy is not None and isinstance(spec, OpenAISpec) and policy.decoded_by is not None
    is_file = Path(job.questions).is_file()
    taken = {name: value for name, value in asked.record.items() if name != "limit"}
    extra: dict[str, Any] = {"question_limit": job.limit, "question_set": taken}
    if served:
        extra["tokenizer"] = job.policy
    if job.preset:
        extra["preset"] = job.preset
    return comparability_block(
        model=f"{spec.model or 'the model'} at {spec.url}" if served else job.policy,  # type: ignore[union-attr]
        index=index,
        protocol=protocol,
        limits=job.limits,
        tokenizer=tokenizer,
        decoding={
            "temperature": job.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "samples": job.samples,
            "dtype": job.dtype if policy is not None and policy.decoded_by is not None else None,
            "schedule": ((policy.decoded_by if policy else None) or {}).get("schedule"),
            "engine": policy.decoded_by if policy else None,
            "max_batch": job.max_batch,
            "context_window": policy.context_window if policy else None,
        },
        seeds={"sampling": job.seed},
        questions=job.questions if is_file else None,
        deviations=[
            *(PRESETS[job.preset].deviations if job.preset else ()),
            *([noise_line(job.noise)] if job.noise else ()),
        ],
        extra=extra,
    )


def _write(
    job: EvaluationJob, result: JobResult, trajectories: Sequence[Trajectory], questions: Sequence[Question]
) -> None:
    name = job.policy if job.is_scripted or job.is_predictions else Path(job.policy).name
    write_report(job.out, job_report(name, result, trajectories, questions))
    figures = result.evaluation.record()["per_question"]
    columns = question_columns(result.evaluation.question_ids, questions, trajectories)
    record = {"format": FORMAT, **result.record(), "per_question": {**figures, **columns}}
    if result.consistency is not None:
        record["consistency_per_question"] = result.consistency.record()["per_question"]
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1)
    unfinished = job.out / "evaluation.json.new"
    unfinished.write_text(text + "\n", encoding="utf-8", errors="replace")
    unfinished.replace(job.out / "evaluation.json")  # the last thing: with it the evaluation is whole
