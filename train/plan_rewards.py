"""The plan's lines of what is paid, how it is combined, how noisy the searches are, and how credit reads it."""

from typing import Any

from rewards.schedule import Schedule
from rewards.term import RewardTerm
from train.config import TrainConfig


def reward_lines(config: TrainConfig) -> list[tuple[str, str]]:
    """Name and text of each line."""
    lines = [("rewards", ", ".join(_term(name, term) for name, term in config.rewards.items()))]
    composition = config.composition
    if composition.rule:
        utilities = [name for name in config.rewards if name not in composition.bottom_line]
        words = f"gated_product: bottom line {', '.join(composition.bottom_line)}; utilities {', '.join(utilities)}"
    else:
        words = "sum"
    lines.append(("combine", words + (f"; ordering {composition.ordering}" if composition.ordering else "")))
    unit = config.rollout.unit.model_dump(exclude={"kind"}, mode="json")
    lines.append(("unit", config.rollout.unit.kind + (f" ({_settings(unit)})" if unit else "")))
    if noise := config.rollout.noise:
        over = f"{noise.steps} steps" if noise.steps else "the run"
        lines.append(
            (
                "noise",
                f"{noise.start:g} to {noise.end:g} of the searches find nothing which helps, over {over} (base "
                f"{noise.base:g}); in evaluations {noise.evaluation:g}",
            )
        )
    params = f" ({_settings(config.credit.params)})" if config.credit.params else ""
    learner = config.learner
    lines.append(
        ("credit", f"{config.credit.estimator}{params}, loss {learner.loss_type}, lr {learner.learning_rate:g}")
    )
    return lines


def budget_words(config: TrainConfig) -> str:
    """The bound on sampled trajectories, behind the steps; empty without one."""
    if config.max_trajectories is None:
        return ""
    return f"; max_trajectories {config.max_trajectories:,} ends the run with the step that reaches it"


def _term(name: str, term: RewardTerm) -> str:
    more = [f"use {term.use}"] if term.use else []
    more += [f"gate {' and '.join(term.gate)}"] if term.gate else []
    more += [_schedule(term.schedule)] if term.schedule else []
    params = dict(term.params)
    judge = params.pop("judge", None)
    more += [f"judge {_judge(judge)}"] if judge is not None else []
    more += [_settings(params)] if params else []
    return f"{term.weight:+g} {name}" + (f" ({'; '.join(more)})" if more else "")


def _schedule(schedule: Schedule) -> str:
    if schedule.kind == "constant":
        return f"times {schedule.start:g}"
    over = f"{schedule.steps} steps" if schedule.steps else f"{schedule.share or 1:.0%} of the run"
    return f"{schedule.kind} {schedule.start:g} to {schedule.end:g} over {over}"


def _judge(spec: Any) -> str:
    """Which judge is meant; of a server's settings the model and the address alone."""
    if not isinstance(spec, dict):
        return str(spec)
    return f"{spec['model']} at {spec['url']}" if {"model", "url"} <= spec.keys() else str(spec.get("kind", spec))


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
