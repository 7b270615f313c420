"""`waymark ask` as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cli import main
from tests.conftest import REPOSITORY
from tests.evaluation.conftest import SmallWorld, small_world  # noqa: F401  # a fixture


def test_the_verb_prints_the_path_and_writes_json(small_world: SmallWorld, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "asked" / "oslo.json"
    arguments = ["scripted:expert", str(small_world.index), "q-Oslo", "--questions", str(small_world.questions_file)]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.ask", *arguments, "--top-k", "2", "--json", str(out)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    for text in ("turn 1", "search  Oslo capital of", "[1] Oslo (gold)", "answer    Harald", "3 turns, 2 searches"):
        assert text in done.stdout, text
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record.keys() == {"settings", "turns", "end"}
    assert [turn["number"] for turn in record["turns"]] == [1, 2, 3]
    assert record["end"]["answer"] == "Harald" and record["settings"]["limits"]["top_k"] == 2


def test_json_alone_can_be_printed(
    small_world: SmallWorld,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scripts.cli.set_thread_budget", lambda threads, environ: None)
    arguments = ["scripted:expert", str(small_world.index), "q-Oslo", "--questions", str(small_world.questions_file)]
    with pytest.raises(SystemExit) as left:
        main(["ask", *arguments, "--json", "-"])
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out)["end"]["exact_match"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--top-k", "99"), "lower it"),
        (("--top-k", "0"), "top_k: 0 is too small"),
        (("--protocol", "telepathy"), "telepathy"),
        (("--engine", "openai"), "--engine-set url=... is needed"),
        (("--questions", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_two(
    small_world: SmallWorld,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr("scripts.cli.set_thread_budget", lambda threads, environ: None)
    questions = () if "--questions" in changes else ("--questions", str(small_world.questions_file))
    with pytest.raises(SystemExit) as left:
        main(["ask", "scripted:expert", str(small_world.index), "q-Oslo", *questions, *changes])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
