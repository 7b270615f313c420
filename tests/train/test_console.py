"""A step is one line that a person can read; parts that a step does not have are left out."""

from io import StringIO

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


def test_without_a_terminal_there_are_lines_and_no_bar() -> None:
    out = StringIO()
    with ConsoleProgress("run", Console(file=out, width=200)) as progress:
        progress.stage("cold start")
        progress.step(1, 2, STEP)
    assert out.getvalue().splitlines()[0] == "run cold start"
    assert len(out.getvalue().splitlines()) == 2
