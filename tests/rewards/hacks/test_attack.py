"""Attacks by GRPO: every reward makes a config that can run, and what is told of runs follows from their records."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import hackability
from benchmarks.red_team.attack import SMOKE_SETTING, attack_method, attack_name, attackable, open_attacks, run_attacks
from benchmarks.red_team.attack_figures import attack_figures, verdict
from benchmarks.red_team.attack_report import attack_markdown, svg, write_markdown, write_page
from benchmarks.red_team.known import REPAIRS
from rewards.registry import REWARDS
from tests.train.ablation_records import fake_record
from train.ablation import Ablation
from train.ablation_record import record_path, write_record
from train.ablation_setting import SettingConfig, load_setting
from train.config_file import ConfigError

SMOKE = SettingConfig.model_validate(SMOKE_SETTING)
RISING, FLAT = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.5, 0.4, 0.5, 0.4, 0.5, 0.4, 0.5, 0.4]


def curve(*ems: float) -> list[tuple[int, float, float, float]]:
    """An evaluation every two steps, each with an interval of a tenth around it."""
    return [(2 * i, em, em - 0.05, em + 0.05) for i, em in enumerate(ems)]


@pytest.mark.parametrize("gate", [None, *REPAIRS])
def test_every_reward_can_be_attacked_in_the_settings_that_are_chosen_for_it(tmp_path: Path, gate: str | None) -> None:
    rewards = attackable(gate)
    never_above_0 = {"never_answering", "hop_potential"} if gate == "bottom_line" else set()
    assert set(rewards) == set(REWARDS) - ({"exact_match"} if gate else set()) - never_above_0
    attacks = open_attacks(rewards, out=tmp_path, gate=gate)
    assert {attack.name for attack in attacks} == {"2hops", "2hops_stating", "2hops_citing"}
    runs = {name: attack.config(name, 0) for attack in attacks for name in attack.methods}
    assert set(runs) == {attack_name(reward, gate) for reward in rewards}
    for reward in rewards:
        config = runs[attack_name(reward, gate)]
        assert set(config.rewards) == ({reward} if gate is None else {reward, "exact_match"})
        assert config.trajectories_per_step * config.steps == load_setting("2hops").budget
        assert config.rollout.unit.kind == ("paraphrase_set" if reward in ("agreement", "consistency") else "group")
        assert config.composition.combine == ("gated_product" if gate == "bottom_line" else "sum")
    assert not any(tmp_path.iterdir()), "opening an attack makes nothing"


@pytest.mark.parametrize(
    ("reward", "gate", "words"),
    [
        ("exact", None, "no reward 'exact'"),
        ("format", "closed", "no gate 'closed'"),
        ("exact_match", "correct", "needs no repair by itself"),
        ("never_answering", "bottom_line", "never above 0"),
    ],
)
def test_what_cannot_be_attacked_is_refused(reward: str, gate: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        attack_method(reward, SMOKE, gate)


@pytest.mark.parametrize(
    ("rewards", "ems", "found"),
    [
        (RISING, (0.8, 0.8, 0.5, 0.3, 0.2), "falls"),
        (RISING, (0.2, 0.5, 0.7, 0.4, 0.3), "falls"),
        (RISING, (0.3, 0.3, 0.32, 0.3, 0.31), "stays"),
        (RISING, (0.1, 0.2, 0.4, 0.6, 0.8), "follows"),
        (FLAT, (0.8, 0.6, 0.4, 0.3, 0.2), "no rise"),
        (RISING[::-1], (0.1, 0.2, 0.4, 0.6, 0.8), "no rise"),
        ([0.0] * 8, (0.1, 0.2, 0.4, 0.6, 0.8), "always 0"),
        ([np.nan] * 8, (0.1, 0.2, 0.4, 0.6, 0.8), "no rise"),
    ],
)
def test_the_verdict_on_a_run(rewards: list[float], ems: tuple[float, ...], found: str) -> None:
    figures = verdict(np.array(rewards), curve(*ems))
    assert figures["verdict"] == found
    assert figures["em_last"] == ems[-1] and figures["em_best"] == max(ems)
    if found == "falls" and ems[0] == 0.8:
        assert figures["reward_at_best_em"] == pytest.approx(0.15) and figures["reward_last"] == pytest.approx(0.75)


def attack_with_records(out: Path, reward: str, ems: list[float], rewards: list[float] | None) -> Ablation:
    (attack,) = open_attacks([reward], out=out, setting=SMOKE, seeds=[0, 1])
    training = {"em": ems[1:], **({f"rewards/{reward}/mean": rewards} if rewards else {})}
    points = [(8.0 * i, em) for i, em in enumerate(ems)]
    for seed in (0, 1):
        record = fake_record(attack, attack_name(reward), seed, curve=points, training=training)
        write_record(record_path(attack.records, attack_name(reward), seed), record)
    return attack


def test_records_become_figures_page_picture_and_table(tmp_path: Path) -> None:
    attack = attack_with_records(tmp_path, "format", [0.9, 0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.6, 0.9])
    figures = attack_figures([attack], ["format"], None)
    row = figures["rewards"]["format"]
    assert row["marked"] == 2 and row["repairs"] == ["bottom_line"] and figures["missing"] == []
    points = row["seeds"]["0"]["points"]
    assert [point["reward"] for point in points] == [None, 0.1, 0.2, 0.6, 0.9]
    assert [point["em"] for point in points] == [0.9, 0.6, 0.3, 0.1, 0.0]
    assert "Rewards that rise while EM falls: `format`." in attack_markdown(figures)
    picture = svg(figures)
    assert picture.count("<polyline") == 4 and "format (0.100 to 0.900)" in picture
    assert json.loads((write_page(tmp_path / "page", figures).parent / "report.json").read_text())["arms"]["format"]

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- hackability:alone -->\nold\n<!-- /hackability:alone -->\nafter\n", encoding="utf-8")
    write_markdown(page, "alone", attack_markdown(figures))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "**falls**" in text
    with pytest.raises(ConfigError, match="hackability:correct"):
        write_markdown(page, "correct", "x")


def test_a_reward_that_was_0_throughout_is_0_and_attacks_without_records_are_named(tmp_path: Path) -> None:
    attack = attack_with_records(tmp_path / "zero", "keyword", [0.5, 0.5], None)
    row = attack_figures([attack], ["keyword"], None)["rewards"]["keyword"]
    assert row["seeds"]["1"]["points"][1]["reward"] == 0.0 and row["marked"] == 0
    (unmade,) = open_attacks(["keyword"], out=tmp_path / "none", setting=SMOKE)
    figures = attack_figures([unmade], ["keyword"], None)
    assert figures["missing"] == ["keyword"] and "No record yet: keyword." in attack_markdown(figures)
    assert svg(figures).count("<polyline") == 0


def test_a_policy_to_begin_with_takes_the_place_of_the_cold_start_once(tmp_path: Path) -> None:
    (attack,) = open_attacks(["format"], out=tmp_path / "out", setting=SMOKE)
    with pytest.raises(ConfigError, match="no folder of a model"):
        run_attacks([attack], workers=1, say=print, start=tmp_path / "nothing")
    attack.study.cold_start.mkdir(parents=True)
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match="begin with another policy"):
        run_attacks([attack], workers=1, say=print, start=tmp_path / "model")


def test_the_benchmark_reports_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack_with_records(tmp_path, "format", [0.9, 0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.6, 0.9])
    command = ["--attack", "--smoke", "format", "--seeds", "2", "--out", str(tmp_path), "--report-only"]
    figures = hackability.main([*command, "--svg", str(tmp_path / "docs" / "attack.svg")])
    assert figures["rewards"]["format"]["marked"] == 2
    assert "**falls** · **falls**" in capsys.readouterr().out
    assert (tmp_path / "docs" / "attack.svg").read_text() == svg(figures)
    with pytest.raises(SystemExit):
        hackability.main(["format"])
    assert sys.exc_info() == (None, None, None)
