"""Whoever trains without vLLM does not pay for it: TRL would import it wherever it is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CODE = """
import sys
import train.learner
from trl import GRPOTrainer
from trl.import_utils import is_vllm_available
from train.packed_trainer import PackedTrainer
assert issubclass(PackedTrainer, GRPOTrainer)
print("vllm" in sys.modules, is_vllm_available())
"""


@pytest.mark.slow
def test_the_learner_is_imported_without_vllm_and_trl_still_knows_of_it(tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise ImportError('vLLM was imported')")
    (tmp_path / "vllm-0.31.0.dist-info").mkdir()
    (tmp_path / "vllm-0.31.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.31.0\n")
    (tmp_path / "vllm-0.31.0.dist-info" / "top_level.txt").write_text("vllm\n")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout == "False True\n", result.stderr
