"""Records of runs that never ran, for the tests of what is made of records, and a setting that takes seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.ablation import Ablation
from train.ablation_figures import PAIRED
from train.ablation_record import RecordedCosts, RecordedPoint, RunRecord, record_path, write_record
from train.ablation_setting import SettingConfig
from train.method import load_methods

TINY = {
    "title": "Tiny",
    "provides": ["supports", "hops", "paraphrases"],
    "testbed": {
        "world": {"preset": "tiny", "hops": [2], "seed": 3, "test_questions": 20},
        "policy": {"hidden_size": 32, "num_layers": 2, "num_heads": 2},
    },
    "train": {
        "limits": {
            "max_turns": 3,
            "top_k": 2,
            "max_new_tokens_per_turn": 24,
            "max_observation_tokens": 160,
            "max_trajectory_tokens": 600,
        },
        "rollout": {"questions_per_step": 2, "samples_per_question": 4},
        "rewards": {"exact_match": {"weight": 1.0}},
        "credit": {"estimator": "outcome"},
        "learner": {"learning_rate": 1e-3},
        "data": {"dev_limit": 8},
        "cold_start": {"phases": [{"demonstrations": 64, "steps": 8, "batch_size": 8}]},
        "evaluate_every": 1,
        "checkpoint_every": 1,
        "save_trajectories": False,
    },
    "budget": 16,
    "threshold": 0.8,
    "test_limit": 6,
    "consistency_limit": 3,
    "consistency_wordings": 2,
}
"""A setting whose runs have two steps of eight trajectories."""


def tiny_ablation(
    out: Path, methods: Sequence[str] = ("outcome", "hops_normalised"), seeds: int = 2, **changes: Any
) -> Ablation:
    """A comparison under `TINY`; `changes` are arguments of `Ablation`."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "setting": SettingConfig.model_validate(TINY),
        "seeds": range(seeds),
        **changes,
    }
    return Ablation(methods=load_methods(methods), out=out, **settings)


def fake_record(
    ablation: Ablation,
    method: str,
    seed: int,
    *,
    em: Sequence[float | None] = (1.0, 0.0, 1.0, 0.0),
    curve: Sequence[tuple[float, float]] = ((0, 0.0), (8, 0.5), (16, 0.9)),
    measures: Mapping[str, Sequence[float | None]] = {},
    questions: str = "questions",
    **changes: Any,
) -> RunRecord:
    """A record of a run of this comparison that answered so; each trajectory of it searched twice."""
    known = [value for value in em if value is not None]
    per_question = {measure: list(measures.get(measure, em)) for measure in PAIRED if "consistency" not in measure}
    settings = ablation.settings(method, seed)
    fields: dict[str, Any] = {
        "method": method,
        "setting": ablation.name,
        "seed": seed,
        "budget": ablation.budget,
        "settings": settings,
        "config_sha256": settings.sha256,
        "cold_start_sha256": "start",
        "questions_sha256": questions,
        "curve": [
            RecordedPoint(step=i, trajectories=t, retriever_calls=int(2 * t), em=value, low=value, high=value)
            for i, (t, value) in enumerate(curve)
        ],
        "training": {"trajectories": [t for t, _ in curve[1:]], "em": [v for _, v in curve[1:]]},
        "test": {
            **{measure: sum(known) / len(known) for measure in per_question},
            "searches_per_question": 2.0,
            "finish_reasons": {"answered": 3, "turn_limit": 1, "cut": 0},
        },
        "per_question": per_question,
        "costs": RecordedCosts(
            trajectories=curve[-1][0],
            steps=len(curve) - 1,
            retriever_calls=int(2 * curve[-1][0]),
            sampled_tokens=1000,
            judge_calls=0,
            seconds=1.5,
            final_evaluation_seconds=0.5,
        ),
        "environment": {"commit": "abc", "hardware": {"cpu": "one"}, "packages": {}},
    }
    return RunRecord(**{**fields, **changes})


def write_fakes(ablation: Ablation, ems: Mapping[str, Sequence[Sequence[float | None]]], **changes: Any) -> None:
    """Records of several methods: for each, one list of exact matches a seed."""
    for method, by_seed in ems.items():
        for seed, em in enumerate(by_seed):
            record = fake_record(ablation, method, seed, em=em, **changes)
            write_record(record_path(ablation.records, method, seed), record)
