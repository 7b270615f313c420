"""Every dense backend as an index: built over a corpus with a tiny encoder, opened, searched, broken off, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval.dense.encoder import Encoder
from retrieval.index import Index, build_index, open_index
from retrieval.manifest import IndexCorruptError, read_manifest
from retrieval.retriever import Retriever
from tests.retrieval.build.corpora import data_files
from tests.retrieval.dense.merging import StopAt, Stopped
from tests.retrieval.dense.tiny_encoder import write_tiny_bert

BACKENDS = ("flat", "torch_exact", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq")
QUERIES = ["kador minims", "setek", "lovas ru dor", "mitekings kanim"]
ROOT = Path(__file__).parents[3]
SHARD = 60


def built(corpus: Path, out: Path, backend: str, encoder: str, **options: object) -> Path:
    settings = {"encoder": {"model": encoder, "query_prefix": "q: "}}
    build_index(corpus, out, backend=backend, settings=settings, shard_size=SHARD, **options)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, corpus: Path, tiny_bert: str) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dense")
    return {backend: built(corpus, root / backend, backend, tiny_bert) for backend in BACKENDS}


@pytest.fixture(params=BACKENDS)
def index(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Index:
    return open_index(folders[request.param])


def ids(index: Index, k: int = 10) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in index.search(QUERIES, k)]


def test_it_is_a_retriever_that_gives_k_hits(index: Index) -> None:
    assert isinstance(index, Retriever) and index.num_passages == 400
    for k in (1, 7, 400):
        for hits in index.search(QUERIES, k):
            assert [hit.rank for hit in hits] == list(range(1, k + 1)) and len({hit.passage.id for hit in hits}) == k
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert index.search([], 3) == []


def test_passages_that_say_the_same_score_the_same_and_go_by_row(index: Index) -> None:
    [hits] = index.search(QUERIES[:1], 400)
    found = [hit for hit in hits if hit.passage.id in ("p398", "p399")]
    assert [hit.passage.id for hit in found] == ["p398", "p399"]
    assert found[0].score == pytest.approx(found[1].score, abs=1e-6)


def test_all_backends_agree_with_the_exact_one(index: Index, folders: dict[str, Path]) -> None:
    exact, found = ids(open_index(folders["flat"])), ids(index)
    if index.manifest.backend == "torch_exact":
        assert found == exact
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]) > 0.9


@pytest.mark.parametrize("backend", BACKENDS)
def test_vectors_of_more_passages_than_there_are_do_not_open(
    folders: dict[str, Path], corpus: Path, tmp_path: Path, backend: str
) -> None:
    """All checksums are right; only the corpus is 60 passages shorter than what was encoded."""
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(corpus.read_text().splitlines(keepends=True)[:340]))
    of_fewer = build_index(fewer, tmp_path / "fewer", backend="rank_bm25")
    mixed = shutil.copytree(folders[backend], tmp_path / "mixed")
    for name in of_fewer.files:
        shutil.copy(tmp_path / "fewer" / name, mixed / name)
    manifest = read_manifest(mixed)
    files = {**manifest.files, **of_fewer.files}
    manifest.model_copy(update={"files": files, "num_passages": 340}).sealed().write(mixed)
    told = f"holds 400 rows in the files of backend {backend}, and its manifest says 340 passages"
    with pytest.raises(IndexCorruptError, match=told):
        open_index(mixed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_built_twice_the_files_are_the_same(
    folders: dict[str, Path], corpus: Path, tiny_bert: str, tmp_path: Path, backend: str
) -> None:
    again = data_files(built(corpus, tmp_path / "again", backend, tiny_bert))
    if backend == "hnsw" and os.environ.get("OMP_NUM_THREADS") != "1":
        again.pop("hnsw.faiss")
    assert {name: data_files(folders[backend])[name] == content for name, content in again.items()} == dict.fromkeys(
        again, True
    )


@pytest.mark.parametrize(
    ("backend", "stage", "report"),
    [
        ("flat", "encoding passages", 3),
        ("flat", "joining embeddings", 3),
        ("torch_exact", "joining embeddings", 1),
        ("ivf_flat", "assigning vectors", 2),
        ("ivf_sq8", "training lists", 2),
        ("ivf_pq", "writing lists", 1),
        ("hnsw", "linking vectors", 2),
        ("hnsw", "checksums", 1),
    ],
)
def test_broken_off_the_next_call_goes_on_to_the_same_files(
    folders: dict[str, Path], corpus: Path, tiny_bert: str, tmp_path: Path, backend: str, stage: str, report: int
) -> None:
    with pytest.raises(Stopped):
        built(corpus, tmp_path / "out", backend, tiny_bert, progress=StopAt(stage, report))
    notices: list[str] = []
    built(corpus, tmp_path / "out", backend, tiny_bert, notice=notices.append)
    assert notices and notices[0].startswith("going on")
    if backend == "hnsw":
        again, whole = ids(open_index(tmp_path / "out")), ids(open_index(folders["hnsw"]))
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(again, whole, strict=True)]) >= 0.995
    else:
        assert data_files(tmp_path / "out") == data_files(folders[backend])


def test_embeddings_that_were_altered_are_not_copied(
    folders: dict[str, Path], corpus: Path, tiny_bert: str, tmp_path: Path
) -> None:
    altered = shutil.copytree(folders["flat"], tmp_path / "altered")
    content = bytearray((altered / "embeddings.npy").read_bytes())
    content[-1] ^= 1
    (altered / "embeddings.npy").write_bytes(content)
    settings = {"encoder": {"model": tiny_bert, "query_prefix": "q: "}, "embeddings_from": altered}
    with pytest.raises(IndexCorruptError, match=r"the checksum of .*altered/embeddings\.npy does not match"):
        build_index(corpus, tmp_path / "out", backend="torch_exact", settings=settings)


KILLED = """
import os, signal, sys
from retrieval.index import build_index

def progress(stage, done, total):
    if stage == "assigning vectors":
        os.kill(os.getpid(), signal.SIGKILL)

build_index(sys.argv[1], sys.argv[2], backend="ivf_sq8", shard_size=60, progress=progress,
            settings={"encoder": {"model": sys.argv[3], "query_prefix": "q: "}})
"""


@pytest.mark.slow
def test_killed_in_its_merge_a_build_encodes_nothing_again(
    folders: dict[str, Path], corpus: Path, tiny_bert: str, tmp_path: Path
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(corpus), str(tmp_path / "out"), tiny_bert],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    notices: list[str] = []
    built(corpus, tmp_path / "out", "ivf_sq8", tiny_bert, notice=notices.append)
    assert "7 of 7 shards were there already" in notices
    assert data_files(tmp_path / "out") == data_files(folders["ivf_sq8"])


@pytest.mark.slow
def test_workers_write_the_same_files(folders: dict[str, Path], corpus: Path, tiny_bert: str, tmp_path: Path) -> None:
    built(corpus, tmp_path / "out", "flat", tiny_bert, workers=2)
    assert data_files(tmp_path / "out") == data_files(folders["flat"])


def test_search_settings_can_differ_at_each_opening_and_are_part_of_the_identity(folders: dict[str, Path]) -> None:
    narrow = open_index(folders["ivf_sq8"], settings={"nprobe": 1, "rerank_depth": 0, "encoder": {"batch_size": 2}})
    wide = open_index(folders["ivf_sq8"], settings={"nprobe": 100})
    assert ids(wide) == ids(open_index(folders["flat"])) != ids(narrow)
    assert narrow.identity["settings"]["nprobe"] == 1 and narrow.identity != wide.identity
    assert narrow.identity["settings"]["encoder"]["query_prefix"] == "q: "
    with pytest.raises(
        ValueError, match=r"lists, encoder.pooling cannot be set when an index of backend ivf_sq8 is op"
    ):
        open_index(folders["ivf_sq8"], settings={"lists": 3, "encoder": {"pooling": "cls"}})
    with pytest.raises(ValueError, match="nprobe"):
        open_index(folders["ivf_sq8"], settings={"nprobe": 0})


def test_another_encoder_than_that_of_the_build_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    wider = write_tiny_bert(tmp_path / "wider", dimension=48)
    with pytest.raises(ValueError, match="gives vectors of 48 numbers, and the index holds vectors of 32"):
        open_index(folders["flat"], settings={"encoder": {"model": wider}})
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(
        ValueError, match="is not the one that encoded these passages: its vector for one of them has c"
    ):
        open_index(folders["hnsw"], settings={"encoder": {"model": other}})
    with pytest.raises(FileNotFoundError, match="no encoder folder at"):
        open_index(folders["ivf_flat"], settings={"encoder": {"model": str(tmp_path / "moved")}})


def test_an_encoder_that_changes_in_the_middle_of_a_build_is_noticed(corpus: Path, tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "encoder")
    with pytest.raises(Stopped):
        built(corpus, tmp_path / "out", "flat", encoder, progress=StopAt("joining embeddings"))
    parts = tmp_path / ".out.building" / ".build" / "parts"
    (parts / "00000006").unlink()
    for mark in (tmp_path / ".out.building" / ".build" / "marks").glob("merge.encoder"):
        mark.unlink()
    write_tiny_bert(tmp_path / "encoder", seed=5)
    with pytest.raises(ValueError, match="is not the one that encoded these passages"):
        built(corpus, tmp_path / "out", "flat", encoder)


def test_an_encoder_folder_that_is_missing_is_told_before_the_corpus_is_read(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no encoder folder at"):
        built(corpus, tmp_path / "out", "flat", str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_settings_of_another_backend_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backend flat has no setting nprobe; its settings: encoder, embeddings"):
        build_index(corpus, tmp_path / "out", backend="flat", settings={"nprobe": 3})


def test_half_precision_on_disk_halves_the_file(
    folders: dict[str, Path], corpus: Path, tiny_bert: str, tmp_path: Path
) -> None:
    settings = {"encoder": {"model": tiny_bert, "query_prefix": "q: "}, "embeddings": "float16"}
    for backend in ("flat", "torch_exact", "hnsw", "ivf_sq8"):
        build_index(corpus, tmp_path / backend, backend=backend, settings=settings)
        agree = zip(ids(open_index(tmp_path / backend)), ids(open_index(folders["flat"])), strict=True)
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in agree]) > 0.9
        size = (tmp_path / backend / "embeddings.npy").stat().st_size
        assert size == pytest.approx((folders["flat"] / "embeddings.npy").stat().st_size / 2, abs=128)


@pytest.mark.parametrize("backend", ["torch_exact", "ivf_flat", "ivf_sq8"])
def test_embeddings_of_another_index_save_encoding_them_again(
    folders: dict[str, Path],
    corpus: Path,
    tiny_bert: str,
    tmp_path: Path,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[int] = []
    encode = Encoder.passages
    monkeypatch.setattr(Encoder, "passages", lambda self, texts: (encoded.append(len(texts)), encode(self, texts))[1])
    settings = {"encoder": {"model": tiny_bert, "query_prefix": "q: "}, "embeddings_from": folders["flat"]}
    build_index(corpus, tmp_path / "out", backend=backend, settings=settings, shard_size=70)
    assert sum(encoded) == 2, "the first and the last passage, to know the encoder"
    assert data_files(tmp_path / "out") == data_files(folders[backend])
    assert read_manifest(tmp_path / "out").index_hash == read_manifest(folders[backend]).index_hash


def test_embeddings_of_an_index_that_does_not_fit_are_refused(
    folders: dict[str, Path], corpus: Path, tiny_bert: str, tmp_path: Path
) -> None:
    def build(source: Path, corpus: Path = corpus, **encoder: object) -> None:
        settings = {"encoder": {"model": tiny_bert, **encoder}, "embeddings_from": source}
        build_index(corpus, tmp_path / "out", backend="flat", settings=settings, shard_size=SHARD)

    with pytest.raises(ValueError, match="an index of backend ivf_flat, which keeps no embeddings; name one of flat"):
        build(folders["ivf_flat"])
    with pytest.raises(ValueError, match=r"they differ in encoder.passage_prefix \(None there, 'p: ' here\)"):
        build(folders["flat"], passage_prefix="p: ")
    with pytest.raises(FileNotFoundError, match="no index at"):
        build(tmp_path / "nowhere")
    other = tmp_path / "other.jsonl"
    other.write_text(corpus.read_text().replace("p7", "p07").replace("mi", "mo"))
    with pytest.raises(ValueError, match="which is not over this corpus: it lacks the 60 passages that begin with"):
        build(folders["flat"], other)
    with pytest.raises(ValueError, match="is not the one that encoded these passages"):
        build(folders["flat"], model=write_tiny_bert(tmp_path / "else", seed=8))


def test_many_threads_may_search_at_once(index: Index) -> None:
    alone = ids(index)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(lambda _: ids(index), range(24)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_forecast_knows_the_size_of_the_files(
    folders: dict[str, Path], corpus: Path, tiny_bert: str, backend: str
) -> None:
    from retrieval.backends import backend_named, settings_of

    kind = backend_named(backend)
    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    found = kind.builder(settings_of(kind, {"encoder": {"model": tiny_bert}})).estimate(texts, 400, None)
    files = {name: len(content) for name, content in data_files(folders[backend]).items() if "passages" not in name}
    assert found.disk_bytes == pytest.approx(sum(files.values()), rel=0.2)
    assert found.shard_seconds > 0 and found.ram_bytes > 0 and found.peak_disk_bytes >= found.disk_bytes
    assert "32 dimensions" in found.details["encoder"]
