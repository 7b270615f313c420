"""Runs are made once, apart from each other, and a failure of one does not cost the others."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.train.ablation_records import tiny_ablation, write_fakes
from train.ablation_job import AblationJob
from train.ablation_ray import pack, unpack
from train.ablation_request import AblationRequest, parse_seeds
from train.ablation_workers import run_here
from train.config_file import ConfigError


def jobs_of(out: Path, count: int) -> list[AblationJob]:
    ablation = tiny_ablation(out, ["outcome"], seeds=count)
    return [ablation.job("outcome", seed) for seed in range(count)]


def does(code: str) -> tuple[str, ...]:
    """A process that reads its job as the real one does, and then runs `code`."""
    return (sys.executable, "-c", f"import json, os, sys, time; job = json.load(sys.stdin); {code}")


def test_what_is_missing_comes_seed_by_seed(tmp_path: Path) -> None:
    ablation = tiny_ablation(tmp_path)
    everything = [("outcome", 0), ("hops_normalised", 0), ("outcome", 1), ("hops_normalised", 1)]
    assert ablation.missing() == everything
    write_fakes(ablation, {"outcome": [[1.0]]})
    assert ablation.missing() == everything[1:]


def test_a_job_is_whole_as_json_and_names_its_method_alone(tmp_path: Path) -> None:
    job = tiny_ablation(tmp_path).job("hops_normalised", 1)
    again = AblationJob.model_validate_json(job.model_dump_json())
    assert again == job
    assert list(again.study.arms) == ["hops_normalised"]
    assert again.study.arms["hops_normalised"]["steps"] == 2


def test_each_run_has_a_process_of_its_own_and_its_share_of_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    told: list[str] = []
    command = does("print(os.getpid(), os.environ['OMP_NUM_THREADS'], os.environ['NUMBA_NUM_THREADS'], job['seed'])")
    assert run_here(jobs_of(tmp_path, 3), workers=2, logs=tmp_path / "logs", say=told.append, command=command) == []
    lines = [(tmp_path / "logs" / f"outcome-{seed}.log").read_text().split() for seed in range(3)]
    assert [line[1:] for line in lines] == [["2", "2", str(seed)] for seed in range(3)]
    assert len({line[0] for line in lines} | {str(os.getpid())}) == 4
    assert sorted(told) == [f"outcome/{seed}: done" for seed in range(3)]


def test_runs_go_on_side_by_side(tmp_path: Path) -> None:
    waits = "open(f'{job[\"folder\"]}/{job[\"seed\"]}', 'w').close(); "
    waits += 'end = time.time() + 20; other = f\'{job["folder"]}/{1 - job["seed"]}\'\n'
    waits += "while not os.path.exists(other):\n    assert time.time() < end; time.sleep(.01)"
    code = "import json, os, sys, time; job = json.load(sys.stdin)\n" + waits
    assert run_here(jobs_of(tmp_path, 2), workers=2, logs=tmp_path, command=(sys.executable, "-c", code)) == []


def test_a_run_that_fails_is_named_with_its_log_and_the_others_are_made(tmp_path: Path) -> None:
    command = does("print('made'); sys.exit(3 if job['seed'] == 0 else 0)")
    failed = run_here(jobs_of(tmp_path, 2), workers=1, logs=tmp_path / "logs", command=command)
    assert failed == [f"outcome/0 (exit 3 after 'made', see {tmp_path / 'logs' / 'outcome-0.log'})"]
    assert (tmp_path / "logs" / "outcome-1.log").read_text() == "made\n"


def test_an_interrupted_comparison_takes_its_runs_with_it(tmp_path: Path) -> None:
    def interrupted(text: str) -> None:
        raise KeyboardInterrupt(text)

    started = time.monotonic()
    command = does("time.sleep(0 if job['seed'] == 0 else 60)")
    with pytest.raises(KeyboardInterrupt):
        run_here(jobs_of(tmp_path, 3), workers=2, logs=tmp_path, say=interrupted, command=command)
    assert time.monotonic() - started < 30


def test_a_folder_travels_whole(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for name in ("testbed/world/corpus.jsonl", "cold_start/model.safetensors", "cold_start.json", "runs/heavy"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    there.mkdir()
    unpack(pack(here), there)
    assert (there / "testbed/world/corpus.jsonl").read_text() == "testbed/world/corpus.jsonl"
    assert json.dumps(sorted(path.name for path in there.iterdir())) == '["cold_start", "cold_start.json", "testbed"]'


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("10:12", (10, 11)), ("4,7", (4, 7)), ("5,", (5,)), ("1", (0,))]
)
def test_seeds_as_a_person_writes_them(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *[(text, "give a number N") for text in ("", "-1", "a", "1-3", "1.5")],
        *[(text, "which names no seed") for text in ("0", "3:3", "3:1")],
        ("1,2,1", "which names 1 twice"),
    ],
)
def test_what_names_no_seeds_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"--seeds is '{text}'.*{words}"):
        parse_seeds(text)


def test_words_with_an_equals_sign_are_overrides_of_the_setting(tmp_path: Path) -> None:
    request = AblationRequest.parse(["outcome", "testbed.world.seed=9"], setting="2hops", seeds="1", out=tmp_path)
    assert (request.methods, request.overrides) == (("outcome",), ("testbed.world.seed=9",))
    assert request.open(print).setting.testbed.world_settings().seed == 9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "--workers is 0"),
        ({"budget": 0}, "--budget is 0 trajectories"),
        ({"keep_runs": True, "ray_address": "auto"}, "--keep-runs with --ray-address"),
    ],
)
def test_a_request_that_cannot_be_is_refused(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AblationRequest.parse(["outcome"], setting="2hops", seeds="1", out=tmp_path, **settings)  # type: ignore[arg-type]


def test_a_comparison_without_methods_or_into_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no method is named"):
        AblationRequest.parse(["budget=3"], setting="2hops", seeds="1", out=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        AblationRequest.parse(["outcome"], setting="2hops", seeds="1", out=tmp_path / "file")
