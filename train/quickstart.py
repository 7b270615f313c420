"""The whole road in one call: world, index, cold start, two arms of GRPO, evaluation with controls, report.

The report is only worth reading if the world is not an easy one, so the last stage holds the trained policy against its
controls on the same held-out questions and fails where a policy could do well without searching step by step.
"""

import asyncio
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from agent.engines.transformers import load_engine
from agent.hugging_face import load_tokenizer
from agent.protocols.registry import load_protocol
from envs.datasets import read_questions
from envs.question import Question
from evaluation.comparability import comparability_block
from evaluation.controls import CONTROLS, evaluate_controls
from evaluation.examples import pick_examples
from evaluation.metrics import Evaluation
from evaluation.report import write_report
from evaluation.report_parts import Arm, CurvePoint, Example, Report
from evaluation.trajectory_store import read_trajectories
from train.final_evaluation import EVALUATION_BATCH, SCHEDULE, evaluate_model, retriever_of
from train.progress import Progress
from train.study import ArmRun, Study, load_study

EM_THRESHOLD = 0.8
"""Greedy held-out EM that the turn-credit arm should reach; trajectories are counted up to it."""

EASY_ABOVE = {"cold_start": 0.10, "closed_book": 0.05, "random_retriever": 0.05, "single_search": 0.25}
"""Greedy EM above which a control says that the world is too easy for the comparison to mean anything."""


class TooEasy(ValueError):
    """A control did too well: what was measured is not searching step by step."""


def default_study_path() -> Path:
    """The quickstart's own study, as it is installed with the package."""
    return Path(str(resources.files("configs"))) / "quickstart.yaml"


def quickstart(
    out: Path,
    *,
    study_path: Path | None = None,
    overrides: tuple[str, ...] = (),
    progress_of: Callable[[str], Progress] = lambda name: Progress(),
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run everything into `out` and write `report.html` and `report.json` there; returns the report's figures.

    A second call with the same settings goes on where the first one stopped.

    Raises:
        TooEasy: a control is above its bound (the report is written first).
        ValueError: settings that cannot be run, or `out` is no folder of a quickstart.
    """
    started = time.perf_counter()
    continued = (out / "testbed").exists()
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder to write")
    if not continued and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} holds other files; name a new folder, or that of an earlier quickstart")
    study = Study(load_study(study_path or default_study_path(), overrides), out, say)
    testbed = study.prepare()
    seed = study.config.seeds[0]
    runs = {arm: study.run_arm(arm, seed, progress_of(arm)) for arm in study.config.arms}
    questions = read_questions(testbed.questions("test"))[: study.config.test_limit]
    best = runs.get("turn") or list(runs.values())[-1]
    say(f"evaluating on {len(questions)} held-out questions")
    finals = {arm: _final(run, questions) for arm, run in runs.items()}
    with retriever_of(best.config) as index:
        controls = {"cold_start": evaluate_model(study.cold_start, best.config, index, questions)[0]}
        controls |= _controls(best, index, questions, say)
        block = _comparability(study, best, index)
    seconds = time.perf_counter() - started
    took = f"{'This call, after an earlier one,' if continued else 'The whole run'} took {seconds / 60:.1f} minutes."
    arms = {arm: _final_figures(run, finals[arm]) for arm, run in runs.items()}
    easy = [
        f"{name} EM is {controls[name].summary['em']:.3f}, above {bound}"
        for name, bound in EASY_ABOVE.items()
        if controls[name].summary["em"] > bound
    ]
    remarks = [took, *_missed(arms), *(f"The world is too easy: {finding}." for finding in easy)]
    write_report(out, _report(study, runs, arms, controls, block, remarks, best.arm))
    if easy:
        raise TooEasy(f"the world is too easy: {'; '.join(easy)}. Figures are in {out / 'report.json'}")
    return {
        "report": str(out / "report.html"),
        "arms": arms,
        "controls": {name: evaluation.summary for name, evaluation in controls.items()},
        "seconds": seconds,
    }


def _final(run: ArmRun, questions: list[Question]) -> Evaluation:
    """An arm's policy over the retriever that it was trained with."""
    with retriever_of(run.config) as index:
        return evaluate_model(run.folder / "model", run.config, index, questions)[0]


def _controls(run: ArmRun, index: Any, questions: list[Question], say: Callable[[str], None]) -> dict[str, Evaluation]:
    async def evaluate() -> dict[str, Evaluation]:
        config = run.config
        engine = load_engine(
            str(run.folder / "model"),
            schedule=SCHEDULE,
            dtype=config.engine_dtype,
            max_batch=EVALUATION_BATCH,
        )
        try:
            results = await evaluate_controls(
                questions,
                index=index,
                limits=config.limits,
                engine=engine,
                protocol=load_protocol(config.protocol.name, **config.protocol.overrides),
                tokenizer=load_tokenizer(str(run.folder / "model")),
                on_control=lambda name: say(f"control: {name}"),
            )
        finally:
            await engine.close()
        return {name: evaluation for name, (evaluation, _) in results.items()}

    return asyncio.run(evaluate())


def _comparability(study: Study, run: ArmRun, index: Any) -> dict[str, Any]:
    return comparability_block(
        model=run.folder / "model",
        index=index,
        protocol=load_protocol(run.config.protocol.name, **run.config.protocol.overrides),
        limits=run.config.limits,
        decoding={
            "temperature": 0.0,
            "dtype": run.config.engine_dtype,
            "schedule": SCHEDULE,
            "max_batch": EVALUATION_BATCH,
        },
        seeds=study.config.seeds,
        questions=study.testbed.questions("test"),
        extra={"study": study.config.model_dump(mode="json")},
    )


def _final_figures(run: ArmRun, evaluation: Evaluation) -> dict[str, Any]:
    """An arm's figures as they stand in report.json."""
    return {
        **evaluation.summary,
        f"trajectories_to_em_{EM_THRESHOLD}": run.trajectories_to(EM_THRESHOLD),
        "seconds": round(run.seconds, 1),
    }


def _missed(arms: dict[str, dict[str, Any]]) -> list[str]:
    """Said where the turn-credit arm, if the study has one, stays below what it should reach."""
    if "turn" not in arms or arms["turn"]["em"] >= EM_THRESHOLD:
        return []
    return [f"Arm turn stays below the EM of {EM_THRESHOLD} that it should reach on this world."]


def _report(
    study: Study,
    runs: dict[str, ArmRun],
    figures: dict[str, dict[str, Any]],
    controls: dict[str, Evaluation],
    block: dict[str, Any],
    remarks: list[str],
    controlled: str,
) -> Report:
    arms = [
        Arm(
            name=name,
            curve=[CurvePoint(step=s, trajectories=t, value=v, low=lo, high=hi) for s, t, v, lo, hi in run.curve],
            metrics=run.metrics,
            final=figures[name],
        )
        for name, run in runs.items()
    ]
    lines = [
        f"{name}: held-out EM {figures[name]['em']:.3f} after {run.metrics[-1]['trajectories']:,} trajectories, "
        + (
            f"EM {EM_THRESHOLD} after {reached:,}"
            if (reached := run.trajectories_to(EM_THRESHOLD)) is not None
            else f"EM {EM_THRESHOLD} not reached"
        )
        for name, run in runs.items()
    ]
    return Report(
        title="Waymark quickstart: outcome-only and per-turn credit",
        summary_lines=[*lines, *remarks],
        arms=arms,
        controls={name: evaluation.summary for name, evaluation in controls.items()},
        examples=_examples(study, list(runs.values())[-1]),
        comparability=block,
        threshold=EM_THRESHOLD,
        notes=[
            "Control cold_start: the policy that all arms start from.",
            *(f"Control {key}: {CONTROLS[key].description}, arm {controlled}." for key in controls if key in CONTROLS),
            "One seed: intervals are over questions, and say nothing about another seed.",
            "The policy is made from nothing, for one small invented world: figures say nothing about large models.",
        ],
    )


def _examples(study: Study, run: ArmRun) -> list[Example]:
    """Three trajectories of the last step, with the scores and advantages that they were trained with."""
    stored = list(read_trajectories(run.folder / "trajectories"))
    last = [s for s in stored if s.step == stored[-1].step]
    questions = {q.id: q for q in read_questions(study.testbed.questions("train"))}
    return pick_examples(
        [s.trajectory for s in last], questions, extras=[s.extra for s in last], label=f"{run.arm}, step {last[0].step}"
    )
