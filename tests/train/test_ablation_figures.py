"""What is reported follows from the records alone: censoring, pairing, and no claim with too few seeds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.seed_pairs import MIN_SEEDS
from tests.train.ablation_records import fake_record, tiny_ablation, write_fakes
from train.ablation import Ablation
from train.ablation_figures import comparison_figures, made_with
from train.ablation_record import record_path, write_record
from train.config_file import ConfigError

WRONG, RIGHT = [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]


def figures_of(ablation: Ablation) -> dict[str, Any]:
    return comparison_figures(
        list(ablation.methods.values()),
        ablation.read(),
        setting=ablation.name,
        title=ablation.setting.title,
        threshold=0.8,
        budget=ablation.budget,
    )


def test_figures_are_json_and_name_what_has_no_record(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    write_fakes(ablation, {"outcome": [WRONG]})
    figures = figures_of(ablation)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["missing"] == ["hops_normalised"]
    assert list(figures["methods"]) == ["outcome"]


def test_nothing_to_report_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run of outcome, hops_normalised has a record"):
        figures_of(tiny_ablation(tmp_path))


def test_final_figures_are_means_over_seeds_and_one_seed_has_no_interval(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    write_fakes(ablation, {"outcome": [WRONG, RIGHT], "hops_normalised": [RIGHT]})
    methods = figures_of(ablation)["methods"]
    assert methods["outcome"]["final"]["em"] == {"mean": 0.5, "low": 0.25, "high": 0.75, "seeds": [0.25, 0.75]}
    assert methods["hops_normalised"]["final"]["em"]["low"] is None
    assert methods["outcome"]["finish_reasons"] == {"answered": 6, "turn_limit": 2}
    assert methods["outcome"]["costs"]["retriever_calls"] == [32, 32]


def test_a_seed_that_never_reaches_the_threshold_counts_as_its_budget(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=3)
    curves = {
        "outcome": [[(0, 0.0), (8, 0.1), (16, 0.2)], [(0, 0.0), (8, 0.1), (16, 0.85)], [(0, 0.0), (8, 0.8), (16, 0.1)]],
        "hops_normalised": [[(0, 0.0), (8, 0.9), (16, 0.9)]] * 3,
    }
    for method, by_seed in curves.items():
        for seed, curve in enumerate(by_seed):
            write_record(record_path(ablation.records, method, seed), fake_record(ablation, method, seed, curve=curve))
    methods = figures_of(ablation)["methods"]
    ours, theirs = (methods[name]["to_threshold"]["trajectories"] for name in ("hops_normalised", "outcome"))
    assert theirs["needed"] == [None, 16, 8]
    assert theirs["share_reached"] == pytest.approx(2 / 3)
    assert theirs["restricted"] == [16, 16, 8]
    assert ours["ratio"] == pytest.approx(8 / np.mean([16, 16, 8]))
    assert ours["ratio_low"] <= ours["ratio"] <= ours["ratio_high"]
    calls = methods["outcome"]["to_threshold"]["retriever_calls"]
    assert calls["needed"] == [None, 32, 16], "two searches a trajectory"


def test_a_point_past_the_budget_does_not_count(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=1)
    curves = {"outcome": [(0, 0.0), (8, 0.5), (16, 0.8)], "hops_normalised": [(0, 0.0), (12, 0.7), (20, 0.9)]}
    for method, curve in curves.items():
        write_record(record_path(ablation.records, method, 0), fake_record(ablation, method, 0, curve=curve))
    methods = figures_of(ablation)["methods"]
    overshot = methods["hops_normalised"]["to_threshold"]
    assert overshot["trajectories"]["needed"] == overshot["retriever_calls"]["needed"] == [None]
    assert overshot["trajectories"]["restricted"] == [16], "the budget, not the 20 that the run came to"
    assert overshot["trajectories"]["ratio"] == 1.0
    assert methods["outcome"]["to_threshold"]["trajectories"]["needed"] == [16], "the budget itself does"


def test_a_run_that_stops_searching_is_not_the_cheapest(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=2)
    arrived, collapsed = [(0, 0.0), (8, 0.9), (16, 0.9)], [(0, 0.0), (8, 0.1), (16, 0.1)]

    def write(method: str, seed: int, curve: list[tuple[float, float]], calls: list[int]) -> None:
        record = fake_record(ablation, method, seed, curve=curve)
        points = [p.model_copy(update={"retriever_calls": n}) for p, n in zip(record.curve, calls, strict=True)]
        costs = record.costs.model_copy(update={"retriever_calls": calls[-1]})
        record = record.model_copy(update={"curve": points, "costs": costs})
        write_record(record_path(ablation.records, method, seed), record)

    def calls_of(method: str) -> dict[str, Any]:
        told: dict[str, Any] = figures_of(ablation)["methods"][method]["to_threshold"]["retriever_calls"]
        return told

    for seed in range(2):
        write("outcome", seed, arrived, [0, 16, 32])
    write("hops_normalised", 0, arrived, [0, 8, 9])
    write("hops_normalised", 1, collapsed, [0, 1, 1])
    told = calls_of("hops_normalised")
    assert (told["needed"], told["share_reached"]) == ([8, None], 0.5)
    for name in ("restricted", "restricted_mean", "restricted_mean_low", "ratio", "ratio_low", "ratio_high"):
        assert told[name] is None, name
    write("hops_normalised", 1, arrived, [0, 12, 13])
    told = calls_of("hops_normalised")
    assert (told["restricted_mean"], told["ratio"]) == (10, pytest.approx(10 / 16))
    write("outcome", 1, collapsed, [0, 1, 1])
    told = calls_of("hops_normalised")
    assert (told["restricted_mean"], told["ratio"]) == (10, None), "outcome-only has a run that never arrived"


def test_nothing_is_claimed_of_few_seeds_and_everything_is_shown(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=MIN_SEEDS - 1)
    write_fakes(ablation, {"outcome": [WRONG] * (MIN_SEEDS - 1), "hops_normalised": [RIGHT] * (MIN_SEEDS - 1)})
    one = figures_of(ablation)["methods"]["hops_normalised"]["against_baseline"]["em"]
    assert (one["difference"], one["p"], one["p_holm"], one["is_significant"]) == (0.5, None, None, False)
    assert one["by_seed"] == [0.5] * (MIN_SEEDS - 1)


def test_ten_seeds_that_agree_are_significant(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=MIN_SEEDS)
    write_fakes(ablation, {"outcome": [WRONG] * MIN_SEEDS, "hops_normalised": [RIGHT] * MIN_SEEDS})
    one = figures_of(ablation)["methods"]["hops_normalised"]["against_baseline"]["em"]
    assert one["p"] == pytest.approx(2 / 2**MIN_SEEDS), "all signs alike, of all patterns of signs"
    assert one["p_holm"] == pytest.approx(2 * one["p"]), "EM and F1 are tested together"
    assert one["is_significant"]


def test_only_seeds_of_both_are_paired(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=4)
    write_fakes(ablation, {"outcome": [WRONG] * 2, "hops_normalised": [RIGHT] * 4})
    assert figures_of(ablation)["methods"]["hops_normalised"]["against_baseline"]["em"]["num_seeds"] == 2


def test_cells_that_may_be_a_loss_are_listed_and_gains_are_not(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, ["outcome", "hops_normalised", "hops_per_turn"], seeds=2)
    write_fakes(ablation, {"outcome": [RIGHT] * 2, "hops_normalised": [[1.0] * 4] * 2, "hops_per_turn": [WRONG] * 2})
    below = figures_of(ablation)["below"]
    assert {cell["method"] for cell in below} == {"hops_per_turn"}
    assert {cell["measure"] for cell in below} >= {"em", "f1", "support_recall"}
    assert all(cell["low"] < -0.02 for cell in below)


def test_without_the_baseline_there_is_no_ratio_and_no_difference(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, ["hops_normalised"])
    write_fakes(ablation, {"hops_normalised": [RIGHT]})
    figures = figures_of(ablation)
    assert figures["baseline"] is None and figures["below"] == []
    assert "ratio" not in figures["methods"]["hops_normalised"]["to_threshold"]["trajectories"]


def test_figures_that_do_not_apply_leave_the_comparison(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=1)
    nothing: dict[str, Any] = {"measures": {"citation_recall": [None] * 4, "support_recall": [None, 1.0, 0.0, None]}}
    write_fakes(ablation, {"outcome": [WRONG], "hops_normalised": [RIGHT]}, **nothing)
    against = figures_of(ablation)["methods"]["hops_normalised"]["against_baseline"]
    assert "citation_recall" not in against
    assert against["support_recall"]["difference"] == 0.0
    assert all(math.isfinite(one["low"]) for one in against.values())


def test_runs_over_other_questions_are_not_paired(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    write_fakes(ablation, {"outcome": [WRONG]})
    write_fakes(ablation, {"hops_normalised": [RIGHT]}, questions="others")
    with pytest.raises(ConfigError, match="hops_normalised with seed 0 answered other test questions"):
        figures_of(ablation)


def test_consistency_is_compared_where_every_run_has_it_of_the_same_questions(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=1)

    def write(method: str, values: list[float | None]) -> None:
        measured = {"consistency": {"consistency_end_to_end": 0.5}} if values else {}
        record = fake_record(ablation, method, 0, em=WRONG, **measured)
        record.per_question["consistency_end_to_end"] = values
        write_record(record_path(ablation.records, method, 0), record)

    def compared() -> dict[str, Any]:
        row: dict[str, Any] = figures_of(ablation)["methods"]["hops_normalised"]
        return row

    write("outcome", [0.25, 0.5])
    write("hops_normalised", [0.5, 1.0])
    assert compared()["against_baseline"]["consistency_end_to_end"]["difference"] == 0.375
    assert compared()["final"]["consistency_end_to_end"]["seeds"] == [0.5]
    for values in ([], [0.5, 1.0, 1.0]):
        write("hops_normalised", values)
        assert "consistency_end_to_end" not in compared()["against_baseline"]


def test_cold_starts_of_different_bits_are_told(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    write_fakes(ablation, {"outcome": [WRONG]})
    write_fakes(ablation, {"hops_normalised": [RIGHT]}, cold_start_sha256="elsewhere")
    assert figures_of(ablation)["cold_starts"] == ["elsewhere", "start"]


def test_machines_and_commits_are_named_once_and_in_words() -> None:
    machine = {"hardware": {"cpu": "AMD EPYC", "cores": 2}, "threads": "1", "commit": "0123456789abcdef"}
    changed = {**machine, "commit": "0123456789abcdef+changes"}
    made = made_with([machine, machine, {**machine, "threads": "2"}, {"commit": None}, changed])
    assert made["machines"] == [
        "2 cores of AMD EPYC, 1 thread a run",
        "2 cores of AMD EPYC, 2 threads a run",
        "unknown",
    ]
    assert made["commits"] == ["0123456", "0123456 with changes", "unknown"]
