"""`waymark ablate` from the command line: what it refuses, what it reports, and a comparison that is killed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from scripts.cli import main
from tests.conftest import REPOSITORY
from tests.train.ablation_records import TINY, tiny_ablation, write_fakes
from train.ablation_record import read_record

METHODS = ("outcome", "hops_normalised")


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "scripts.ablate", *map(str, arguments)]


def ablate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_it_reports_records_alone(setting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fakes(
        tiny_ablation(tmp_path, METHODS),
        {"outcome": [[0.0, 1.0], [1.0, 1.0]], "hops_normalised": [[1.0, 1.0]]},
    )
    figures, page = tmp_path / "figures.json", tmp_path / "tables.md"
    places = ("--records", tmp_path / "records", "--out", tmp_path / "out", "--json", figures, "--markdown", page)
    with pytest.raises(SystemExit) as left:
        main(["ablate", *METHODS, "--setting", str(setting), "--seeds", "2", "--report-only", *map(str, places)])
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    assert "without a record: hops_normalised/1" in said.err
    assert "| Outcome-only GRPO | 2 | 0.500 · 1.000 |" in said.out
    assert json.loads(figures.read_text())["methods"]["outcome"]["final"]["em"]["seeds"] == [0.5, 1.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["methods.json", "report.html", "report.json"]
    tables = page.read_text(encoding="utf-8")
    assert "<!-- ablate:tiny -->" in tables
    assert f"`waymark ablate {' '.join(METHODS)} --setting {setting} --seeds 2 --budget 16 --out runs/tiny`" in tables


def test_another_method_can_be_what_the_others_are_compared_with(
    setting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fakes(
        tiny_ablation(tmp_path, METHODS),
        {"outcome": [[0.0, 1.0], [1.0, 1.0]], "hops_normalised": [[1.0, 1.0], [1.0, 1.0]]},
    )
    page, out = tmp_path / "tables.md", tmp_path / "out"
    places = ("--records", tmp_path / "records", "--out", out, "--markdown", page)
    asked = ("--seeds", "2", "--report-only", "--baseline", "hops_normalised")
    with pytest.raises(SystemExit) as left:
        main(["ablate", *METHODS, "--setting", str(setting), *asked, *map(str, places)])
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    figures = json.loads((out / "methods.json").read_text())
    assert figures["methods"]["outcome"]["against_baseline"]["em"]["difference"] == -0.25
    assert figures["methods"]["hops_normalised"]["against_baseline"] == {}
    title = figures["methods"]["hops_normalised"]["title"]
    tables = page.read_text(encoding="utf-8")
    assert f"**Method minus {title}, paired over seeds and questions**" in tables
    assert f"ratio to {title}" in tables and "--baseline hops_normalised" in tables


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("outcome", "--baseline", "gated"), "--baseline is 'gated'; name one of the methods compared: outcome"),
        (("outcom",), "did you mean 'outcome'?"),
        (("outcome", "--seeds", "x"), "--seeds is 'x'"),
        (("outcome", "--budget", "3"), "less than one step of 8"),
        (("outcome", "--report-only"), "no run of outcome has a record"),
        (("outcome", "train.rollout.top_p=.5"), "rollout.top_p=0.5"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_made(
    setting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["ablate", *arguments, "--setting", str(setting), "--out", str(tmp_path / "out")])
    assert left.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_comparison_that_is_killed_goes_on_and_reports_the_same_from_its_records(
    setting: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (*METHODS, "--setting", setting, "--seeds", 2, "--out", out)
    process = subprocess.Popen(
        command(*arguments), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    first = out / "records" / "outcome" / "seed-0.json"
    wait_for(first, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = first.read_bytes()

    done = ablate(*arguments)
    assert done.returncode == 0, done.stderr + logs(out)
    assert first.read_bytes() == kept, "what has a record is not run again"
    records = sorted((out / "records").rglob("*.json"))
    assert len(records) == 4
    assert not any((out / "runs").rglob("*.safetensors")), "heavy folders are gone"
    record = read_record(out / "records" / "hops_normalised" / "seed-1.json")
    assert [point.trajectories for point in record.curve] == [0, 8, 16]
    assert record.costs.trajectories == record.budget == 16
    assert len(record.per_question["em"]) == TINY["test_limit"]
    assert record.consistency and record.consistency["consistency_n"] == TINY["consistency_limit"]
    assert len(record.per_question["consistency_end_to_end"]) == TINY["consistency_limit"]
    assert record.cold_start_sha256 == read_record(first).cold_start_sha256

    figures = json.loads((out / "methods.json").read_text())
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(out / "records", elsewhere)
    shutil.rmtree(out)
    again = ablate(*arguments, "--records", elsewhere)
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "methods.json").read_text()) == figures
    assert not (out / "testbed").exists(), "nothing had to be made"

    other = ablate(*arguments, "--records", elsewhere, "--budget", 32)
    assert (other.returncode, "steps=2, now it is 4" in other.stderr) == (2, True)


@pytest.mark.slow
def test_runs_as_tasks_of_a_cluster_leave_the_same_records(setting: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for out, more in ((here, ("--workers", 2)), (there, ("--ray-address", "local"))):
        done = ablate(*METHODS, "--setting", setting, "--seeds", 1, "--out", out, "--threads", 2, *more)
        assert done.returncode == 0, done.stderr + logs(out)
        shutil.copytree(here / "testbed", there / "testbed", dirs_exist_ok=True)
        shutil.copytree(here / "cold_start", there / "cold_start", dirs_exist_ok=True)
        shutil.copy(here / "cold_start.json", there)
    for method in METHODS:
        ours, theirs = (read_record(out / "records" / method / "seed-0.json") for out in (here, there))
        for part in ("curve", "training", "test", "per_question", "config_sha256", "cold_start_sha256"):
            assert getattr(ours, part) == getattr(theirs, part), part


def wait_for(path: Path, process: subprocess.Popen[bytes], *, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the comparison ended without a record"
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


def logs(out: Path) -> str:
    return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(out.glob("logs/*.log")))
