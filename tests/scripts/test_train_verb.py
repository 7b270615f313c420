"""The verb as a user runs it: the plan first, a cluster by its address, and one message for what cannot be."""

from pathlib import Path

import pytest
import ray
import yaml

from scripts.cli import main
from tests.train.conftest import SMALL_POLICY, SMALL_WORLD, run_settings
from train.config import load_config
from train.plan_cluster import cluster_overrides
from train.runtime_config import RaySettings
from train.testbed import Testbed, TestbedConfig, prepare_testbed


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Testbed:
    config = TestbedConfig(world=SMALL_WORLD, policy=SMALL_POLICY)
    return prepare_testbed(config, tmp_path_factory.mktemp("testbed"))


@pytest.fixture
def config_file(testbed: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("scripts.cli.set_thread_budget", lambda threads, environ: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    settings = run_settings(testbed, steps=2, cold_start=None, evaluate_every=0)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def verb(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["train", *arguments])
    return int(left.value.code or 0)


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(str(config_file), "--dry-run", "--out", str(tmp_path / "run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["policy", "index"]
    assert any(line.startswith("batch        3 questions x 4 samples = 12 trajectories a step") for line in lines)
    assert any(line.startswith("memory       learner: weights ") for line in lines)
    assert not (tmp_path / "run").exists()


def test_a_run_prints_its_plan_before_its_first_step(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(str(config_file), "--out", str(tmp_path / "run")) == 0
    said = capsys.readouterr().out
    assert said.index("budget       prompts of") < said.index("train    1/2") < said.index("trained 2 steps")


def test_what_is_missing_is_listed_after_the_plan_of_the_rest(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(str(config_file), "data.index=http://127.0.0.1:9", "policy.model=somebody/absent", "--dry-run") == 2
    said = capsys.readouterr()
    assert "trajectories a step" in said.out and "missing      policy.model: " in said.out
    assert "not on this machine: policy.model, data.index; everything else has been checked" in said.err


def test_what_is_wrong_is_told_as_such_where_nothing_is_missing(
    config_file: Path, testbed: Testbed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(str(config_file), f"data.dev_questions={testbed.questions('train')}", "--dry-run") == 2
    assert "give dev questions of their own" in capsys.readouterr().err


def test_the_address_of_a_cluster_sets_the_runtime_and_keeps_its_other_settings(config_file: Path) -> None:
    local = load_config(config_file, cluster_overrides("auto")).runtime
    assert isinstance(local, RaySettings) and (local.address, local.workers) == ("auto", 2)
    given = ["runtime={kind: ray, workers: 5}", *cluster_overrides("[::1]:6379")]
    assert load_config(config_file, given).runtime == RaySettings(workers=5, address="[::1]:6379")
    assert load_config(config_file, cluster_overrides(None)).runtime.kind == "local"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--ray-address", "ray://head:10001"), "is of Ray's client protocol"),
        (("--ray-address", "auto", "engine.schedule=deterministic"), "engine.schedule is deterministic, but runtime"),
        (("--ray-address", "127.0.0.1:1"), "there is no Ray cluster to join at '127.0.0.1:1' from this machine"),
        (("runtime.kind=ray", "runtime.learners=9"), "groups stay whole"),
    ],
)
def test_a_cluster_that_cannot_be_is_one_message(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert verb(str(config_file), *arguments, "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_cluster_runs_it_or_says_what_room_it_lacks(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, namespace="waymark", address="local")
    try:
        address = ("--ray-address", ray.get_runtime_context().gcs_address)
        out = ("--out", str(tmp_path / "run"))
        assert verb(str(config_file), *address, *out, "runtime={kind: ray, workers: 90}") == 2
        error = capsys.readouterr().err
        assert "the run asks for 46 CPU and 0 GPU (1 engine of 1 CPU, 90 workers of 0.5 CPU)" in error
        assert "the cluster has 3 CPU and 0 GPU" in error and not (tmp_path / "run").exists()
        assert verb(str(config_file), *address, *out) == 0
        said = capsys.readouterr().out
        assert "worker 0 to 1, 0.5 CPU each" in said and "trained 2 steps on 24 trajectories" in said
    finally:
        ray.shutdown()
