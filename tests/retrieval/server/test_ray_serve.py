"""Ray Serve replicas on this machine answer as `serve-index` does, byte for byte."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from retrieval.client import HttpRetriever
from retrieval.index import build_index, open_index
from tests.retrieval.server.served import REPOSITORY, served

pytestmark = pytest.mark.slow

QUERIES = ["number7 cat", "owl", "nothing known", "CAT 5!", "Über das \u2028 Meer"]
SETTINGS = {"max_k": 50, "max_query_chars": 500, "max_body_bytes": 20_000, "document_urls": True}

BODIES: list[tuple[str, Any]] = [
    ("/retrieve", {"queries": QUERIES, "topk": 5, "return_scores": True}),
    ("/retrieve", {"queries": QUERIES, "topk": 5}),
    ("/retrieve", {"queries": []}),
    ("/retrieve", {"query": "number7 cat"}),
    ("/retrieve", {"query": "number7 cat", "topk": 2, "return_scores": True}),
    ("/retrieve", {"query": "number7 cat", "top_k": 4}),
    ("/retrieve", {"query": "number7 cat", "k": 4, "return_scores": False}),
    ("/retrieve", {"queries": QUERIES, "k": 50, "dialect": "waymark"}),
    ("/retrieve", {"query": "owl", "k": 0}),
    ("/retrieve", {"query": "owl", "k": 51}),
    ("/retrieve", {"query": " "}),
    ("/retrieve", {"query": "x" * 501}),
    ("/retrieve", {"dialect": "klingon", "query": "owl"}),
    ("/retrieve", [1, 2]),
    ("/retrieve", {"queries": ["x" * 400] * 100}),
    ("/access", {"id": "p8"}),
    ("/access", {"ids": ["p8", "none", "p9"]}),
    ("/access", {"title": "title 3"}),
    ("/access", {"urls": ["https://en.wikipedia.org/wiki/Title_3"]}),
    ("/access", {"id": "none"}),
    ("/nothing", {}),
]

SERVE = """
import json, os, signal, sys
import ray
from ray import serve
from retrieval.server.ray_serve import RayServeArgs, app

wanted = json.loads(sys.argv[1])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
         runtime_env={"env_vars": {"PYTHONPATH": wanted["path"]}})
serve.start(http_options={"host": "127.0.0.1", "port": wanted["port"]})
serve.run(app(RayServeArgs(**wanted["args"])))
print("serving", flush=True)
for line in sys.stdin:
    print("=>", eval(line), flush=True)
serve.shutdown()
ray.shutdown()
"""

STATUS = "repr(serve.status().applications['default'].deployments['Retrieval'].message)"


class Cluster:
    """Ray with two replicas, in a process of its own."""

    def __init__(self, args: dict[str, Any]) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        wanted = {"port": port, "path": str(REPOSITORY), "args": args}
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, json.dumps(wanted)],
            cwd=REPOSITORY,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line_with("serving"), "Ray Serve did not start; standard error says why"

    def evaluated(self, expression: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self._line_with("=> ")

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()

    def both(self) -> set[int]:
        """The two replicas' processes; Ray may be a while in using the second one."""
        until = time.monotonic() + 60
        while len(found := self.process_ids()) < 2:
            assert time.monotonic() < until, "both replicas answer"
        return found

    def process_ids(self) -> set[int]:
        def ask(_: int) -> int:
            process_id: int = httpx.get(self.url + "/health", timeout=20, trust_env=False).json()["pid"]
            return process_id

        with ThreadPoolExecutor(8) as pool:  # Ray gives one request after the other to whom it likes
            return set(pool.map(ask, range(60)))

    def _line_with(self, word: str) -> str:
        """Ray writes lines of its own between ours."""
        assert self.process.stdout is not None
        return next((line for line in iter(self.process.stdout.readline, "") if word in line), "")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    corpus = folder / "corpus.jsonl"
    rows = [
        {"id": f"p{i}", "title": f"Title {i % 7}" if i % 5 else "", "text": f"owl number{i} sees cat {i % 13} über"}
        for i in range(200)
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build_index(corpus, folder / "index")
    return folder / "index"


@pytest.fixture(scope="module")
def cluster(index: Path) -> Iterator[Cluster]:
    running = Cluster({"index": str(index), "num_replicas": 2, "num_cpus": 0.2, **SETTINGS})
    try:
        yield running
    finally:
        assert running.end() == 0


def test_every_answer_is_that_of_serve_index_byte_for_byte(cluster: Cluster, index: Path) -> None:
    options = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    with served("-m", "scripts.serve_index", str(index), "--port", "0", *options) as alone:
        for path, body in BODIES:
            one, other = (
                httpx.post(url + path, json=body, timeout=20, trust_env=False) for url in (alone.url, cluster.url)
            )
            assert (other.status_code, other.content) == (one.status_code, one.content), (path, body)
            assert other.headers["content-type"] == one.headers["content-type"]
        one, other = (
            httpx.post(url + "/retrieve", content=b"{", timeout=20, trust_env=False) for url in (alone.url, cluster.url)
        )
        assert other.status_code == one.status_code == 400 and other.content == one.content
    assert len(cluster.both()) == 2


def test_the_client_finds_what_the_index_finds_and_requests_share_batches(cluster: Cluster, index: Path) -> None:
    with open_index(index) as local, HttpRetriever(cluster.url) as remote:
        assert remote.search(QUERIES, 10) == local.search(QUERIES, 10)
        assert remote.identity == dict(local.identity) and remote.get("p8") == local.get("p8")

        def ask(i: int) -> None:
            for _ in range(5):
                assert remote.search([f"number{i}"], 3) == local.search([f"number{i}"], 3)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pages = [httpx.get(cluster.url + "/metrics", timeout=20, trust_env=False).text for _ in range(12)]
    counts = [
        {
            line.split()[0]: float(line.split()[1])
            for line in page.splitlines()
            if line.startswith("waymark_batch_size_")
        }
        for page in pages
    ]
    assert all(count["waymark_batch_size_sum"] > count["waymark_batch_size_count"] for count in counts)


def test_the_replicas_map_one_copy_of_the_index(cluster: Cluster, index: Path) -> None:
    mapped = [
        {line.split()[-1] for line in Path(f"/proc/{process}/maps").read_text().splitlines() if str(index) in line}
        for process in cluster.both()
    ]
    assert len(mapped) == 2 and mapped[0] == mapped[1] and len(mapped[0]) >= 2


def test_a_killed_replica_is_replaced_and_one_that_finds_another_index_is_not(index: Path, tmp_path: Path) -> None:
    corpus = index.with_name("corpus.jsonl")
    old = build_index(corpus, tmp_path / "index")
    own = Cluster({"index": str(tmp_path / "index"), "num_replicas": 2, "num_cpus": 0.2})
    try:
        before = own.both()
        os.kill(min(before), signal.SIGKILL)
        until = time.monotonic() + 60
        while len(now := own.process_ids() - {min(before)}) < 2:
            assert time.monotonic() < until, "Ray starts another"
        build_index(corpus, tmp_path / "index", settings={"k1": 0.9, "b": 0.4}, overwrite=True)
        os.kill(min(now), signal.SIGKILL)
        told, until = "", time.monotonic() + 60
        with HttpRetriever(own.url, retries=8) as remote:
            while "was replaced while it was served" not in told:
                assert time.monotonic() < until, told
                for _ in range(10):
                    remote.search(["owl"], 1)
                    answer = httpx.get(own.url + "/health", timeout=20, trust_env=False)
                    assert answer.status_code == 503 or answer.json()["index_hash"] == old.index_hash
                told = own.evaluated(STATUS)
    finally:
        assert own.end() == 0


def test_wrong_arguments_are_told_before_anything_is_deployed(tmp_path: Path) -> None:
    from retrieval.server.ray_serve import RayServeArgs, app

    for arguments, said in (
        ({"index": "x", "max_kk": 3}, "there is no argument max_kk"),
        ({"index": "x", "port": 3}, "there is no argument port"),
        ({"index": "x", "max_k": 0}, "max_k"),
        ({}, "index"),
    ):
        with pytest.raises(ValueError, match=said):
            RayServeArgs(**arguments)
    with pytest.raises(ValueError, match="a retriever is"):
        app(RayServeArgs(index={"nothing": 1}))
