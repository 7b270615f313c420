"""`python -m benchmarks.hackability` prints and writes the matrices of rewards and of recipes."""

import json
from pathlib import Path

import pytest

from benchmarks import hackability
from envs.policies.registry import CHEATS
from rewards.registry import REWARDS
from train.method import method_names


def test_both_matrices_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "matrices.json"
    figures = hackability.main(["--smoke", "--json", str(path)])
    assert json.loads(path.read_text(encoding="utf-8")) == figures
    assert set(figures["rewards"]) == {"columns", *REWARDS} and set(figures["recipes"]) == {"columns", *method_names()}
    assert all(set(row) == set(CHEATS) for name, row in figures["recipes"].items() if name != "columns")
    assert figures["settings"]["max_turns"] == {"rewards": 8, "recipes": 4}
    assert '"guesser": [ 0.0, 1.0, 0.0, 0.0 ]' in path.read_text(encoding="utf-8"), "a pair is a line"
    printed = capsys.readouterr().out
    assert "\nexact_match " in printed and "\noutcome " in printed and "honest: 108 episodes" in printed
    assert hackability.LEGEND in printed and hackability.TOO_FEW in printed and "as known" not in printed


def test_a_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="name a folder that `waymark ablate` made"):
        hackability.main(["--cold-start", str(tmp_path)])
