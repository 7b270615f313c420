"""One line of a config moves a run from an index folder to a server, or to a hybrid, and changes nothing else."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.trajectory_store import read_trajectories
from retrieval.retriever import RetrievalError
from retrieval.spec import IndexSpec
from tests.train.conftest import run_settings
from tests.train.served_index import okapi_beside, served_index
from tests.train.test_resume import REWARDS, reproducible
from train.assembly import assemble
from train.config import check_config, load_config
from train.config_file import ConfigError
from train.plan import plan_of
from train.run import train
from train.run_settings import settings_of
from train.study import Study, StudyConfig
from train.testbed import Testbed

FIRST_ACTIONS = {"demonstrations": 128, "max_turns": 1, "steps": 80, "batch_size": 16}
"""Enough imitation that the policy searches; what it finds is what the runs would differ in."""


def settings(testbed: Testbed, index: Any, **changes: Any) -> dict[str, Any]:
    made = run_settings(testbed, **{"rewards": REWARDS, "steps": 2, "evaluate_every": 1, **changes})
    made["limits"]["max_new_tokens_per_turn"] = 48
    made["cold_start"] = {"phases": [FIRST_ACTIONS]}
    return {**made, "data": {**made["data"], "index": index}}


def played(folder: Path) -> list[Any]:
    """Every trajectory of a run but for how long its searches took."""
    return [
        replace(
            trajectory,
            turns=tuple(
                replace(turn, calls=tuple(replace(call, latency_s=0.0) for call in turn.calls))
                for turn in trajectory.turns
            ),
        )
        for trajectory in (stored.trajectory for stored in read_trajectories(folder / "trajectories"))
    ]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


@pytest.mark.slow
def test_an_index_in_process_and_served_give_one_run(testbed: Testbed, tmp_path: Path) -> None:
    train(check_config(settings(testbed, str(testbed.index))), tmp_path / "here")
    with served_index(testbed.index) as server:
        train(check_config(settings(testbed, server.url)), tmp_path / "served")
    here, there = played(tmp_path / "here"), played(tmp_path / "served")
    assert here == there and any(call.hits for t in here for turn in t.turns for call in turn.calls)
    assert json.dumps(reproducible(tmp_path / "here")) == json.dumps(reproducible(tmp_path / "served"))
    identities = [json.loads((tmp_path / name / "retriever.json").read_text()) for name in ("here", "served")]
    assert identities[0] == identities[1] and identities[0]["index_hash"]


@pytest.mark.slow
def test_a_hybrid_in_process_served_and_half_served_give_one_run(testbed: Testbed, tmp_path: Path) -> None:
    parts = [str(testbed.index), okapi_beside(testbed)]
    train(check_config(settings(testbed, {"hybrid": parts})), tmp_path / "here")
    with served_index(*parts) as whole, served_index(parts[0]) as half:
        train(check_config(settings(testbed, whole.url)), tmp_path / "served")
        train(check_config(settings(testbed, {"hybrid": [half.url, parts[1]]})), tmp_path / "half")
    here = played(tmp_path / "here")
    assert here == played(tmp_path / "served") == played(tmp_path / "half")
    assert any(call.hits for t in here for turn in t.turns for call in turn.calls)


@pytest.mark.slow
def test_a_run_goes_on_over_another_address_of_its_index_and_over_no_other_index(
    testbed: Testbed, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(check_config(settings(testbed, str(testbed.index), steps=1)), run)
    with served_index(testbed.index) as server:
        train(check_config(settings(testbed, server.url, steps=2)), run, resume=True)
    train(check_config(settings(testbed, str(testbed.index))), tmp_path / "whole")
    assert json.dumps(reproducible(run)) == json.dumps(reproducible(tmp_path / "whole"))
    with pytest.raises(ConfigError, match=r"--resume with another retriever .*backend: was 'bm25s', now 'rank_bm25'"):
        train(check_config(settings(testbed, okapi_beside(testbed), steps=3)), run, resume=True)


def test_a_config_is_written_back_as_it_was_given(testbed: Testbed, tmp_path: Path) -> None:
    written = check_config(settings(testbed, "indexes/a")).model_dump(mode="json")["data"]
    assert written["index"] == "indexes/a", "the config.yaml of an older run says the same"
    assert check_config(settings(testbed, "http://h:1")).model_dump(mode="json")["data"]["index"] == "http://h:1"
    hybrid = check_config(settings(testbed, {"hybrid": ["a", {"url": "http://h:1", "token": "secret"}]}))
    dumped = yaml.safe_dump(hybrid.model_dump(mode="json"))
    assert "secret" not in dumped
    assert check_config(yaml.safe_load(dumped)).model_dump(mode="json") == hybrid.model_dump(mode="json")
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(settings(testbed, "indexes/a")))
    assert load_config(path, ["data.index={hybrid: [a, b], method: weighted}"]).data.index.hybrid[1] == IndexSpec(
        index=Path("b")
    )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"hybrid": ["a"]}, r"data\.index: .*hybrid: has 1 part; it needs two or more"),
        ({"hybrid": ["a", 5]}, r"data\.index: retriever: hybrid\.1: a retriever is a path"),
        ({"hybrid": ["a", "b"], "depths": 3}, r"data\.index: .*depths: there is no such setting beside hybrid"),
        ({"index": "a", "url": "http://b"}, r"data\.index: .*one of the keys index, url, hybrid, rerank"),
        ("nowhere.yaml", r"data\.index: .*there is no retriever file nowhere\.yaml"),
        ("{hybrid: [a", r"data\.index: .*the retriever .* cannot be read as yaml"),
        ("", r"data\.index: .*a retriever is a path"),
        (None, r"data\.index: .*a retriever is a path"),
    ],
)
def test_a_wrong_spec_is_told_with_its_field(testbed: Testbed, index: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(settings(testbed, index))


def test_a_file_that_names_itself_is_refused(testbed: Testbed, tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(f"hybrid: [{path}, {path}]\n")
    with pytest.raises(ConfigError, match="never ends: a file of it names itself"):
        check_config(settings(testbed, str(path)))


def test_a_server_that_is_not_there_is_told_before_the_run(testbed: Testbed, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    config = check_config(settings(testbed, {"url": url, "retries": 0}))
    with pytest.raises(ValueError, match=rf"retriever .*{url}.* cannot be searched: .*Start its server"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_reward_that_reads_the_corpus_says_so_at_assembly(testbed: Testbed) -> None:
    rewards = {"information_gain": {"weight": 1.0}, "exact_match": {"weight": 1.0}}
    with served_index(testbed.index) as server:
        config = settings(testbed, server.url, rewards=rewards)
        with pytest.raises(
            ValueError,
            match=r"rewards\.information_gain reads the whole corpus\. data\.index is http.*corpus_index",
        ):
            assemble(check_config(config))
        config["data"]["corpus_index"] = str(testbed.index)
        with assemble(check_config(config)) as parts:
            assert parts.warnings == () and server.url in plan_of(check_config(config), parts)
            assert parts.index.get(parts.train_questions[0].supporting_ids[0]).text
        config["limits"]["top_k"] = 9_999_999
        with pytest.raises(ValueError, match=r"top_k is 9999999, but the index http.* holds only"):
            assemble(check_config(config))


def test_a_cold_start_does_not_imitate_outages(testbed: Testbed) -> None:
    from envs.policies.demonstrations import make_demonstrations
    from envs.policies.expert import ExpertPolicy

    with served_index(testbed.index) as server:
        spec = {"url": server.url, "retries": 0, "timeout_s": 5}
        with assemble(check_config(settings(testbed, spec))) as parts:
            server.end()
            with pytest.raises(RetrievalError, match="4 of 4 demonstrations ended because a search was not answered"):
                make_demonstrations(
                    parts.train_questions,
                    ExpertPolicy(parts.protocol),
                    parts.index,
                    protocol=parts.protocol,
                    tokenizer=parts.tokenizer,
                    limits=check_config(settings(testbed, spec)).limits,
                    count=4,
                )


def test_a_study_tells_hybrids_apart_and_places_not(testbed: Testbed) -> None:
    def figures(index: Any) -> dict[str, Any]:
        return settings_of(check_config(settings(testbed, index)))

    assert figures("a") == figures("b") == figures("http://c:1")
    assert figures({"hybrid": ["a", "b"]}) == figures({"hybrid": ["http://c:1", "d"]}) != figures("a")
    assert figures({"hybrid": ["a", "b"]}) != figures({"hybrid": ["a", "b"], "rrf_k": 10})
    assert figures({"index": "a", "settings": {"nprobe": 3}}) != figures("a")


def test_a_study_over_a_server_reads_passages_from_its_testbed(tmp_path: Path) -> None:
    study = StudyConfig.model_validate(
        {
            "testbed": {},
            "train": {"rewards": {"exact_match": {}}, "data": {"index": "http://h:1"}},
            "arms": {"turn": {}},
        }
    )
    config = Study(study, tmp_path).base_config()
    assert str(config.data.index) == "http://h:1"
    assert config.data.corpus_index == tmp_path / "testbed" / "index"
