"""Building a dense index: what is shown meanwhile, and what is refused before hours go into encoding."""

import json
from pathlib import Path

import pytest

from retrieval.index import build_index, open_index
from tests.retrieval.dense.merging import Stopped


def test_a_build_shows_how_far_it_is_from_the_first_batch_on(corpus: Path, tiny_bert: str, tmp_path: Path) -> None:
    reports: dict[str, list[tuple[int, int | None]]] = {}
    settings = {"encoder": {"model": tiny_bert, "batch_size": 20}}
    build_index(
        corpus,
        tmp_path / "out",
        backend="flat",
        settings=settings,
        shard_size=150,
        progress=lambda stage, *counts: reports.setdefault(stage, []).append(counts),
    )
    assert list(reports)[:3] == ["loading encoder", "reading passages", "encoding passages"]
    assert reports["reading passages"] == [(0, None), (400, 400)]
    encoded = [done for done, total in reports["encoding passages"] if total == 400]
    assert encoded[:9] == [0, 20, 40, 60, 80, 100, 120, 140, 150] and encoded[-1] == 400 == max(encoded)
    assert encoded == sorted(encoded)
    again: list[str] = []
    build_index(
        corpus,
        tmp_path / "copy",
        backend="torch_exact",
        settings={**settings, "embeddings_from": tmp_path / "out"},
        progress=lambda stage, *_: again.append(stage),
    )
    assert "copying embeddings" in again and "encoding passages" not in again and "loading encoder" not in again


def test_more_lists_than_the_corpus_has_passages_for_are_refused_before_anything_is_encoded(
    corpus: Path, tiny_bert: str, tmp_path: Path
) -> None:
    stages: list[str] = []
    settings = {"encoder": {"model": tiny_bert}, "lists": 51}
    with pytest.raises(ValueError, match="lists is 51, and a corpus of 400 passages has enough for 50 lists"):
        build_index(
            corpus,
            tmp_path / "out",
            backend="ivf_sq8",
            settings=settings,
            progress=lambda stage, *_: stages.append(stage),
        )
    assert "encoding passages" not in stages


def test_passages_without_text_are_refused_or_found_by_no_query(tiny_bert: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    rows = [{"id": f"p{i}", "title": "", "text": text} for i, text in enumerate(["", "kador", "lonim", " "])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = r"corpus\.jsonl, line 1: passage 'p0' has neither title nor text.*empty_passages=zero"
    with pytest.raises(ValueError, match=told):
        build_index(path, tmp_path / "out", backend="flat", settings={"encoder": {"model": tiny_bert}})
    settings = {"encoder": {"model": tiny_bert}, "empty_passages": "zero"}
    for backend in ("flat", "torch_exact", "hnsw", "ivf_flat", "ivf_sq8"):
        build_index(path, tmp_path / backend, backend=backend, settings=settings)
        [hits] = open_index(tmp_path / backend).search(["kador"], 4)
        scores = {hit.passage.id: hit.score for hit in hits}
        assert hits[0].passage.id == "p1" and scores["p0"] == scores["p3"] == pytest.approx(0, abs=1e-6)


def test_a_build_that_goes_on_loads_the_encoder_before_it_counts_and_not_where_all_is_encoded(
    corpus: Path, tiny_bert: str, tmp_path: Path
) -> None:
    options = {"backend": "flat", "settings": {"encoder": {"model": tiny_bert}}, "shard_size": 100}

    def stages_until(stage: str, done: int) -> list[str]:
        seen: list[str] = []

        def progress(name: str, *counts: int) -> None:
            seen.append(f"{name} {counts[0]}")
            if (name, counts[0]) == (stage, done):
                raise Stopped(stage)

        with pytest.raises(Stopped):
            build_index(corpus, tmp_path / "out", **options, progress=progress)
        return seen

    stages_until("encoding passages", 300)
    assert stages_until("joining embeddings", 400)[:4] == [
        "reading passages 400",
        "loading encoder 0",
        "loading encoder 1",
        "encoding passages 200",
    ]
    assert stages_until("checksums", 1)[:2] == ["reading passages 400", "joining embeddings 100"]
