"""A test on real data may be skipped only where the data is missing; where it is there, a skip fails the whole run.

Without this, a typo in a path turns the strongest tests off and nobody sees it. `conftest.py` imports the hooks.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

DATA = Path(os.environ.get("WAYMARK_DATA") or Path(__file__).resolve().parent.parent.parent / "shared" / "data")

FAILED_AND_SKIPPED = 10
"""Exit status where tests failed beside such a skip: running those once more does not mend it."""

_skipped_with_data = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped_with_data] = []


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that is skipped as a whole has no marked tests yet: its text tells whether it is about data."""
    report = yield
    if report.skipped and isinstance(collector, pytest.Module) and "mark.data" in collector.path.read_text("utf-8"):
        _note(collector)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("data"):
        _note(item)
    return report


def _note(node: pytest.Item | pytest.Collector) -> None:
    if DATA.is_dir():
        node.config.stash[_skipped_with_data].append(node.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not session.config.stash[_skipped_with_data]:
        return
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    elif exitstatus == pytest.ExitCode.TESTS_FAILED:
        session.exitstatus = FAILED_AND_SKIPPED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for nodeid in config.stash[_skipped_with_data]:
        terminalreporter.write_line(f"FAILED {nodeid}: skipped although its data is there ({DATA})", red=True)
