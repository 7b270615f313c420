"""Methods are compared only over runs that began with the same policy, and the report says what it left out."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.train.ablation_records import fake_record, tiny_ablation
from train.ablation import Ablation
from train.ablation_figures import comparison_figures
from train.ablation_markdown import as_markdown
from train.ablation_page import notes
from train.ablation_pairs import common_runs, records_of_other_starts, seeds_of_pairs
from train.ablation_record import RunRecord, record_path, write_record

WRONG, RIGHT = [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]
EARLY, LATE = [(0, 0.0), (8, 0.9), (16, 0.9)], [(0, 0.0), (8, 0.0), (16, 0.9)]


def write(ablation: Ablation, method: str, starts: list[str | None], **record: Any) -> None:
    """A record a seed, each from the cold start of this name."""
    for seed, start in enumerate(starts):
        made = fake_record(ablation, method, seed, cold_start_sha256=start, **record)
        write_record(record_path(ablation.records, method, seed), made)


def figures_of(ablation: Ablation) -> dict[str, Any]:
    return comparison_figures(
        list(ablation.methods.values()), ablation.read(), setting="tiny", title="Tiny", threshold=0.8, budget=16
    )


def test_only_pairs_of_one_cold_start_are_compared(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=3)
    write(ablation, "outcome", ["a", "a", "b"], em=WRONG)
    write(ablation, "hops_normalised", ["a", "b", "b"], em=RIGHT)
    row = figures_of(ablation)["methods"]["hops_normalised"]
    assert row["against_baseline"]["em"]["num_seeds"] == 2
    assert row["unpaired"] == [1]
    assert row["final"]["em"]["seeds"] == [1.0, 1.0, 1.0], "what a method did is shown whole"


def test_where_no_pair_has_one_cold_start_nothing_is_compared(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=2)
    write(ablation, "outcome", ["a", "a"], em=RIGHT)
    write(ablation, "hops_normalised", ["b", "b"], em=WRONG)
    figures = figures_of(ablation)
    row = figures["methods"]["hops_normalised"]
    assert row["against_baseline"] == {} and figures["below"] == []
    assert "ratio" not in row["to_threshold"]["trajectories"]
    assert row["to_threshold"]["trajectories"]["restricted_mean"] == 16


def test_the_ratio_has_each_cold_start_as_often_on_either_side(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=3)
    write(ablation, "outcome", ["a", "a", "b"], curve=LATE)
    write(ablation, "hops_normalised", ["a", "b", "b"], curve=EARLY)
    for seed, start in ((1, "b"), (2, "b")):
        made = fake_record(ablation, "hops_normalised", seed, cold_start_sha256=start, curve=LATE)
        write_record(record_path(ablation.records, "hops_normalised", seed), made)
    trajectories = figures_of(ablation)["methods"]["hops_normalised"]["to_threshold"]["trajectories"]
    assert trajectories["ratio"] == pytest.approx((8 + 16) / (16 + 16))


def test_with_one_cold_start_every_run_counts_in_the_ratio(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=3)
    ours = {0: fake_record(ablation, "outcome", 0)}
    theirs = {seed: fake_record(ablation, "outcome", seed) for seed in range(3)}
    assert common_runs(ours, theirs) == (ours, theirs)


def test_a_cold_start_that_is_not_known_is_no_ones_equal(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    runs: dict[int, RunRecord] = {0: fake_record(ablation, "outcome", 0, cold_start_sha256=None)}
    assert seeds_of_pairs(runs, runs) == [] and common_runs(runs, runs) == ({}, {})
    write(ablation, "outcome", [None])
    assert any("are not known" in note for note in notes(figures_of(ablation)))


def test_page_and_tables_say_what_was_left_out(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path, seeds=2)
    write(ablation, "outcome", ["a", "a"])
    write(ablation, "hops_normalised", ["a", "b"])
    figures = figures_of(ablation)
    title = figures["methods"]["hops_normalised"]["title"]
    said = f"Runs began from 2 cold starts .* in no comparison for that reason: {title} \\(seed 1\\)\\."
    for text in ("\n".join(notes(figures)), as_markdown(figures)):
        assert re.search(said, text), text
    write(ablation, "hops_normalised", ["a", "a"])
    assert "cold starts" not in as_markdown(figures_of(ablation))


def test_records_that_began_elsewhere_are_known_before_runs_are_made(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    folder = tmp_path / "cold_start"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(f"model.safetensors\0{hashlib.sha256(b'weights').hexdigest()}\0".encode()).hexdigest()
    write(ablation, "outcome", [digest, "elsewhere"])
    assert records_of_other_starts(ablation.read(), folder) == [("outcome", 1)]
