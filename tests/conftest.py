"""Shared test settings: few threads, no network, and the folder of real data where there is one."""

import importlib.util
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

from tests.data_gate import (  # noqa: F401  (hooks, by their names)
    DATA,
    pytest_configure,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

# No deadline per hypothesis example: on a shared machine the clock says nothing about the code.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of vLLM where it is not installed; where it is, none of them is."""
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed (docs/install.md)"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real benchmark data; the test is skipped, saying so, where there is none."""
    if not DATA.is_dir():
        pytest.skip(f"no benchmark data at {DATA}; set WAYMARK_DATA to its folder")
    return DATA
