"""docs/rewards.md lists every built-in reward and its example runs; the benchmark runs."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from rewards.compose import RewardTerm, build_rewards
from rewards.registry import REWARDS
from tests.conftest import REPOSITORY
from tests.rewards.builders import QUESTION, answer, context, group, search, trajectory

PAGE = (REPOSITORY / "docs" / "rewards.md").read_text(encoding="utf-8")


def test_the_table_has_every_reward_with_the_needs_it_states() -> None:
    section = PAGE.split("## The built-in rewards\n")[1].split("\n## ")[0]
    rows = {m[1]: m[0] for m in re.finditer(r"^\| `(\w+)` \|.*$", section, re.M)}
    assert set(rows) == set(REWARDS)
    for name, row in rows.items():
        needs = REWARDS[name](context()).needs
        assert row.split("|")[5].strip() == (", ".join(f"`{field}`" for field in sorted(needs)) or "nothing")


def test_the_example_config_and_reward_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(re.findall(r"```python\n(.*?)```", PAGE, re.S)[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    config = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0])
    composition = build_rewards({name: RewardTerm(**term) for name, term in config["rewards"].items()}, context())
    unit = group(trajectory(search(["a"]), search(["b"]), answer("Oskel", (1, 2))))
    scores = composition.score(unit, {"q": QUESTION})
    assert scores["brevity"].outcome.tolist() == [0.5]
    assert scores["cited"].outcome.tolist() == [1.0]
    sys.modules.pop("my_rewards", None)


def test_the_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import scoring_cost

    figures = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["scoring_cost", "--smoke", "--json", str(figures)])
    scoring_cost.main()
    read = json.loads(figures.read_text(encoding="utf-8"))
    assert set(read["rewards"]) == set(REWARDS) and read["total"]["warm_us"] > 0
