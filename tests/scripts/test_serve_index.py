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
import pytest

from retrieval.client import HttpRetriever
from retrieval.index import build_index, open_index
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
