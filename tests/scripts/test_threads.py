"""The thread budget must be in place before torch is imported; later it has no effect on OpenMP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.threads import LIMITS, physical_cores, set_thread_budget, take_threads

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def test_the_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
    one = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from scripts.threads import physical_cores"
    )
    command = [sys.executable, "-c", f"{one}; print(physical_cores())"]
    assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout == "1\n"


@given(
    st.lists(st.text().filter(lambda a: not a.startswith("--")), max_size=4),
    st.integers(1, 64),
    st.integers(0, 4),
    st.booleans(),
)
def test_the_option_is_taken_from_wherever_it_stands(others: list[str], threads: int, at: int, joined: bool) -> None:
    option = [f"--threads={threads}"] if joined else ["--threads", str(threads)]
    assert take_threads([*others[:at], *option, *others[at:]]) == (threads, others)


def test_what_follows_a_double_dash_is_left_alone() -> None:
    assert take_threads(["ask", "--", "--threads", "2"]) == (None, ["ask", "--", "--threads", "2"])


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "1.5", "²"])
def test_a_budget_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="give a whole number of at least 1"):
        take_threads([f"--threads={value}"])
    if value:
        with pytest.raises(ValueError, match="WAYMARK_THREADS is"):
            set_thread_budget(None, {"WAYMARK_THREADS": value})


def test_the_option_wins_over_the_variable_and_both_over_the_libraries_own() -> None:
    environment = {"WAYMARK_THREADS": "3", "OMP_NUM_THREADS": "7"}
    assert set_thread_budget(2, environment) == 2
    assert {environment[name] for name in LIMITS} == {"2"}
    environment = {"WAYMARK_THREADS": "3", "OMP_NUM_THREADS": "7"}
    assert set_thread_budget(None, environment) == 3
    assert environment["OMP_NUM_THREADS"] == "3"


def test_without_a_budget_the_users_own_settings_are_kept() -> None:
    environment = {"OMP_NUM_THREADS": "7"}
    set_thread_budget(None, environment)
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["NUMBA_NUM_THREADS"] == str(physical_cores())


def test_torch_gets_the_budget_that_was_set_before_its_import() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in LIMITS} | {"WAYMARK_THREADS": "1"}
    command = [sys.executable, "-c", "import scripts, torch; print(torch.get_num_threads())"]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"
