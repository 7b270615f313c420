"""The verb as a user runs it: exit codes, messages that say what to do, and one run as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cli import main
from tests.evaluation.conftest import SmallWorld

ROOT = Path(__file__).resolve().parents[2]


def _arguments(small_world: SmallWorld, out: Path) -> list[str]:
    files = ["--index", str(small_world.index), "--questions", str(small_world.questions_file)]
    return ["scripted:expert", *files, "--out", str(out)]


def test_the_verb_prints_figures_and_writes_json(small_world: SmallWorld, tmp_path: Path) -> None:
    arguments = [*_arguments(small_world, tmp_path / "out"), "--json", str(tmp_path / "figures.json"), "--controls"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.evaluate", *arguments, "--top-k", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    for text in ("Exact match", "closed_book", "random_retriever", "oracle decomposition", "answered 5", "report.html"):
        assert text in done.stdout, text
    figures = json.loads((tmp_path / "figures.json").read_text())
    keys = {"n", "em", "f1", "subem", "support_recall", "citation_precision", "citation_recall"}
    assert keys | {f"{key}_low" for key in keys - {"n"}} <= set(figures)
    assert {"searches_per_question", "tokens_per_question", "finish_reasons", "comparability"} <= set(figures)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--top-k", "11"), "lower it"),
        (("--top-k", "0"), "--top-k: 0 is too small"),
        (("--questions", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--protocol", "telepathy"), "telepathy"),
        (("--max-new-tokens-per-turn", "5000"), "max_trajectory_tokens"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_two(
    small_world: SmallWorld,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr("scripts.cli.set_thread_budget", lambda threads, environ: None)
    with pytest.raises(SystemExit) as left:
        main(["evaluate", *_arguments(small_world, tmp_path / "out"), *changes])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
