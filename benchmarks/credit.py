"""Credit estimators side by side: trajectories to EM 0.8 from one cold start, several seeds, equal budgets.

    python -m benchmarks.credit configs/claims/credit_2hops.yaml --out runs/claims/2hops --start  # cold start only
    python -m benchmarks.credit configs/claims/credit_2hops.yaml --out runs/claims/2hops --workers 2  # all
    python -m benchmarks.credit --smoke                                                              # seconds, no claim

Every arm and seed is a process of its own, so one call may be interrupted and repeated: finished runs are read, not run
again. A seed that never reaches the threshold is censored at the budget: shown are the share of seeds that reached it
and the restricted mean, the mean of min(trajectories to the threshold, budget) over ALL seeds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLD = 0.8
SMOKE = (
    "testbed.policy.hidden_size=32",
    "testbed.policy.num_layers=2",
    "testbed.policy.num_heads=2",
    "train.steps=2",
    "train.rollout.questions_per_step=2",
    "train.rollout.samples_per_question=2",
    "train.cold_start.phases=[{demonstrations: 64, steps: 4}]",
    "train.data={dev_limit: 8}",
    "train.evaluate_every=1",
    "seeds=[0]",
)
START_SAMPLES = 8
START_QUESTIONS = 125


def main() -> None:
    """Parse, run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parent.parent / "configs" / "claims" / "credit_2hops.yaml"
    parser.add_argument("study", type=Path, nargs="?", default=default)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="runs at once, each with its share of the cores")
    parser.add_argument("--arms", nargs="*", help="only these arms")
    parser.add_argument("--seeds", nargs="*", type=int, help="only these seeds")
    parser.add_argument("--start", action="store_true", help="make the cold start, measure its EM, and stop")
    parser.add_argument("--report-only", action="store_true", help="read the finished runs, run none")
    parser.add_argument("--one", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="a tiny version of everything, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.out is None and not options.smoke:
        parser.error("--out is missing: name the folder that holds the runs")
    with tempfile.TemporaryDirectory() as scratch:
        options.out = options.out or Path(scratch)
        _run(options)


def _run(options: argparse.Namespace) -> None:
    from train.study import Study, load_study

    study = Study(load_study(options.study, SMOKE if options.smoke else ()), options.out, print)
    if not options.report_only:
        study.prepare()
    if not (options.smoke or options.one):
        _compare_start(study, options.study.with_suffix(".start.json"))
    if options.start:
        print(json.dumps(measure_start(study, study.cold_start), indent=1))
        return
    if options.one:
        from train.console import ConsoleProgress

        study.run_arm(options.one[0], int(options.one[1]), ConsoleProgress("/".join(options.one)))
        return
    arms = options.arms or list(study.config.arms)
    seeds = options.seeds if options.seeds is not None else list(study.config.seeds)
    jobs = [(arm, seed) for seed in seeds for arm in arms]
    if options.report_only:
        model = "runs/{}/seed-{}/model"
        unfinished = [f"{arm}/{seed}" for arm, seed in jobs if not (options.out / model.format(arm, seed)).exists()]
        if unfinished:
            sys.exit(f"not finished: {', '.join(unfinished)}; run them, or choose others with --arms and --seeds")
    else:
        with ThreadPoolExecutor(options.workers) as pool:
            failed = [
                job for job, code in zip(jobs, pool.map(lambda job: _spawn(options, *job), jobs), strict=True) if code
            ]
        if failed:
            sys.exit(f"failed: {failed}; their logs are in {options.out}")
    figures = summarise(study, arms, seeds)
    print(as_text(figures))
    for path in filter(None, (options.json, options.out / "credit.json")):
        path.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    write_page(study, arms, seeds, figures, options.out)


def _compare_start(study: Any, recorded: Path) -> None:
    """Say whether the cold start is, to the bit, the one that the study's start file describes."""
    from evaluation.comparability import describe_model

    if not recorded.exists():
        return
    model = json.loads(recorded.read_text(encoding="utf-8"))["model"]["weights_sha256"]
    if (describe_model(study.cold_start) or {})["weights_sha256"] == model:
        print(f"the cold start is the one of {recorded}")
    else:
        print(f"the cold start is not the one of {recorded} (another machine or version): measure it with --start")


def _spawn(options: argparse.Namespace, arm: str, seed: int) -> int:
    """Run one arm and seed in a process of its own; its output goes to a log beside the runs."""
    threads = max(1, (os.cpu_count() or 1) // options.workers)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    command = [sys.executable, "-m", "benchmarks.credit", str(options.study), "--out", str(options.out)]
    command += ["--one", arm, str(seed)]
    log = options.out / f"{arm}-{seed}.log"
    with log.open("a", encoding="utf-8") as file:
        code = subprocess.run(
            command + (["--smoke"] if options.smoke else []),
            env={**os.environ, **dict.fromkeys(names, str(threads))},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    print(f"{arm}/{seed}: {'done' if code == 0 else f'exit {code}, see {log}'}", flush=True)
    return code


def measure_start(study: Any, model: Path) -> dict[str, Any]:
    """Greedy and sampled EM of a cold-started policy on a study's dev questions, before any estimator has run."""
    import asyncio

    from agent.engines.transformers import load_engine
    from agent.hugging_face import load_tokenizer
    from agent.protocols.registry import load_protocol
    from envs.datasets import read_questions
    from evaluation.comparability import describe_model
    from evaluation.run import evaluate_policy
    from retrieval.index import open_index

    arm = next(iter(study.config.arms))
    config = study.arm_config(arm, study.config.seeds[0])
    questions = read_questions(study.testbed.questions("dev"))[:START_QUESTIONS]

    async def em(temperature: float, samples: int) -> dict[str, Any]:
        engine = load_engine(str(model), dtype=config.engine_dtype)
        try:
            evaluation, _ = await evaluate_policy(
                questions,
                engine=engine,
                retriever=index,
                protocol=load_protocol(config.protocol.name, **config.protocol.overrides),
                tokenizer=load_tokenizer(str(model)),
                limits=config.limits,
                temperature=temperature,
                samples=samples,
            )
        finally:
            await engine.close()
        keys = ("em", "em_low", "em_high", "support_recall", "searches_per_question", "finish_reasons")
        return {key: evaluation.summary[key] for key in keys}

    with open_index(study.testbed.index) as index:
        return {
            "questions": len(questions),
            "samples_per_question": START_SAMPLES,
            "greedy": asyncio.run(em(0.0, 1)),
            "sampled": asyncio.run(em(1.0, START_SAMPLES)),
            "model": describe_model(model),
            "index": index.manifest.index_hash,
        }


def summarise(study: Any, arms: list[str], seeds: list[int]) -> dict[str, Any]:
    """Per arm: each seed's trajectories to the threshold, final EM, retriever calls, searches and turn-limit share."""
    from evaluation.significance import bootstrap_interval
    from evaluation.time_to_threshold import ratio_of_means

    result: dict[str, Any] = {"threshold": THRESHOLD, "study": study.config.model_dump(mode="json"), "arms": {}}
    for arm in arms:
        runs = [study.run_arm(arm, seed) for seed in seeds]
        budget = runs[0].metrics[-1]["trajectories"]
        reached = [run.trajectories_to(THRESHOLD) for run in runs]
        restricted = np.array([budget if r is None else r for r in reached], dtype=np.float64)
        finals = np.array([run.curve[-1][2] for run in runs])
        last = [run.metrics[-1] for run in runs]
        interval, em = bootstrap_interval(restricted), bootstrap_interval(finals)
        result["arms"][arm] = {
            "seeds": seeds,
            "budget": budget,
            "trajectories_to_threshold": reached,
            "share_reached": float(np.mean([r is not None for r in reached])),
            "restricted_trajectories": restricted.tolist(),
            "restricted_mean": float(restricted.mean()),
            "restricted_mean_low": interval.low,
            "restricted_mean_high": interval.high,
            "final_em": finals.tolist(),
            "final_em_mean": float(finals.mean()),
            "final_em_low": em.low,
            "final_em_high": em.high,
            "best_em": [max(point[2] for point in run.curve) for run in runs],
            "retriever_calls": [int(sum(m.get("retriever_calls", 0) for m in run.metrics)) for run in runs],
            "searches_at_end": [m["searches"] for m in last],
            "turn_limit_at_end": [m["finish_ratio/turn_limit"] for m in last],
            "curves": [[(t, em) for _, t, em, _, _ in run.curve] for run in runs],
            "seconds": [run.seconds for run in runs],
        }
    first = np.array(result["arms"][arms[0]]["restricted_trajectories"])
    for row in result["arms"].values():
        ratio = ratio_of_means(np.array(row["restricted_trajectories"]), first)
        row["ratio"], row["ratio_low"], row["ratio_high"] = ratio
    return result


def as_text(figures: dict[str, Any]) -> str:
    """The tables as a person reads them: what each arm needed, and mean dev EM along the way."""
    lines = [
        f"{'arm':<20}{'reached':>8}{'restricted mean [95 %]':>28}{'ratio [95 %]':>20}{'final EM [95 %]':>20}"
        f"{'calls':>8}{'searches':>9}{'at limit':>9}"
    ]
    for arm, row in figures["arms"].items():
        mean = f"{row['restricted_mean']:,.0f} [{row['restricted_mean_low']:,.0f}, {row['restricted_mean_high']:,.0f}]"
        ratio = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        em = f"{row['final_em_mean']:.2f} [{row['final_em_low']:.2f}, {row['final_em_high']:.2f}]"
        calls, searches = np.mean(row["retriever_calls"]), np.mean(row["searches_at_end"])
        lines.append(
            f"{arm:<20}{row['share_reached']:>8.0%}{mean:>28}{ratio:>20}{em:>20}"
            f"{calls:>8,.0f}{searches:>9.1f}{np.mean(row['turn_limit_at_end']):>9.0%}"
        )
    points = _along_the_way(figures)
    lines.append("")
    lines.append(f"{'mean EM after':<20}" + "".join(f"{t:>7,}" for t in points) + " trajectories")
    for arm, row in figures["arms"].items():
        lines.append(f"{arm:<20}" + "".join(f"{em:>7.2f}" for em in _mean_em(row, points)))
    return "\n".join(lines)


def _along_the_way(figures: dict[str, Any]) -> list[int]:
    """At most eight of the evaluations that all seeds of all arms have, spread evenly, the last among them."""
    common = set.intersection(*({t for t, _ in curve} for row in figures["arms"].values() for curve in row["curves"]))
    times = sorted(common - {0})
    return times[:: -max(1, round(len(times) / 8))][::-1]


def _mean_em(row: dict[str, Any], points: list[int]) -> list[float]:
    return [float(np.mean([dict(map(tuple, curve))[t] for curve in row["curves"]])) for t in points]


def write_page(study: Any, arms: list[str], seeds: list[int], figures: dict[str, Any], out: Path) -> None:
    """The same as a page, with all seeds as thin lines."""
    from agent.protocols.registry import load_protocol
    from evaluation.comparability import comparability_block
    from evaluation.report import write_report
    from evaluation.report_parts import Arm, CurvePoint, Measure, Report, SeedRun, Table
    from retrieval.manifest import read_manifest

    shown = []
    for arm in arms:
        runs = [study.run_arm(arm, seed) for seed in seeds]
        shown.append(
            Arm(
                name=arm,
                seeds=[
                    SeedRun(
                        seed=run.seed,
                        curve=[CurvePoint(step=s, trajectories=t, value=v) for s, t, v, _, _ in run.curve],
                        metrics=run.metrics,
                    )
                    for run in runs
                ],
            )
        )
    rows = []
    for arm, row in figures["arms"].items():
        low, high = row["restricted_mean_low"], row["restricted_mean_high"]
        rows.append(
            [
                arm,
                f"{row['share_reached']:.0%} of {len(seeds)}",
                Measure(value=row["restricted_mean"], low=low, high=high),
                Measure(value=row["ratio"], low=row["ratio_low"], high=row["ratio_high"]),
                Measure(value=row["final_em_mean"], low=row["final_em_low"], high=row["final_em_high"]),
                float(np.mean(row["retriever_calls"])),
                float(np.mean(row["searches_at_end"])),
                float(np.mean(row["turn_limit_at_end"])),
            ]
        )
    table = Table(
        title=f"Trajectories to EM {THRESHOLD}",
        columns=[
            *("arm", "seeds that reached it", "restricted mean", f"ratio to {arms[0]}", "final EM"),
            *("retriever calls", "searches at the end", "share at the turn limit"),
        ],
        rows=rows,
        note="Restricted mean: min(trajectories to the threshold, budget) mean over all seeds; intervals over seeds.",
    )
    points = _along_the_way(figures)
    way = Table(
        title="Mean dev EM along the way",
        columns=["arm", *(f"{t:,}" for t in points)],
        rows=[[arm, *_mean_em(row, points)] for arm, row in figures["arms"].items()],
        note="Columns are trajectories sampled so far; the mean is over seeds.",
    )
    config = study.arm_config(arms[0], seeds[0])
    write_report(
        out,
        Report(
            title=f"Credit: {out.name}",
            arms=shown,
            tables=[table, way],
            threshold=THRESHOLD,
            comparability=comparability_block(
                model=study.cold_start,
                index=read_manifest(study.testbed.index),
                protocol=load_protocol(config.protocol.name, **config.protocol.overrides),
                questions=study.testbed.questions("dev"),
                limits=config.limits,
                decoding={"temperature": 0.0},
                seeds=seeds,
                extra={"study": figures["study"]},
            ),
        ),
    )


if __name__ == "__main__":
    main()
