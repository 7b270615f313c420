"""The console command: fast, lists what exists, and answers bad input with one message and exit code 2."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrieval.backends import BACKENDS
from scripts.cli import describe_error, run, verbs

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def waymark(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the console command in a process of its own, then the Python of `code` where it has returned."""
    program = f"from scripts.cli import main\ntry:\n    main()\nfinally:\n    {code or 'pass'}"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def run_verb(verb: object, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a function as `python -m scripts.VERB` would, and return the exit code."""
    monkeypatch.setattr(sys, "argv", ["verb", *arguments])
    with pytest.raises(SystemExit) as exit_:
        run(verb)  # type: ignore[arg-type]
    return int(exit_.value.code or 0)


def test_help_lists_the_verbs_without_importing_what_they_need() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    heavy = "import sys; print('HEAVY', {'torch', 'numba', 'transformers', 'numpy'} & set(sys.modules))"
    result = waymark("--help", code=heavy)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0
    assert "HEAVY set()" in result.stdout
    assert all(verb in result.stdout for verb in verbs())
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


HEAVY = "import sys; print('HEAVY', {'torch', 'transformers', 'sentence_transformers', 'sklearn'} & set(sys.modules))"


@pytest.mark.slow
def test_the_verbs_of_a_bm25_index_import_no_model_library(tmp_path: Path) -> None:
    """A wrong path is told at once, and a measurement does not wait for libraries that it does not use."""
    corpus, questions, index = tmp_path / "c.jsonl", tmp_path / "q.jsonl", str(tmp_path / "index")
    corpus.write_text('{"id": "a", "title": "Ada", "text": "Ada lives in Rome"}\n')
    question = {"id": "q", "question": "Where does Ada live?", "golden_answers": ["Rome"], "supporting_ids": ["a"]}
    questions.write_text(json.dumps(question) + "\n")
    for code, *arguments in (
        (2, "evaluate-index", "none", "--questions", str(questions)),
        (2, "serve-index", "none", "--port", "0"),
        (2, "build-index", "none.jsonl", "--out", index),
        (0, "build-index", str(corpus), "--out", index),
        (0, "evaluate-index", index, "--questions", str(questions), "--k", "1", "--coverage"),
    ):
        result = waymark(*arguments, code=HEAVY)
        assert (result.returncode, result.stdout.splitlines()[-1]) == (code, "HEAVY set()"), result.stderr


def test_a_verb_is_a_file_that_defines_a_function_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "make_tea.py").write_text('def make_tea():\n    """Make tea.\n\n    More."""')
    (tmp_path / "kettle.py").write_text("def boil(): ...")
    (tmp_path / "train.py").write_text('def train():\n    """Train."""')
    assert verbs(tmp_path) == {"train": "Train.", "make-tea": "Make tea."}


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_shows_its_options_and_an_example(verb: str) -> None:
    result = waymark(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert verbs()[verb]
    assert f"waymark {verb}" in result.stdout.split("Example", 1)[1], "its docstring has no 'Example: waymark ...'"
    assert "--threads N" in result.stdout


def test_help_names_what_there_is() -> None:
    shown = " ".join(waymark("build-index", "--help").stdout.split())
    assert all(f"{name}," in shown or f"{name}." in shown or f"{name} (" in shown for name in BACKENDS)
    options = waymark("serve-index", "--help").stdout
    assert set(re.findall(r"--token[a-z-]*", options)) == {"--token-file"}


@pytest.mark.parametrize("verb", verbs())
def test_a_verb_is_the_same_code_as_a_module(verb: str) -> None:
    module = f"scripts.{verb.replace('-', '_')}"
    command = [sys.executable, "-m", module, "--help"]
    as_module = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert as_module.split("\n\n", 1)[1] == waymark(verb, "--help").stdout.split("\n\n", 1)[1]


def test_an_unknown_verb_is_answered_with_the_verbs_there_are() -> None:
    result = waymark("trian")
    assert result.returncode == 2
    assert result.stderr.startswith("waymark: there is no verb 'trian'; the verbs are ")
    assert result.stderr.count("\n") == 1


def test_a_verb_may_be_called_by_the_name_of_its_file() -> None:
    assert "waymark make-world --preset" in waymark("make_world", "--help").stdout


def test_an_unknown_option_is_bad_input() -> None:
    result = waymark("train", "--no-such-option")
    assert result.returncode == 2
    assert "--no-such-option" in result.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("k is 9; the corpus has 5 passages; give k <= 5"), "waymark: k is 9; the corpus has 5 passages"),
        (FileNotFoundError(2, "No such file or directory", "a.jsonl"), "waymark: No such file or directory: a.jsonl"),
        (FileNotFoundError("no index at x; build one"), "waymark: no index at x; build one"),
        (OSError(28, "No space left on device"), "waymark: No space left on device; free some, or write elsewhere"),
        (OSError(30, "Read-only file system", "out"), "waymark: Read-only file system: out"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb() -> None:
        raise error

    assert run_verb(verb, [], monkeypatch) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_the_traceback_of_bad_input_is_there_for_who_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb() -> None:
        raise ValueError("wrong")

    monkeypatch.setenv("WAYMARK_TRACEBACK", "1")
    assert run_verb(verb, [], monkeypatch) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), OSError(9, "Bad file descriptor")])
def test_a_fault_of_our_own_keeps_its_traceback(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb() -> None:
        raise fault

    monkeypatch.setattr(sys, "argv", ["verb"])
    with pytest.raises(type(fault), match=str(fault.args[-1])):
        run(verb)


def test_a_setting_error_names_what_was_typed_and_what_is_allowed() -> None:
    class Inner(BaseModel):
        model_config = ConfigDict(extra="forbid")
        stemmer: Literal["english", "porter"] = "english"

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        steps: int = Field(1, ge=1)
        k1: float = Field(1.5, ge=0, allow_inf_nan=False)
        share: float = Field(0.5, le=1)
        verify: bool = True
        max_turns: int = 4
        inner: Inner = Inner()

    def told(given: dict[str, object], *arguments: str) -> str:
        with pytest.raises(ValueError) as caught:
            Settings.model_validate(given)
        return describe_error(caught.value, arguments)

    assert told({"k1": "abc"}, "--set", "k1=abc") == "--set k1: 'abc' is not a number"
    assert told({"k1": "abc"}, "--set=k1=abc") == "--set k1: 'abc' is not a number"
    assert told({"k1": "abc"}, "--k1x", "k1") == "k1: 'abc' is not a number", "nobody has typed it"
    assert told({"k1": float("inf")}) == "k1: inf is not a finite number"
    assert told({"max_turns": 2.5}, "--max-turns", "2.5") == "--max-turns: 2.5 is not a whole number"
    assert told({"max_turns": "x"}, "--max-turns=x") == "--max-turns: 'x' is not a whole number"
    assert told({"share": 7}) == "share: 7 is too large; give at most 1"
    assert told({"verify": "maybe"}) == "verify: 'maybe' is neither true nor false"
    assert told({"inner": 3}, "--set", "inner=3").startswith("--set inner: 3 is one value, where there are settings")
    assert told({"inner": {"stemmer": "x"}}, "--set", "inner.stemmer=x") == (
        "--set inner.stemmer: 'x' is not allowed; give 'english' or 'porter'"
    )
    lines = told({"steps": 0, "stpes": 3}).splitlines()
    assert lines == ["steps: 0 is too small; give at least 1", "  stpes: there is no such setting"]


def test_a_rule_across_fields_is_told_without_all_fields() -> None:
    class Settings(BaseModel):
        low: int
        high: int

        @model_validator(mode="after")
        def _check(self) -> "Settings":
            raise ValueError(f"low is {self.low}, above high, {self.high}; lower it")

    with pytest.raises(ValueError) as caught:
        Settings(low=3, high=2)
    assert describe_error(caught.value) == "low is 3, above high, 2; lower it"


def test_arguments_reach_the_verb_and_threads_may_stand_anywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(name: str, size: Annotated[int, typer.Option()] = 1) -> None:
        print(name, size, os.environ["OMP_NUM_THREADS"])

    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert run_verb(verb, ["world", "--threads", "3", "--size", "2"], monkeypatch) == 0
    assert capsys.readouterr().out == "world 2 3\n"


def test_threads_that_are_no_number_are_bad_input() -> None:
    result = waymark("train", "--threads", "many")
    assert result.returncode == 2
    assert result.stderr == "waymark: --threads is 'many'; give a whole number of at least 1, such as --threads 2\n"


def test_ctrl_c_ends_with_exit_code_130() -> None:
    program = (
        "import time\nfrom scripts.cli import run\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\nrun(wait)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where the tests run in the background
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error == "interrupted\n"
    assert time.monotonic() - started < 10
