"""A skipped data test must fail the run where the data is there: a silent skip would hide the strongest tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data_gate import FAILED_AND_SKIPPED

REPOSITORY = Path(__file__).resolve().parent.parent

SKIPPED_TEST = "import pytest\n@pytest.mark.data\ndef test_real(): pytest.skip('no reason')\n"
SKIPPED_MODULE = "import pytest\npytest.importorskip('no_such_module')\n@pytest.mark.data\ndef test_real(): pass\n"
OTHER_SKIP = "import pytest\ndef test_other(): pytest.skip('not about data')\n"


def run_pytest(folder: Path, source: str, data: Path) -> subprocess.CompletedProcess[str]:
    (folder / "test_one.py").write_text(source + "def test_passes(): pass\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = data: needs data\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.data_gate", "-p", "no:cacheprovider", str(folder)]
    environment = os.environ | {"WAYMARK_DATA": str(data)}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE], ids=["test", "module"])
def test_a_skip_fails_the_run_where_the_data_is_there(tmp_path: Path, source: str) -> None:
    result = run_pytest(tmp_path, source, data=tmp_path)
    assert result.returncode == 1, result.stdout
    assert "skipped although its data is there" in result.stdout


def test_a_skip_beside_a_failure_has_a_status_of_its_own(tmp_path: Path) -> None:
    """What failed may pass when it is run again; the skip must not go with it."""
    result = run_pytest(tmp_path, SKIPPED_TEST + "def test_fails(): assert False\n", data=tmp_path)
    assert result.returncode == FAILED_AND_SKIPPED, result.stdout


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE], ids=["test", "module"])
def test_a_skip_is_allowed_where_the_data_is_missing(tmp_path: Path, source: str) -> None:
    assert run_pytest(tmp_path, source, data=tmp_path / "missing").returncode in (0, 5)


def test_other_skips_do_not_fail_the_run(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, OTHER_SKIP, data=tmp_path).returncode == 0
