"""A recipe that cannot be run is refused before a testbed and a cold start are paid for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.ablation_records import TINY, tiny_ablation
from train import ablation_report
from train.ablation_lock import only_maker
from train.ablation_report import compare
from train.ablation_request import AblationRequest
from train.config_file import ConfigError
from train.method import method_names
from train.progress import RunStopped

HERE = "tests.train.test_without_index"
ASKED: list[str] = []


class ReadsTheCorpus:
    """A reward of a user's own that fits something on the corpus as it is made."""

    name = "reads"
    needs = frozenset[str]()

    def __init__(self, context: Any) -> None:
        ASKED.append("made")
        self.size = len(context.corpus())

    def __call__(self, unit: Any, questions: Any) -> Any:
        raise AssertionError("nothing is scored beforehand")


def recipe(folder: Path, overrides: dict[str, Any]) -> str:
    fields = {"title": "Mine", "source": "me", "summary": "Mine.", "tier": "candidate", "overrides": overrides}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return str(path)


def request(folder: Path, *words: str, **changes: Any) -> AblationRequest:
    setting = folder / "tiny.yaml"
    setting.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return AblationRequest.parse(words, setting=str(setting), seeds="1", out=folder / "out", **changes)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"rewards.exat": {}}, "no reward is named 'exat'"),
        (
            {"rewards.hop_relevance": {"params": {"valu": 1}}},
            r"rewards.hop_relevance.params: .*'valu' .did you mean 'value'",
        ),
        ({"rewards.hop_relevance": {"params": {"value": -1}}}, "value must be a finite number"),
        ({"rewards.nuggets": {"params": {"judge": "ruls"}}}, "judge"),
        ({"rewards.citation_rubric": {"params": {"file": "no.jsonl"}}}, "rewards.citation_rubric.params: the file of "),
        ({"rewards.document_relevance": {"params": {"min_f1": 0}}}, "min_f1 must be above 0 and at most 1, got 0"),
        ({"rewards.reflection": {"params": {"goal_recall": 60}}}, "goal_recall must be above 0 and at most 1, got 60"),
        (
            {"rewards.query_quality": {"params": {"max_overlap": 1.9}}},
            "max_overlap must be a whole number >= 0, got 1.9",
        ),
        ({"rewards.boundary": {"params": {"wrong_searched": 5}}}, "wrong_searched must be below 1"),
        ({"credit.estimator": "trun"}, "no credit estimator is named 'trun'"),
        ({"credit": {"estimator": "turn", "params": {"discont": 0.5}}}, "credit.params: .*'discont'"),
        ({"credit": {"estimator": "c_grpo", "params": {"rubric": "none"}}}, "credit.params.rubric is 'none'"),
        ({"rewards.consistency": {}}, "rewards.consistency scores units of kind paraphrase_set"),
        ({"rewards.own": {"use": f"{HERE}:Nothing"}}, "has no 'Nothing'"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused_before_anything_is_made(
    tmp_path: Path, overrides: dict[str, Any], words: str
) -> None:
    mine = recipe(tmp_path, overrides)
    with pytest.raises(ConfigError, match=rf"method mine under setting tiny: (?s:.*){words}"):
        compare(request(tmp_path, "outcome", mine))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "override", ["testbed.world.seed=abc", "testbed.world.num_passages=-1", "testbed.world.preset=huge"]
)
def test_a_world_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"setting tiny: testbed\.world(\.seed|\.num_passages|): "):
        compare(request(tmp_path, "outcome", override))
    assert not (tmp_path / "out").exists()


def test_every_recipe_of_the_setting_passes(tmp_path: Path) -> None:
    stating = {"reseek", "re_searcher"}
    names = [name for folder in ("methods", "candidates") for name in method_names(folder) if name not in stating]
    ablation = tiny_ablation(tmp_path, names, seeds=1, budget=960)
    ablation.check(names)
    assert len(names) > 30


def test_a_reward_that_fits_itself_on_the_corpus_is_left_for_later(tmp_path: Path) -> None:
    ASKED.clear()
    mine = recipe(tmp_path, {"rewards.own": {"use": f"{HERE}:ReadsTheCorpus"}})
    request(tmp_path, mine).open(print).check(["mine"])
    assert ASKED == ["made"]


def test_a_folder_in_which_runs_are_made_is_refused_but_may_be_reported(tmp_path: Path) -> None:
    with only_maker(tmp_path / "out"):
        with pytest.raises(ConfigError, match="another `waymark ablate`"):
            compare(request(tmp_path, "outcome"))
        with pytest.raises(ConfigError, match="no run of outcome has a record"):
            compare(request(tmp_path, "outcome", report_only=True))
    assert not (tmp_path / "out" / "testbed").exists()


def test_why_a_run_failed_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def fails(ablation: Any, missing: Any, request: Any, say: Any) -> list[str]:
        say("outcome/0: the judge is away, see outcome-0.log")
        return ["outcome/0 (the judge is away, see outcome-0.log)"]

    monkeypatch.setattr(ablation_report, "make_runs", fails)
    with pytest.raises(RunStopped, match=r"^every run failed: outcome/0; why is said above") as left:
        compare(request(tmp_path, "outcome"), say=told.append)
    assert "\n".join([*told, str(left.value)]).count("the judge is away") == 1
