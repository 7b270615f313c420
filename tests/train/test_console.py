"""A step is one line that a person can read; parts that a step does not have are left out."""

import re
from io import StringIO

import pytest
from rich.console import Console

from train.console import ConsoleProgress, step_line

STEP = {
    "em": 0.25,
    "rewards/exact_match/mean": 0.25,
    "rewards/hop_relevance/mean": 0.5,
    "searches": 2.1,
    "finish_ratio/answered": 0.9,
    "loss": -0.02,
    "grad_norm": 0.3,
    "seconds/step": 1.5,
    "seconds/rollout": 0.9,
    "seconds/update": 0.6,
}


def test_a_training_step_in_one_line() -> None:
    line = step_line("turn", 3, 60, STEP)
    assert line == (
        "turn    3/60 | em 0.250 hop_relevance +0.50 | searches 2.1 answered 90% | loss -0.020 grad 0.30 | "
        "1.5 s (rollout 0.9, update 0.6)"
    )


def test_an_evaluation_before_the_first_step_has_only_dev_em() -> None:
    assert step_line("a", 0, 9, {"dev/em": 0.5, "dev/em_low": 0.4, "dev/em_high": 0.6}).endswith(
        "dev em 0.500 [0.40, 0.60]"
    )


def on_screen(written: str) -> list[str]:
    """What a terminal shows of what was written to it; only what a bar uses is understood."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?0-9]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", written):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif re.fullmatch(r"\x1b\[\d+A", part):
            row -= int(part[2:-1])
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


def test_on_a_terminal_a_bar_fills_under_the_lines_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system=None, legacy_windows=False)
    lines, filled = [], []
    with ConsoleProgress("run", console) as progress:
        for step in (1, 2, 4):
            progress.step(step, 4, STEP)
            progress._bar.refresh()  # which its clock does ten times a second
            lines.append(step_line("run", step, 4, STEP))
            *above, bar = on_screen(out.getvalue())
            assert above == lines and bar.startswith("run ") and f" {step}/4 " in bar and " left " in bar
            filled.append(bar.count("━"))
    assert filled[2] == 2 * filled[1] == 4 * filled[0] > 0
    assert on_screen(out.getvalue()) == lines
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l"), "the cursor is shown again"


def test_without_a_terminal_there_are_lines_and_no_bar() -> None:
    out = StringIO()
    with ConsoleProgress("run", Console(file=out, width=200)) as progress:
        progress.stage("cold start")
        progress.step(1, 2, STEP)
    assert out.getvalue().splitlines()[0] == "run cold start"
    assert len(out.getvalue().splitlines()) == 2
