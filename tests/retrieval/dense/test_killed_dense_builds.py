"""A dense build that is killed at any step goes on, and its files are those of a build that nobody disturbed.

With one thread the graph of HNSW too is the same; with several it is another one, as good (`test_hnsw`).
"""

from pathlib import Path

import pytest

from tests.retrieval.build.corpora import write_corpus
from tests.retrieval.build.killed_builds import run_killed_builds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "settings"),
    [("flat", {}), ("hnsw", {"links": 4}), ("ivf_flat", {"lists": 4}), ("ivf_sq8", {"lists": 4})],
)
def test_killed_at_many_steps_a_dense_build_goes_on_to_the_same_bytes(
    tmp_path: Path, tiny_bert: str, backend: str, settings: dict[str, int]
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 60)
    options = {"encoder": {"model": tiny_bert}, **settings}
    figures = run_killed_builds(corpus, tmp_path / "work", every=15, backend=backend, settings=options, shard_size=13)
    assert figures["kills"] >= 8 and figures["gone_on"] >= 5, "the kills must have come while it was building"
