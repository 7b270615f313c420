"""The collapse watch replayed over finished runs: alarms, steps to alarm, false alarms, EM where it would have stopped.

    python -m benchmarks.watch runs/first runs/second                              # any run folders
    python -m benchmarks.watch runs/first --set limits.entropy_rise=4             # with other limits
    python -m benchmarks.watch --study thresholds --out runs/watch/2hops          # 5 runs of two hops, then replay
    python -m benchmarks.watch --study test --out runs/watch/3hops                # 10 runs of three hops, then replay
    python -m benchmarks.watch --smoke                                            # seconds, no claim

A study's runs only warn, so that what came after an alarm is known too. They begin with the policy that the setting
of configs/ablation keeps, or has made; `--from FOLDER` takes testbed and cold start of a comparison that `waymark
ablate` has made with the same setting, `--start FOLDER` begins with another policy. A repeated call goes on where it
was. Runs whose name begins with `collapse` were made to collapse, alarms of all others are false ones. The watch is
in time if it stops before an evaluation finds half of the best EM until then, or less.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LR = 3e-4
NO_CLIP = {"learner.epsilon": 1e6, "learner.max_grad_norm": 1e6}
SLOWLY = {**NO_CLIP, "learner.warmup_steps": 20}
"""Without a warm-up one update at 30 times the rate takes EM from .2 to 0: only its probe comes before that."""
COLLAPSE = "collapse"
"""Begins the names of arms that are made to collapse."""
HEALTHY_STEPS, COLLAPSE_STEPS, SUDDEN_STEPS = 20, 30, 4
ARMS: dict[str, dict[str, Any]] = {
    "collapse_sudden": {"learner.learning_rate": 30 * LR, **NO_CLIP},
    "collapse_lr30": {"learner.learning_rate": 30 * LR, **SLOWLY},
    "collapse_lr10": {"learner.learning_rate": 10 * LR, **SLOWLY},
    # Nobody pays the answer, so it stays out while the reward rises.
    "collapse_reward": {
        "rewards": {"hop_relevance": {"weight": 1.0}},
        "credit": {"estimator": "turn"},
        "learner.learning_rate": 3 * LR,
    },
}
"""Dotted overrides over a setting of configs/ablation; every other arm is a method of that name (`waymark ablate`)."""

STUDIES: dict[str, tuple[str, tuple[tuple[str, int], ...]]] = {
    "thresholds": (
        "2hops",
        (
            *((method, 0) for method in ("outcome", "hops_per_turn", "apart_correct")),
            ("collapse_lr30", 0),
            ("collapse_sudden", 0),
        ),
    ),
    "test": (
        "3hops",
        (
            ("collapse_lr30", 10),
            ("outcome", 10),
            ("collapse_reward", 10),
            ("hops_per_turn", 10),
            ("collapse_lr10", 10),
            ("apart_correct", 10),
            ("collapse_sudden", 10),
            ("search_r1", 10),
            ("outcome", 11),
            ("outcome", 12),
        ),
    ),
}
"""Setting and (arm, seed) of each study."""

SMOKE = {
    "steps": 4,
    "limits": {"max_turns": 3, "top_k": 2, "max_new_tokens_per_turn": 24, "max_trajectory_tokens": 600},
    "rollout": {"questions_per_step": 2, "samples_per_question": 4},
    "cold_start": {"phases": [{"demonstrations": 64, "steps": 4}]},
    "data": {"dev_limit": 8},
    "evaluate_every": 1,
}
SMALL_POLICY = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 2048}


def main() -> None:
    """Parse, run what is missing of a study, replay, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, each with its metrics.jsonl")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--study", choices=sorted(STUDIES))
    parser.add_argument("--out", type=Path, help="folder of the study's runs")
    parser.add_argument("--from", dest="source", type=Path, help="folder with the testbed and cold_start to begin with")
    parser.add_argument("--start", type=Path, help="policy to begin with instead of the cold start")
    parser.add_argument("--only", nargs="*", metavar="ARM-SEED", help="only these runs of the study")
    parser.add_argument("--smoke", action="store_true", help="a tiny version of everything, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if not (options.runs or options.study or options.smoke):
        parser.error("give run folders, --study or --smoke")
    if options.study and options.out is None and not options.smoke:
        parser.error("--out is missing: name the folder that holds the study's runs")
    with tempfile.TemporaryDirectory() as scratch:
        runs = list(options.runs)
        if options.study or options.smoke:
            runs += run_study(options, options.out or Path(scratch))
        rows = [replay(run, watch_config(options.overrides)) for run in runs]
    figures = {"watch": watch_config(options.overrides).model_dump(mode="json"), "runs": rows, **summary(rows)}
    print(table(rows))
    print(json.dumps(summary(rows), indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def watch_config(overrides: Sequence[str]) -> Any:
    """The watch's defaults with dotted overrides."""
    from train.config_file import apply_override, check_fields
    from train.watch_config import WatchConfig

    data: dict[str, Any] = {}
    for override in overrides:
        apply_override(data, override)
    return check_fields(WatchConfig, data, source="--set")


def replay(run: Path, config: Any) -> dict[str, Any]:
    """What the watch says of a run's metrics, line by line.

    Returns:
        `alarms` as (step, signal); `stop_step`, where `stop` would have ended the run, or None; `refused`, whether
        that step's update would have been thrown away, before any evaluation of it; `best_em` and `em_at_stop`, the
        best dev EM and the last one until then; `lost_half_step`, the first evaluation at half of the best EM until
        then or below, or None; `in_time`: it stops before that one.
    """
    from train.tracking import METRICS_FILE, read_metrics
    from train.watch import CollapseWatch

    if not (run / METRICS_FILE).is_file():
        sys.exit(f"{run} has no {METRICS_FILE}: give the folder of a run")
    watch, lines = CollapseWatch(config), read_metrics(run / METRICS_FILE)
    alarms: list[tuple[int, str]] = []
    stop: int | None = None
    refused = False
    curve: list[tuple[int, float]] = []
    lost: int | None = None
    for line in lines:
        refuses = watch.refuses(line)
        raised = watch.observe(line["step"], line)
        alarms += [(alarm.step, alarm.signal) for alarm in raised]
        if raised and watch.says_stop and stop is None:
            stop, refused = line["step"], refuses
        if line.get("dev/em") is not None:
            best = max((em for _, em in curve), default=0.0)
            if lost is None and best >= config.min_dev_em and line["dev/em"] <= best / 2:
                lost = line["step"]
            curve.append((line["step"], line["dev/em"]))
    until = [em for step, em in curve if stop is None or step < stop + (not refused)]
    name = f"{run.parent.name}/{run.name}" if run.name.startswith("seed-") else run.name
    return {
        "run": name,
        "healthy": not name.startswith(COLLAPSE),
        "steps": lines[-1]["step"] if lines else 0,
        "alarms": alarms,
        "first_alarm_step": alarms[0][0] if alarms else None,
        "stop_step": stop,
        "refused": refused,
        "best_em": max(until, default=None),
        "em_at_stop": until[-1] if until else None,
        "last_em": curve[-1][1] if curve else None,
        "lost_half_step": lost,
        "in_time": stop is not None and (lost is None or stop < lost + refused),
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts over runs, healthy and collapsing apart."""
    healthy, collapsing = [r for r in rows if r["healthy"]], [r for r in rows if not r["healthy"]]
    to_alarm = [row["first_alarm_step"] for row in collapsing if row["first_alarm_step"] is not None]
    to_stop = [row["stop_step"] for row in collapsing if row["stop_step"] is not None]
    return {
        "healthy_runs": len(healthy),
        "healthy_steps": sum(row["steps"] for row in healthy),
        "false_alarms": sum(len(row["alarms"]) for row in healthy),
        "healthy_runs_with_alarm": sum(bool(row["alarms"]) for row in healthy),
        "healthy_runs_stopped": sum(row["stop_step"] is not None for row in healthy),
        "collapsing_runs": len(collapsing),
        "collapses_with_alarm": len(to_alarm),
        "steps_to_alarm": to_alarm,
        "collapses_stopped": len(to_stop),
        "steps_to_stop": to_stop,
        "collapses_stopped_in_time": sum(row["in_time"] for row in collapsing),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, a run a line."""

    def shown(value: Any) -> str:
        return "none" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = [
        "| run | steps | alarms (step: signal) | stops at | best EM until then, EM there | EM halved at | last EM |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        alarms = ", ".join(f"{step}: {signal}" for step, signal in row["alarms"]) or "none"
        em = f"{shown(row['best_em'])}, {shown(row['em_at_stop'])}"
        cells = (row["run"], row["steps"], alarms, row["stop_step"], em, row["lost_half_step"], row["last_em"])
        lines.append(f"| {' | '.join(map(shown, cells))} |")
    return "\n".join(lines)


def overrides_of(arm: str, *, smoke: bool = False) -> dict[str, Any]:
    """An arm's overrides: of `ARMS`, or of the method of that name."""
    from train.method import load_method

    collapses = arm.startswith(COLLAPSE)
    fields = dict(ARMS[arm] if collapses else load_method(arm).config.overrides)
    if smoke:
        return fields
    if arm == "collapse_sudden":
        return {**fields, "steps": SUDDEN_STEPS, "evaluate_every": 1}
    return {**fields, **({"steps": COLLAPSE_STEPS, "evaluate_every": 2} if collapses else {"steps": HEALTHY_STEPS})}


def run_study(options: argparse.Namespace, out: Path) -> list[Path]:
    """Run what is missing of a study, one run after the other, and return the folders."""
    from train.ablation_setting import load_setting
    from train.ablation_start import lay_start
    from train.cold_start_record import ColdStartRecord
    from train.console import ConsoleProgress
    from train.study import Study, StudyConfig

    setting_name, wanted = STUDIES[options.study or "thresholds"]
    setting = load_setting(setting_name)
    base = {**setting.train, "checkpoint_every": 0, "watch": {"action": "warn", "max_batches": 1}}
    testbed = setting.testbed
    if options.smoke:
        testbed = testbed.model_copy(update={"policy": type(testbed.policy)(**SMALL_POLICY)})
        base, wanted = {**base, **SMOKE}, wanted[2:4]
    arms = {arm: overrides_of(arm, smoke=options.smoke) for arm, _ in wanted}
    if options.start:
        arms = {arm: {**fields, "policy.model": str(options.start)} for arm, fields in arms.items()}
    study = Study(StudyConfig(testbed=testbed, train=base, arms=arms), out, print)
    if options.source:
        for name in ("testbed", "cold_start"):
            if not (out / name).exists():
                shutil.copytree(options.source / name, out / name)
    elif setting.start and not options.smoke:
        record = ColdStartRecord.of(study.base_config())
        out.mkdir(parents=True, exist_ok=True)
        if lay_start(setting.start, testbed, record, study.cold_start, print):
            record.write(study.cold_start_record)
    study.prepare()
    folders = []
    for arm, seed in wanted:
        if options.only and f"{arm}-{seed}" not in options.only:
            continue
        folders.append(study.run_arm(arm, seed, ConsoleProgress(f"{arm}/{seed}")).folder)
    return folders


if __name__ == "__main__":
    main()
