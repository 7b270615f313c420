"""`waymark serve-index` on real indexes: the same answers as in process, and errors before anything is served."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from retrieval.client import HttpRetriever
from retrieval.index import build_index, open_index
from tests.retrieval.dense.tiny_encoder import write_tiny_bert
from tests.retrieval.server.served import REPOSITORY, all_ended, served

QUERIES = ["owl number 3", "cat 5 dog", "nothing known", "OWL!", "7 11"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    corpus = folder / "corpus.jsonl"
    rows = [
        {"id": f"p{i}", "title": f"Title {i % 7}", "text": f"owl number {i} sees cat {i % 13} and dog {i % 17}"}
        for i in range(200)
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build_index(corpus, folder / "index")
    build_index(corpus, folder / "other", settings={"k1": 0.9, "b": 0.4})
    return folder / "index"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.serve_index", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--replicas", "2", "--window-ms", "2"]])
def test_the_answers_are_those_of_the_index(index: Path, options: list[str]) -> None:
    with served("-m", "scripts.serve_index", str(index), "--port", "0", *options) as server, open_index(index) as local:
        processes = server.process_ids()
        with HttpRetriever(server.url) as remote:
            assert remote.search(QUERIES, 10) == local.search(QUERIES, 10)
            assert remote.num_passages == 200 and remote.get("p7") == local.get("p7")
            assert remote.identity == dict(local.identity)
        assert httpx.get(server.url + "/health").json()["index_hash"] == local.manifest.index_hash
        assert server.end(signal.SIGTERM) == 0
        assert all_ended(processes)


@pytest.mark.slow
def test_several_indexes_are_served_as_a_hybrid_and_ctrl_c_ends_with_130(index: Path) -> None:
    other = str(index.with_name("other"))
    with served("-m", "scripts.serve_index", str(index), other, "--port", "0") as server:
        with HttpRetriever(server.url) as remote:
            [hits] = remote.search(["owl number 3"], 3)
            assert len(hits) == 3 and 2 / 62 < hits[0].score <= 2 / 61, "reciprocal ranks of two lists"
        assert server.end(signal.SIGINT) == 130


@pytest.mark.slow
def test_the_token_of_the_environment_is_asked_for(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYMARK_SERVER_TOKEN", "secret")
    with served("-m", "scripts.serve_index", str(index), "--port", "0") as server:
        assert httpx.post(server.url + "/retrieve", json={"query": "owl"}).status_code == 401
        with HttpRetriever(server.url, token="secret") as remote:
            assert remote.search(["owl number 3"], 1)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--token-file {file} cannot be read (No such file or directory)"),
        (b" \n", "--token-file {file} is empty; put the token into it, or leave --token-file out"),
        ("naïve".encode(), "printable ASCII"),
        (b"\xff\xfe", "--token-file {file} is no text"),
        (b"two\nlines", "printable ASCII"),
    ],
)
def test_a_token_file_that_gives_no_token_is_not_taken_for_no_token(
    index: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    refused = run(str(index), "--port", "0", "--token-file", str(file))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message.format(file=file) in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_an_empty_token_in_the_environment_is_not_taken_for_no_token(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYMARK_SERVER_TOKEN", "")
    refused = run(str(index), "--port", "0")
    assert refused.returncode == 2 and "WAYMARK_SERVER_TOKEN is empty" in refused.stderr


@pytest.mark.slow
def test_replicas_that_cannot_open_what_they_are_given_are_bad_input(index: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "1", "title": "", "text": "another corpus"}\n')
    build_index(corpus, tmp_path / "index")
    refused = run(str(index), str(tmp_path / "index"), "--port", "0", "--replicas", "2")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "searches another corpus than part 1" in refused.stderr
    assert "a replica ended with code 2 before it was ready" in refused.stderr


@pytest.mark.slow
def test_what_cannot_be_served_is_said_before_anything_is(index: Path, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        busy = run(str(index), "--port", port)
    assert (busy.returncode, f"port {port} on 127.0.0.1 is taken" in busy.stderr) == (2, True)
    missing = run(str(tmp_path / "none"), "--port", "0")
    assert missing.returncode == 2 and "no index at" in missing.stderr
    unknown = run(str(index), "--set", "max_kk=3")
    assert unknown.returncode == 2 and "the server has no setting max_kk" in unknown.stderr
    wrong = run(str(index), "--set", "max_k=0")
    assert wrong.returncode == 2 and "max_k" in wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window-ms", "-1"], "waymark: --window-ms is -1; give 0 to 1000 milliseconds"),
        (["--window-ms", "nan"], "waymark: --window-ms is nan; give 0 to 1000 milliseconds"),
        (["--port", "70000"], "waymark: --port is 70000; give 0 to 65535"),
        (["--replicas", "0"], "waymark: --replicas is 0; give 1 to 256"),
    ],
)
def test_an_option_that_does_not_hold_is_named_as_it_was_typed(options: list[str], message: str) -> None:
    refused = run("nothing", *options)
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", message + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_line_at_the_start_says_what_is_served_and_by_how_many(index: Path, replicas: int) -> None:
    words = "1 replica" if replicas == 1 else "2 replicas"
    indexes = [str(index), str(index.with_name("other"))]
    with served("-m", "scripts.serve_index", indexes[0], "--port", "0", "--replicas", str(replicas)) as server:
        assert server.line == f"serving 200 passages (bm25s), {words}, at {server.url}"
    with served("-m", "scripts.serve_index", *indexes, "--port", "0", "--replicas", str(replicas)) as server:
        assert server.line == f"serving 200 passages (hybrid of bm25s and bm25s), {words}, at {server.url}"


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--replicas", "2"]])
def test_a_server_that_is_not_there_cannot_be_served(options: list[str]) -> None:
    refused = run('{url: "http://127.0.0.1:9", retries: 0}', "--port", "0", *options)
    assert (refused.returncode, refused.stdout) == (2, "") and "Traceback" not in refused.stderr
    assert 'the retriever {"url": "http://127.0.0.1:9"' in refused.stderr
    assert (
        "cannot be searched: " in refused.stderr and "Start its server (`waymark serve-index INDEX`)" in refused.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--replicas", "2"]])
def test_an_altered_index_is_found_out_at_the_start(index: Path, tmp_path: Path, options: list[str]) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in index.iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:-5] if file.name == "data.csc.index.npy" else content)
    result = run(str(broken), "--port", "0", *options)
    assert result.returncode == 2 and "checksum" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_what_a_spec_sets_for_searching_reaches_every_replica(index: Path, tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "encoder")
    settings = {"encoder": {"model": encoder}, "lists": 8, "nprobe": 8}
    build_index(index.with_name("corpus.jsonl"), tmp_path / "ivf", backend="ivf_flat", settings=settings)
    spec = json.dumps({"index": str(tmp_path / "ivf"), "settings": {"nprobe": 3}})
    with served("-m", "scripts.serve_index", spec, "--port", "0", "--replicas", "2") as server:
        said = {}
        for _ in range(40):
            health = server.get("/health").json()
            said[health["pid"]] = health["identity"]["settings"]["nprobe"]
        assert list(said.values()) == [3, 3]


@pytest.mark.slow
def test_replicas_share_the_files_of_an_index(tmp_path: Path) -> None:
    """What each holds of its own is the interpreter and the vocabulary; the postings and passages are mapped."""
    corpus = tmp_path / "corpus.jsonl"
    with corpus.open("w", encoding="utf-8") as file:
        for i in range(30_000):
            words = " ".join(f"w{(i * j * 7919) % 4999}" for j in range(1, 60))
            file.write(json.dumps({"id": str(i), "title": "", "text": words}) + "\n")
    build_index(corpus, tmp_path / "index")
    size = sum(file.stat().st_size for file in (tmp_path / "index").iterdir())
    assert size > 20_000_000
    few = tmp_path / "few.jsonl"
    few.write_text('{"id": "1", "title": "", "text": "owl"}\n')
    build_index(few, tmp_path / "few")
    own = {name: private_bytes_of_replicas(tmp_path / name) for name in ("few", "index")}
    for private in own["index"]:
        assert private - min(own["few"]) < 0.15 * size, f"a copy of its smallest array would be .27: {own} of {size}"


def private_bytes_of_replicas(index: Path) -> list[int]:
    """Unique set size of each of two replicas that have searched and opened passages all over the index."""
    with served("-m", "scripts.serve_index", str(index), "--port", "0", "--replicas", "2") as server:
        processes = server.process_ids()
        last = server.get("/health").json()["num_passages"]
        clients = [httpx.Client(base_url=server.url, trust_env=False, timeout=60) for _ in range(8)]
        asked = {client.get("/health").json()["pid"] for client in clients}  # held together, so both replicas get some
        for client in clients:
            for start in range(0, 4990, 50):
                body = {"query": " ".join(f"w{i}" for i in range(start, start + 10)), "topk": 1}
                assert client.post("/retrieve", json=body).status_code == 200
            for passage_id in range(1, last, max(1, last // 100)):
                assert client.post("/access", json={"id": str(passage_id)}).status_code == 200
        assert asked == processes, "what only one has read would count as its own"
        return [psutil.Process(process).memory_full_info().uss for process in processes]


@pytest.mark.slow
def test_a_replica_that_dies_after_the_index_was_replaced_does_not_serve_the_new_one(
    index: Path, tmp_path: Path
) -> None:
    served_index = tmp_path / "index"
    corpus = index.with_name("corpus.jsonl")
    old = build_index(corpus, served_index)
    with served("-m", "scripts.serve_index", str(served_index), "--port", "0", "--replicas", "2") as server:
        new = build_index(corpus, served_index, settings={"k1": 0.9, "b": 0.4}, overwrite=True)
        assert old.index_hash != new.index_hash
        first, second = sorted(server.process_ids())
        os.kill(first, signal.SIGKILL)
        assert server.process.stderr is not None
        said = "".join(server.process.stderr.readline() for _ in range(3))
        assert "was replaced while it was served" in said and "1 of 2 replicas go on with the old index" in said
        answers = [server.get("/health").json() for _ in range(40)]
        assert {answer["pid"] for answer in answers} == {second}
        assert {answer["index_hash"] for answer in answers} == {old.index_hash}
        os.kill(second, signal.SIGKILL)
        assert server.process.wait(30) == 2, "nobody is left who has the old index"
        assert "start the server again" in server.process.stderr.read()


@pytest.mark.slow
def test_a_replica_that_dies_is_started_again_on_an_index_built_anew_with_the_same_content(
    index: Path, tmp_path: Path
) -> None:
    served_index = tmp_path / "index"
    corpus = index.with_name("corpus.jsonl")
    build_index(corpus, served_index)
    with served("-m", "scripts.serve_index", str(served_index), "--port", "0", "--replicas", "2") as server:
        build_index(corpus, served_index, overwrite=True)
        before = server.process_ids()
        os.kill(min(before), signal.SIGKILL)
        until = time.monotonic() + 30
        while len(server.process_ids() - {min(before)}) < 2:
            assert time.monotonic() < until
