"""What HTTP costs: the server over an index, over constants, and a naive server, in one run on the same cores.

Each server runs in a process of its own; the clients are raw keep-alive connections in another, so that they cost
little. The constant retriever gives every query the same hits, so its rate is what HTTP allows. The naive server is of
the usual kind: FastAPI, pydantic, one search a request in a thread. In process means `Index.search` in a loop. The
arms take turns, and each figure is the median of its rounds.

    python -m benchmarks.serving                                       # BM25 over 50,000 invented passages
    python -m benchmarks.serving --index indexes/dense                 # any index, encoder included
    python -m benchmarks.serving --index indexes/big --memory          # and the memory of four replicas
    python -m benchmarks.serving --smoke                               # seconds: that it runs, not what it measures
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.passage import Hit, Passage

K = 10
CLIENTS = 32
SPAWN = multiprocessing.get_context("spawn")


class ConstantRetriever:
    """Gives every query the hits of one query of an index."""

    def __init__(self, index: str) -> None:
        from retrieval.index import open_index

        with open_index(index, verify=False) as opened:
            self.num_passages = opened.num_passages
            query = draw_queries(opened, 1)[0]
            self._hits = opened.search([query], min(K, self.num_passages))[0]

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The same hits for every query."""
        return [self._hits[:k] for _ in queries]

    def get(self, passage_id: str) -> Passage:
        """Not served here."""
        raise KeyError(passage_id)

    def __enter__(self) -> "ConstantRetriever":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def naive_app(index: str) -> Any:
    """The usual server: a pydantic model in, one search a request in FastAPI's thread pool, pydantic and json out."""
    from fastapi import FastAPI
    from pydantic import BaseModel

    from retrieval.index import open_index
    from retrieval.server.dialects import contents_of

    class QueryRequest(BaseModel):
        queries: list[str]
        topk: int | None = None
        return_scores: bool = False

    app, opened = FastAPI(), open_index(index, verify=False)

    def retrieve(request: QueryRequest) -> dict[str, Any]:
        results: list[Any] = []
        for query in request.queries:
            [hits] = opened.search([query], request.topk or 3)
            documents = [{"id": hit.passage.id, "contents": contents_of(hit.passage)} for hit in hits]
            if request.return_scores:
                results.append([{"document": d, "score": h.score} for d, h in zip(documents, hits, strict=True)])
            else:
                results.append(documents)
        return {"result": results}

    app.post("/retrieve")(retrieve)
    return app


def serve_arm(arm: str, index: str, settings: dict[str, Any], ready: Connection) -> None:
    """A server process; sends its URL when it answers."""
    from retrieval.server.process import ServingProcess, address_of, listening_socket
    from retrieval.server.serve import OPENER, serve
    from retrieval.server.settings import ServerSettings

    values = ServerSettings(port=0, **settings)
    if arm == "naive":
        listener = listening_socket(values)
        url = address_of(listener)
        ServingProcess(naive_app(index), values, on_started=lambda: ready.send(url)).run_on(listener)
    else:
        opener = OPENER if arm == "waymark" else "benchmarks.serving:ConstantRetriever"
        serve([index], values, announce=lambda line: ready.send(line.rpartition(" ")[2]), opener=opener)


@contextmanager
def server(arm: str, index: str, **settings: Any) -> Iterator[tuple[str, int]]:
    """Start a server; gives its URL and process id, and ends it in order."""
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=serve_arm, args=(arm, index, settings, there))
    process.start()
    there.close()
    try:
        if not here.poll(300):
            raise RuntimeError(f"the {arm} server did not answer within 300 s")
        yield here.recv(), process.pid or 0
    finally:
        process.terminate()
        process.join(60)


class Client(asyncio.Protocol):
    """One connection that sends its next request when it has the whole answer to the last."""

    error: str | None = None

    def __init__(self, requests: Sequence[bytes], first: int, latencies: list[float]) -> None:
        self._requests = requests
        self._next = first
        self._latencies = latencies
        self._received = bytearray()
        self._whole = 0

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        self._received += data
        if not self._whole:
            head = self._received.find(b"\r\n\r\n")
            if head < 0:
                return
            lines = bytes(self._received[:head]).lower().split(b"\r\n")
            if b" 200 " not in lines[0]:
                self.error = f"the server answered {bytes(self._received[:500])!r}"
                self._transport.abort()
                return
            self._whole = head + 4 + int(next(line for line in lines if line.startswith(b"content-length:"))[15:])
        if len(self._received) >= self._whole:
            self._latencies.append(time.perf_counter() - self._asked)
            self._ask()

    def _ask(self) -> None:
        self._received.clear()
        self._whole = 0
        self._asked = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1


def load(url: str, bodies: list[bytes], clients: int, seconds: float, results: Connection) -> None:
    """The load process: sends the latencies in seconds and the requests a second."""
    host, _, port = url.removeprefix("http://").partition(":")
    head = b"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    requests = [head % len(body) + body for body in bodies]

    async def measure() -> tuple[list[float], float]:
        loop, latencies = asyncio.get_running_loop(), list[float]()
        connections = []
        for i in range(clients):
            client = Client(requests, i * len(requests) // clients, latencies)
            connections.append(await loop.create_connection(lambda made=client: made, host, int(port)))  # type: ignore
        await asyncio.sleep(seconds / 4)  # warm up
        before, started = len(latencies), time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (len(latencies) - before) / (time.perf_counter() - started)
        for transport, client in connections:
            if client.error:
                raise RuntimeError(client.error)
            transport.abort()
        return latencies[before:], rate

    results.send(asyncio.run(measure()))


def loaded(url: str, queries: list[str], clients: int, per_request: int, seconds: float) -> dict[str, float]:
    """Requests and queries a second, p50 and p99 in milliseconds, of one round."""
    batches = [queries[start : start + per_request] for start in range(0, len(queries), per_request)]
    bodies = [json.dumps({"queries": batch, "topk": K, "return_scores": True}).encode() for batch in batches]
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=load, args=(url, bodies, clients, seconds, there))
    process.start()
    there.close()
    try:
        latencies, rate = here.recv()
    except EOFError:
        raise RuntimeError("the load process failed; what it said stands above") from None
    finally:
        process.join()
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000 if latencies else (float("nan"),) * 2
    return {"requests_per_s": rate, "queries_per_s": rate * per_request, "p50_ms": float(p50), "p99_ms": float(p99)}


def in_process(index: str, queries: list[str], batch: int, seconds: float) -> dict[str, float]:
    """Queries a second of `Index.search` in a loop."""
    from retrieval.index import open_index

    with open_index(index, verify=False) as opened:
        opened.search(queries[:batch], K)
        searched, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            first = searched % max(1, len(queries) - batch + 1)
            searched += len(opened.search(queries[first : first + batch], K))
    return {"queries_per_s": searched / passed}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, run alone in a fresh process."""
    with SPAWN.Pool(1) as pool:
        return pool.apply(function, arguments)


def draw_queries(index: Any, count: int, seed: int = 1) -> list[str]:
    """Eight words of passages anywhere in the corpus."""
    rng = np.random.default_rng(seed)
    queries: list[str] = []
    while len(queries) < count:
        words = index.corpus[int(rng.integers(index.num_passages))].text.split()
        if words:
            queries.append(" ".join(rng.choice(words, size=8)))
    return queries


def index_queries(index: str, count: int) -> list[str]:
    """Queries drawn from an index folder."""
    from retrieval.index import open_index

    with open_index(index, verify=False) as opened:
        return draw_queries(opened, count)


def private_memory(index: str, queries: list[str], replicas: int, seconds: float) -> dict[str, float]:
    """USS of a replica in MB, mean over replicas after all have searched; of it, pages that it has written to."""
    import psutil

    with server("waymark", index, replicas=replicas) as (url, parent):
        loaded(url, queries, CLIENTS * 2, 1, seconds)
        children = psutil.Process(parent).children(recursive=True)
        serving = [child for child in children if any("replica" in part for part in child.cmdline())]
        assert len(serving) == replicas, f"{len(serving)} of {replicas} replicas run"
        memory = [child.memory_full_info().uss for child in serving]
        dirty = [sum(area.private_dirty for area in child.memory_maps()) for child in serving]
    return {"uss_mb": statistics.mean(memory) / 1e6, "dirty_mb": statistics.mean(dirty) / 1e6}


def build(folder: Path, passages: int) -> str:
    """A BM25 index over invented passages."""
    from benchmarks.bm25 import write_corpus
    from retrieval.index import build_index

    write_corpus(folder / f"{passages}.jsonl", passages)
    build_index(folder / f"{passages}.jsonl", folder / f"index-{passages}")
    return str(folder / f"index-{passages}")


def median_of(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of every figure."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def main() -> None:
    """Run the arms in turns and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=50_000)
    parser.add_argument("--index", help="an index folder instead of an invented corpus")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure four replicas' private memory too")
    parser.add_argument("--max-in-flight", type=int, default=2)
    parser.add_argument("--window-ms", type=float, default=0.0)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds, rounds = (0.3, 1) if options.smoke else (options.seconds, options.rounds)
    replicas = 2 if options.smoke else 4
    settings = {"max_in_flight": options.max_in_flight, "window_s": options.window_ms / 1000}
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        index = options.index or in_own_process(build, Path(scratch), 300 if options.smoke else options.passages)
        queries = in_own_process(index_queries, index, 4096)
        loads = {"1 client x 1": (1, 1), f"{CLIENTS} clients x 1": (CLIENTS, 1), "4 clients x 32": (4, 32)}
        taken: dict[str, list[dict[str, float]]] = {}
        for _ in range(rounds):
            for batch in (1, 32):
                found = in_own_process(in_process, index, queries, batch, seconds)
                taken.setdefault(f"in process, batches of {batch}", []).append(found)
            for arm in ("waymark", "constant", "naive"):
                with server(arm, index, **({} if arm == "naive" else settings)) as (url, _pid):
                    for name, (clients, per_request) in loads.items():
                        found = loaded(url, queries, clients, per_request, seconds)
                        taken.setdefault(f"{arm}, {name}", []).append(found)
        figures = {name: median_of(found) for name, found in taken.items()}
        if options.memory or options.smoke:
            empty = in_own_process(build, Path(scratch), K)
            for name, folder in (("empty index", empty), ("index", index)):
                asked = queries if folder == index else ["word"]
                figures[f"replica of {replicas}, {name}"] = private_memory(folder, asked, replicas, seconds)
        size_mb = sum(file.stat().st_size for file in Path(index).iterdir() if file.is_file()) / 1e6
    for name, row in figures.items():
        print(f"{name:32}" + "".join(f"{value:>14,.2f} {column}" for column, value in row.items()))
    single, batched = (figures[f"in process, batches of {batch}"]["queries_per_s"] for batch in (1, 32))
    ratios = {
        f"{CLIENTS} clients x 1: index / constants": _rate(figures, f"waymark, {CLIENTS} clients x 1")
        / _rate(figures, f"constant, {CLIENTS} clients x 1"),
        "4 clients x 32: served / in process, batches of 32": _rate(figures, "waymark, 4 clients x 32") / batched,
        "1 client x 1: served / in process, single": _rate(figures, "waymark, 1 client x 1") / single,
        f"{CLIENTS} clients x 1: served / in process, single": _rate(figures, f"waymark, {CLIENTS} clients x 1")
        / single,
        f"{CLIENTS} clients x 1: waymark / naive": _rate(figures, f"waymark, {CLIENTS} clients x 1")
        / _rate(figures, f"naive, {CLIENTS} clients x 1"),
    }
    if options.memory or options.smoke:
        extra = (
            figures[f"replica of {replicas}, index"]["uss_mb"]
            - figures[f"replica of {replicas}, empty index"]["uss_mb"]
        )
        ratios[f"private memory of a replica / index of {size_mb:,.0f} MB"] = extra / size_mb
    for name, value in ratios.items():
        print(f"{name:56} {value:.3f}")
    if options.json:
        record = {"index_mb": size_mb, "k": K, "cores": os.cpu_count(), "figures": figures, "ratios": ratios}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _rate(figures: dict[str, dict[str, float]], name: str) -> float:
    return figures[name]["queries_per_s"]


if __name__ == "__main__":
    main()
