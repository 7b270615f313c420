"""Reports with invented but plausible figures, for the tests of the page."""

import math
from collections.abc import Sequence

import numpy as np

from evaluation.examples import make_example
from evaluation.report_parts import Arm, CurvePoint, Report, SeedRun, Table
from tests.evaluation.episodes import QUESTION, answer_turn, good_trajectory, search_turn, trajectory

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def _curve(middle: float, *, seed: int = 0, points: int = 7) -> tuple[CurvePoint, ...]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(points):
        value = float(np.clip(1 / (1 + math.exp(-(i - middle) * 1.5)) + rng.normal(0, 0.02), 0, 1))
        half = 1.96 * math.sqrt(value * (1 - value) / 200)
        found.append(
            CurvePoint(
                trajectories=i * 960, value=value, low=max(0, value - half), high=min(1, value + half), step=10 * i
            )
        )
    return tuple(found)


def _metrics(middle: float, *, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(1, 61):
        level = 1 / (1 + math.exp(-(step / 10 - middle)))
        noise = rng.normal(0, 0.03, size=3)
        rows.append(
            {
                "step": step,
                "trajectories": step * 96,
                "em": float(np.clip(level + noise[0], 0, 1)),
                "searches": 2 + float(noise[1]),
                "finish_ratio/turn_limit": float(np.clip(0.3 * (1 - level) + noise[2], 0, 1)),
                "rewards/exact_match/mean": float(np.clip(level + noise[0], 0, 1)),
                "rewards/hop_relevance/mean": float(0.5 + level / 2 + noise[1]),
                "rewards/never_answering/mean": float(-0.3 * (1 - level)),
            }
        )
    return rows


def summary(em: float) -> dict[str, object]:
    names = {
        "f1": em + 0.02,
        "subem": em + 0.01,
        "support_recall": 0.5 + em / 2,
        "citation_precision": em,
        "citation_recall": em - 0.01,
        "searches_per_question": 2.04,
        "tokens_per_question": 148.2,
    }
    return {
        "n": 200,
        "em": em,
        "em_low": em - 0.02,
        "em_high": em + 0.02,
        **names,
        **{f"{name}_low": value - 0.02 for name, value in names.items()},
        **{f"{name}_high": value + 0.02 for name, value in names.items()},
        "finish_reasons": {"answered": int(200 * em), "turn_limit": 200 - int(200 * em), "malformed": 0},
    }


def one_seed_report(title: str = "Quickstart: outcome-only beside per-turn credit") -> Report:
    scored = {
        "rewards": {
            "hop_relevance": {"turn": [0.5, 0.5, None], "outcome": None},
            "exact_match": {"turn": [None, None, None], "outcome": 1.0},
        },
        "advantages": [0.61, 0.94, 0.35],
    }
    wrong = trajectory(
        search_turn("Oslo city", [(1, "p3")], thought="I think it is Bergen."), answer_turn("Bergen", [1]), id="t2"
    )
    unanswered = trajectory(
        search_turn("Norway", [(1, "p2")]), search_turn("Norway", []), id="t3", finish_reason="turn_limit"
    )
    return Report(
        title=title,
        summary_lines=["Turn credit reaches EM 0.96; outcome-only 0.71.", "Cold start was at 0.06."],
        arms=[
            Arm(name="outcome", curve=_curve(4.2), metrics=_metrics(4.2), final=summary(0.71)),
            Arm(name="turn", curve=_curve(2.1), metrics=_metrics(2.1), final=summary(0.96)),
        ],
        controls={
            "cold_start": summary(0.06),
            "closed_book": summary(0.02),
            "random_retriever": summary(0.025),
            "single_search": summary(0.18),
        },
        examples=[
            make_example(good_trajectory(), QUESTION, extra=scored, label="turn"),
            make_example(wrong, QUESTION, label="turn"),
            make_example(unanswered, QUESTION, label="outcome"),
        ],
        comparability={
            "model": {"name": "cold-start", "weights_sha256": "ab" * 32},
            "index": {"backend": "bm25s", "index_hash": "cd" * 32},
            "seeds": [0],
            "packages": {"torch": "2.13.0", "trl": "1.16.0"},
            "commit": None,
        },
        notes=["One seed: intervals are over questions."],
        threshold=0.8,
    )


def many_seed_report(names: Sequence[str] = ("outcome", "process per trajectory", "turn")) -> Report:
    arms = []
    for position, name in enumerate(names):
        seeds = [
            SeedRun(
                seed=seed,
                curve=_curve(4.5 - position + 0.4 * seed, seed=seed),
                metrics=_metrics(4.5 - position + 0.4 * seed, seed=seed),
            )
            for seed in range(5)
        ]
        arms.append(Arm(name=name, seeds=seeds, final=summary(0.6 + 0.1 * position)))
    table = Table(
        title="Trajectories to EM 0.8",
        columns=["arm", "reached", "restricted mean", "median"],
        rows=[["outcome", "3 of 5", 4800, None], ["turn", "5 of 5", 2100, 1920]],
        note="Seeds that never got there are censored at the budget of 5,760 trajectories.",
    )
    return Report(title="Credit per turn, measured", arms=arms, tables=[table], threshold=0.8)
