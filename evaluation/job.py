"""One evaluation from files to files: a policy, an index and questions in; figures, trajectories and a report out.

Everything is checked before the model is loaded. What is written into the output folder: `evaluation.json` (summary,
controls, comparability, figures per question), `trajectories/` (compressed and indexed) and `report.html` with its
`report.json`.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.engines.opening import OpenAISpec
from agent.protocol import AgentProtocol
from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory
from envs.datasets import check_supports_in, read_questions
from envs.noise import noise_line, noise_warnings
from envs.question import Question
from evaluation.comparability import comparability_block
from evaluation.consistency import Consistency, check_wordings, consistency_line
from evaluation.controls import CONTROLS, check_controls, evaluate_controls, oracle_decomposition
from evaluation.evaluated_policy import (
    SCRIPTED,
    EvaluatedPolicy,
    load_model_policy,
    load_scripted_policy,
)
from evaluation.evaluation_file import FORMAT
from evaluation.examples import pick_examples
from evaluation.job_settings import READS_GOLD, EvaluationJob, check_job, prepare_folder
from evaluation.metrics import Evaluation
from evaluation.question_columns import question_columns
from evaluation.report import retrieval_table, write_report
from evaluation.report_parts import Arm, Report
from evaluation.run import evaluate_policy, evaluate_policy_consistency
from evaluation.trajectory_record import plain
from evaluation.trajectory_store import TrajectoryWriter
from retrieval.access import DocumentReader
from retrieval.ready import ready_retriever
from retrieval.retriever import OpenRetriever, RetrievalError
from retrieval.spec import retriever_spec

Progress = Callable[[str, int, int], None]
"""Called as `(stage, done, total)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came out: the evaluation, summaries of the controls, retrieval ceilings, warnings, and the report's path.

    `consistency` is None where it was not asked for.
    """

    evaluation: Evaluation
    consistency: Consistency | None
    controls: dict[str, dict[str, Any]]
    retrieval: dict[str, dict[str, Any]]
    comparability: dict[str, Any]
    warnings: tuple[str, ...]
    report: Path
    noise: float = 0.0

    def record(self) -> dict[str, Any]:
        """The object of `evaluate --json`."""
        return {
            **self.evaluation.summary,
            **(self.consistency.summary if self.consistency else {}),
            "controls": self.controls,
            "retrieval": self.retrieval,
            "comparability": self.comparability,
        }


def run_job(job: EvaluationJob, *, progress: Progress = lambda stage, done, total: None) -> JobResult:
    """Evaluate and write everything.

    Raises:
        ValueError, FileNotFoundError: something given cannot be used; the message says what to do.
    """
    check_job(job)
    protocol = load_protocol(job.protocol)
    questions = read_questions(job.questions, job.question_format)[: job.limit]
    example = questions[0].text if questions else None
    warnings: list[str] = list(noise_warnings(questions, "questions")) if job.noise else []
    with ready_retriever(
        job.index,
        top_k=job.limits.top_k,
        example=example,
        max_query_chars=job.limits.max_query_chars,
        corpus_index=job.corpus_index,
    ) as index:
        if job.controls:
            check_controls(index)
        try:
            if protocol.offers_open:
                DocumentReader(index).check()
            supports = check_supports_in(index, questions)
            policy = _open_policy(job, protocol, questions, index)
        except RetrievalError as error:
            raise ValueError(f"the retriever {retriever_spec(job.index)} stopped answering: {error}") from error
        block = _comparability(job, protocol, index, policy)
        prepare_folder(job)
        if job.consistency:
            check_wordings(questions, job.wordings)
        evaluation, trajectories, controls, consistency = asyncio.run(
            _play(job, protocol, questions, index, policy, progress)
        )
        warnings.extend(_outages(evaluation, index, job.limits.top_k, example))
        try:
            retrieval = oracle_decomposition(index, questions, seed=job.seed) if job.controls else {}
        except RetrievalError as error:
            retrieval = {}
            warnings.append(f"the oracle decomposition is missing, because a search was not answered: {error}")
    if not supports.ok:
        warnings.insert(0, supports.message())
    if not policy.exact:
        warnings.append(
            "the server gives text without token ids: it was encoded anew, and what stands after the policy's first "
            "action may be told to it in other tokens than it sampled"
        )
    if job.policy in READS_GOLD:
        warnings.append(f"{job.policy} reads the gold annotations: its exact match is no skill; see its support recall")
    if job.policy == f"{SCRIPTED}closed_book" and job.answers_from is None:
        warnings.append(
            f"{job.policy} guesses among the answers of the very questions asked; name others with --answers-from"
        )
    result = JobResult(
        evaluation=evaluation,
        consistency=consistency,
        controls=controls,
        retrieval=plain(retrieval),
        comparability=block,
        warnings=tuple(warnings),
        report=job.out / "report.html",
        noise=job.noise,
    )
    _write(job, result, trajectories, questions)
    return result


def _open_policy(
    job: EvaluationJob, protocol: AgentProtocol, questions: Sequence[Question], index: OpenRetriever
) -> EvaluatedPolicy:
    if not job.policy.startswith(SCRIPTED):
        return load_model_policy(job.policy, job.spec(), trust_remote_code=job.trust_remote_code)
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


async def _play(
    job: EvaluationJob,
    protocol: AgentProtocol,
    questions: Sequence[Question],
    index: OpenRetriever,
    policy: EvaluatedPolicy,
    progress: Progress,
) -> tuple[Evaluation, list[Trajectory], dict[str, dict[str, Any]], Consistency | None]:
    total = len(questions) * job.samples
    stage = "evaluating"
    done = 0

    def on_finish(trajectory: Trajectory) -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    def on_control(name: str) -> None:
        nonlocal stage, done
        stage, done = name, 0
        progress(stage, 0, total)

    settings: dict[str, Any] = {
        "protocol": protocol,
        "tokenizer": policy.tokenizer,
        "engine": policy.engine,
        "policy": policy.scripted,
        "temperature": job.temperature,
        "samples": job.samples,
        "max_concurrent": job.max_batch,
        "on_finish": on_finish,
    }
    progress(stage, 0, total)
    try:
        evaluation, trajectories = await evaluate_policy(
            questions, retriever=index, limits=job.limits, seed=job.seed, noise=job.noise, **settings
        )
        controls = {}
        if job.controls:
            found = await evaluate_controls(
                questions, index=index, limits=job.limits, seed=job.seed, on_control=on_control, **settings
            )
            controls = {name: control.summary for name, (control, _) in found.items()}
        consistency = None
        if job.consistency:
            done, stage = 0, "consistency"
            asked = [question for question in questions if question.paraphrases]
            total = sum(2 * min(job.wordings, 1 + len(question.paraphrases)) - 1 for question in asked)
            progress(stage, done, total)
            own = {name: settings[name] for name in ("protocol", "tokenizer", "engine", "policy", "on_finish")}
            consistency = await evaluate_policy_consistency(
                questions,
                retriever=index,
                limits=job.limits,
                wordings=job.wordings,
                seed=job.seed,
                noise=job.noise,
                max_concurrent=job.max_batch,
                **own,
            )
    finally:
        if policy.engine is not None:
            await policy.engine.close()
    return evaluation, trajectories, controls, consistency


def _comparability(
    job: EvaluationJob, protocol: AgentProtocol, index: OpenRetriever, policy: EvaluatedPolicy
) -> dict[str, Any]:
    spec = job.spec()
    served = isinstance(spec, OpenAISpec) and policy.engine is not None
    return comparability_block(
        model=f"{spec.model or 'the model'} at {spec.url}" if served else job.policy,  # type: ignore[union-attr]
        index=index,
        protocol=protocol,
        limits=job.limits,
        tokenizer=policy.tokenizer,
        decoding={
            "temperature": job.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "samples": job.samples,
            "dtype": job.dtype if policy.engine is not None else None,
            "schedule": (policy.decoded_by or {}).get("schedule"),
            "engine": policy.decoded_by,
            "max_batch": job.max_batch,
            "context_window": policy.context_window,
        },
        seeds={"sampling": job.seed},
        questions=job.questions,
        deviations=[noise_line(job.noise)] if job.noise else (),
        extra={"question_limit": job.limit, **({"tokenizer": job.policy} if served else {})},
    )


def _write(
    job: EvaluationJob, result: JobResult, trajectories: Sequence[Trajectory], questions: Sequence[Question]
) -> None:
    with TrajectoryWriter(job.out / "trajectories") as writer:
        writer.append(0, trajectories)
    name = job.policy if job.policy.startswith(SCRIPTED) else Path(job.policy).name
    write_report(job.out, _report(job, name, result, trajectories, questions))
    columns = question_columns(result.evaluation.question_ids, questions, trajectories)
    record = {
        "format": FORMAT,
        **result.record(),
        "per_question": {**result.evaluation.record()["per_question"], **columns},
    }
    if result.consistency is not None:
        record["consistency_per_question"] = result.consistency.record()["per_question"]
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1)
    (job.out / "evaluation.json").write_text(text + "\n", encoding="utf-8", errors="replace")


def _report(
    job: EvaluationJob,
    name: str,
    result: JobResult,
    trajectories: Sequence[Trajectory],
    questions: Sequence[Question],
) -> Report:
    summary = result.evaluation.summary
    lines = [
        f"{name} answers {summary['em']:.3f} of {summary['n']} questions exactly "
        f"(95 % interval {summary['em_low']:.3f} to {summary['em_high']:.3f})."
    ]
    if summary["num_outages"]:
        without = summary["em_without_outages"]
        lines.append(
            f"{summary['num_outages']} episodes ended in an outage of the retriever or engine and count as wrong; "
            f"without them EM is {'not defined' if without is None else f'{without:.3f}'}."
        )
    if result.consistency is not None:
        lines.append(consistency_line(result.consistency))
    lines.extend(result.warnings)
    notes = [f"Control {key}: {CONTROLS[key].description}." for key in result.controls]
    return Report(
        title=f"Evaluation of {name}",
        summary_lines=lines,
        arms=[Arm(name=name, final=summary)],
        controls=result.controls,
        tables=[table] if (table := retrieval_table(result.retrieval)) else [],
        examples=pick_examples(trajectories, questions),
        comparability=result.comparability,
        notes=notes,
    )
