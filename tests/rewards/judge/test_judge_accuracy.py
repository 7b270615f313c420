"""The cases that measure the judge by rules: what they are made of, and a floor on those it was written against."""

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.judge_accuracy import FAMILIES, balanced_accuracy, interval, measure
from benchmarks.judge_cases.making import TRAPS, make_cases
from rewards.judge.judge import CRITERIA
from rewards.judge.rules import RulesJudge

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_rules_are_right_on_the_templates_that_they_were_written_against(criterion: str) -> None:
    figures, wrong = measure(RulesJudge(), FAMILIES["development"], criterion, 96)
    assert figures["balanced_accuracy"] >= 0.95, wrong[:3]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("family", FAMILIES)
def test_half_the_cases_are_adversarial_and_half_hold(family: str, criterion: str) -> None:
    cases = make_cases(FAMILIES[family], criterion, 240)
    assert sum(case.trap is not None for case in cases) == 120
    assert {case.trap for case in cases} == {None, *TRAPS}
    assert sum(case.wanted in ("fails", "not_support") for case in cases) == 120
    assert cases == make_cases(FAMILIES[family], criterion, 240), "the same at every call"
    assert len({str(case.request.fields) for case in cases}) > 230


def test_the_families_share_no_template_relation_or_name() -> None:
    parts = []
    for family in FAMILIES.values():
        texts: set[str] = {*family.first_names, *family.last_names, *family.places}
        for field in ("fillers", "thoughts", "plans", "poor_thoughts", "poor_queries", "empty_answers"):
            texts |= set(getattr(family, field))
        for relation in family.relations:
            texts.add(relation.question)
            for field in ("facts", "claims", "denials", "contrasts", "queries", "goals"):
                texts |= set(getattr(relation, field))
        parts.append(texts)
    assert all(not a & b for a, b in combinations(parts, 2))


def test_balanced_accuracy_is_the_mean_of_the_classes_shares() -> None:
    wanted, right = ["holds"] * 8 + ["fails"] * 2, [True] * 8 + [True, False]
    assert balanced_accuracy(wanted, right) == pytest.approx((1.0 + 0.5) / 2)
    low, high = interval(wanted, right)
    assert low == 0.5 and high == 1.0, "both draws of the two that fail can be the wrong one, or the right one"
    many = ["holds"] * 400 + ["fails"] * 400
    luck = list(np.random.default_rng(0).random(800) < 0.8)
    low, high = interval(many, luck)
    assert low < balanced_accuracy(many, luck) < high and 0.04 < high - low < 0.07


def test_the_benchmark_runs_in_seconds(tmp_path: Path) -> None:
    file = tmp_path / "accuracy.json"
    command = [sys.executable, "-m", "benchmarks.judge_accuracy", "--smoke", "--json", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("\n") == 1 + len(CRITERIA)
    figures = json.loads(file.read_text())["criteria"]
    assert set(figures) == set(CRITERIA)
    assert all(row["low"] <= row["balanced_accuracy"] <= row["high"] for row in figures.values())
