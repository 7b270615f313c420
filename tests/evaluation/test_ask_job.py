"""What a policy's run says about how it is asked, and what cannot be asked."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from evaluation.ask_job import AskJob, asked_question, model_folder
from tests.evaluation.conftest import SmallWorld

RUN = {
    "policy": {"model": "somewhere", "trust_remote_code": False},
    "data": {"index": "indexes/a"},
    "rewards": {"exact_match": {"weight": 1.0}},
    "protocol": {"name": "search_r1", "overrides": {"on_invalid": "end"}},
    "limits": {"max_turns": 2, "top_k": 2, "max_new_tokens_per_turn": 24, "max_trajectory_tokens": 700},
    "learner": {"precision": "bf16"},
}


@pytest.fixture
def policy_folder(tmp_path: Path) -> Path:
    """A checkpoint's model, of which only the place is looked at."""
    folder = tmp_path / "run" / "checkpoints" / "step-000002" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def run_folder(policy_folder: Path) -> Path:
    run = policy_folder.parents[2]
    (run / "config.yaml").write_text(yaml.safe_dump(RUN), encoding="utf-8")
    return run


def test_a_checkpoint_of_a_run_is_asked_as_it_was_trained(run_folder: Path, policy_folder: Path) -> None:
    for place in (run_folder, policy_folder, policy_folder.parent):
        settings = AskJob(policy=str(place), index="i", question="Who?").settings()
        assert Path(settings.policy) == policy_folder
        assert (settings.protocol, settings.protocol_overrides) == ("search_r1", {"on_invalid": "end"})
        assert (settings.limits.max_turns, settings.limits.top_k, settings.dtype) == (2, 2, "bfloat16")
        assert settings.run_config == (run_folder / "config.yaml").resolve()
    own = {"protocol": "waymark", "limits": {"top_k": 1}, "dtype": "float32"}
    settings = AskJob(policy=str(run_folder), index="i", question="Who?", **own).settings()
    assert (settings.protocol, settings.protocol_overrides, settings.dtype) == ("waymark", {}, "float32")
    assert (settings.limits.top_k, settings.limits.max_turns) == (1, 2), "what is not given stays the run's"


def test_the_trained_model_goes_before_checkpoints(run_folder: Path, policy_folder: Path) -> None:
    (run_folder / "model").symlink_to(policy_folder)
    assert model_folder(str(run_folder)) == str(run_folder / "model")


def test_a_config_that_is_no_runs_is_not_read(policy_folder: Path) -> None:
    config = policy_folder.parents[2] / "config.yaml"
    for text in ("title: a site\n", "{{ not: yaml", "- 1\n"):
        config.write_text(text, encoding="utf-8")
        settings = AskJob(policy=str(policy_folder), index="i", question="Who?").settings()
        assert (settings.protocol, settings.run_config) == ("waymark", None)


def test_a_folder_without_a_policy_and_a_run_that_cannot_be_read_are_told(tmp_path: Path, policy_folder: Path) -> None:
    with pytest.raises(ValueError, match="holds no policy"):
        AskJob(policy=str(tmp_path), index="i", question="Who?").settings()
    run = policy_folder.parents[2]
    (run / "metrics.jsonl").touch()
    (run / "config.yaml").write_text("{{ not: yaml", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read as a run's config"):
        AskJob(policy=str(policy_folder), index="i", question="Who?").settings()
    (run / "config.yaml").write_text(yaml.safe_dump({**RUN, "limits": {"max_turnz": 3}}), encoding="utf-8")
    with pytest.raises(ValueError, match="max_turnz"):
        AskJob(policy=str(policy_folder), index="i", question="Who?").settings()
    (run / "config.yaml").write_text(yaml.safe_dump({**RUN, "limits": [3]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"limits is \[3\], no section"):
        AskJob(policy=str(policy_folder), index="i", question="Who?").settings()


def test_a_question_is_found_by_its_text_or_id(small_world: SmallWorld) -> None:
    job = AskJob(policy="scripted:expert", index="i", question="q-Oslo", questions=small_world.questions_file)
    by_text = asked_question(replace(job, question=f" {small_world.questions[0].text} "))
    assert by_text == asked_question(job) == small_world.questions[0]
    plain = asked_question(AskJob(policy="p", index="i", question="Who?"))
    assert (plain.text, plain.golden_answers) == ("Who?", ())
