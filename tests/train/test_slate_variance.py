"""The benchmark of SLATE's claim runs, and measures what it says where the answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import slate_variance
from tests.train.fakes import trajectory, turn


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_with_independent_steps_the_claim_is_exact(num_steps: int) -> None:
    figures = slate_variance.summary(slate_variance.independent(num_steps, 4000, 5))
    truncated = figures["full/truncated"]
    assert truncated["low"] < num_steps < truncated["high"]
    assert truncated["high"] - truncated["low"] < 0.2 * num_steps
    assert figures["truncated"] == pytest.approx(0.25, rel=0.05)  # a coin's
    assert figures["full"] == pytest.approx(figures["apart"], rel=0.05)


def test_the_variance_is_that_inside_the_groups() -> None:
    members = [trajectory(f"t{i}", [turn((4,))], group=group) for i, group in enumerate("aabb")]
    assert slate_variance.group_variance(np.array([1.0, -1.0, 5.0, 5.0]), members) == 1.0


def test_it_runs(tmp_path: Path) -> None:
    figures = slate_variance.main(["--smoke", "--json", str(tmp_path / "figures.json")])
    assert json.loads((tmp_path / "figures.json").read_text(encoding="utf-8")) == figures
    for hops in ("1 hop", "2 hops", "3 hops", "4 hops"):
        row = figures[hops]
        assert row["questions"] == 6
        assert row["full/truncated"]["ratio"] == pytest.approx(row["full"] / row["truncated"])
        assert row["steps"] >= 1 and row["turns"] >= 1
