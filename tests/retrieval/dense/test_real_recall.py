"""What the approximate backends find of the exact ones' first ten, on embeddings of real passages by a real encoder."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from retrieval.index import build_index, open_index

NUM_PASSAGES = 2500
NUM_QUESTIONS = 300
LEAST = {"torch_exact": 1.0, "hnsw": 0.97, "ivf_flat": 0.97, "ivf_sq8": 0.97, "ivf_pq": 0.97}


@pytest.mark.slow
@pytest.mark.data
def test_every_backend_finds_97_of_100_with_its_default_settings(data_dir: Path, minilm: str, tmp_path: Path) -> None:
    with gzip.open(data_dir / "hotpotqa" / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = [line for _, line in zip(range(NUM_PASSAGES), file, strict=False)]
    with gzip.open(data_dir / "hotpotqa" / "questions.jsonl.gz", "rt", encoding="utf-8") as file:
        questions = [json.loads(line)["question"] for _, line in zip(range(NUM_QUESTIONS), file, strict=False)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(lines), encoding="utf-8")
    encoder = {"model": minilm, "preset": "all-MiniLM-L6-v2", "max_length": 128}
    build_index(corpus, tmp_path / "flat", backend="flat", settings={"encoder": encoder})
    exact = first_ten(tmp_path / "flat", questions)
    recall = {}
    for backend in LEAST:
        settings = {"encoder": encoder, "embeddings_from": tmp_path / "flat"}
        build_index(corpus, tmp_path / backend, backend=backend, settings=settings)
        found = first_ten(tmp_path / backend, questions)
        recall[backend] = float(np.mean([len(a & b) / 10 for a, b in zip(exact, found, strict=True)]))
    assert {backend: value for backend, value in recall.items() if value < LEAST[backend]} == {}


def first_ten(folder: Path, questions: list[str]) -> list[set[str]]:
    with open_index(folder) as index:
        return [{hit.passage.id for hit in hits} for hits in index.search(questions, 10)]
