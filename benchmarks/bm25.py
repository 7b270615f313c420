"""Our bm25s backend against bm25s's own API and rank_bm25: build rate, peak memory, search rate, as ratios of one run.

Every contender gets the same corpus, the same queries and the same tokens, from text on disk to ranked passages, one
process each and one thread; compiled loops are compiled before the clock starts. Ours writes checksums, waits for the
disk, and refuses repeated ids; the others do not.

    python -m benchmarks.bm25                                            # 50,000 invented passages
    python -m benchmarks.bm25 --world 1000000 --without rank_bm25        # a fictional world of a million passages
    python -m benchmarks.bm25 --data ../shared/data/hotpotqa             # a folder with corpus.jsonl.gz and questions
    python -m benchmarks.bm25 --world 1000000 --without rank_bm25 --ram-gb 0.5
    python -m benchmarks.bm25 --smoke                                    # seconds: that it runs, not what it measures
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

K = 10
BATCH = 64
SINGLE_QUERIES = 300
RANK_BM25_QUERIES = 20
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))

Figures = dict[str, float]


def write_corpus(path: Path, num_passages: int, seed: int = 0) -> None:
    """Passages of 30 to 90 words over 200,000 invented words, Zipf-distributed."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(LETTERS, size=size)) for size in rng.integers(4, 11, size=200_000)])
    with path.open("w", encoding="utf-8") as file:
        for i in range(num_passages):
            ranks = np.minimum(rng.zipf(1.2, size=int(rng.integers(30, 90))), len(words)) - 1
            file.write(json.dumps({"id": f"p{i}", "title": "", "text": " ".join(words[ranks])}) + "\n")


def write_world(folder: Path, num_passages: int) -> None:
    """A fictional world like the preset `large`, with test questions only."""
    from envs.world import WorldSettings, make_world

    settings = WorldSettings.preset(
        "large", num_passages=num_passages, train_questions=0, dev_questions=0, test_questions=500
    )
    make_world(settings, folder)


def draw_queries(corpus: Path, num_queries: int, seed: int = 1) -> list[str]:
    """Eight words of passages near the start of the corpus."""
    from retrieval.corpus import read_corpus

    rng = np.random.default_rng(seed)
    texts = [passage.text.split() for passage, _ in zip(read_corpus(corpus), range(2000), strict=False)]
    texts = [words for words in texts if words]
    return [" ".join(rng.choice(texts[int(rng.integers(len(texts)))], size=8)) for _ in range(num_queries)]


def read_queries(path: Path, num_queries: int) -> list[str]:
    """The questions of a file, over again where there are fewer than asked for."""
    from envs.datasets import read_questions

    questions = [question.text for question in read_questions(path)]
    return [questions[i % len(questions)] for i in range(num_queries)]


def build_waymark(corpus: Path, folder: Path, options: dict[str, Any]) -> None:
    """`build_index`, down to the disk and with checksums."""
    from retrieval.index import build_index

    build_index(corpus, folder, **options)


def build_bm25s(corpus: Path, folder: Path, options: dict[str, Any]) -> None:
    """bm25s's README with its numba backend: read, tokenize, index, save with the corpus."""
    import bm25s
    import Stemmer

    rows = _rows(corpus)
    texts = [f"{row['title']} {row['text']}" if row.get("title") else row["text"] for row in rows]
    tokens = bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)
    model = bm25s.BM25(backend="numba")
    model.index(tokens, show_progress=False)
    model.save(folder, corpus=rows, show_progress=False)


def build_rank_bm25(corpus: Path, folder: Path, options: dict[str, Any]) -> None:
    """rank_bm25 in memory; there is nothing to save."""
    from rank_bm25 import BM25Okapi

    from retrieval.analyzer import Analyzer
    from retrieval.corpus import read_corpus

    analyzer = Analyzer()
    BM25Okapi(analyzer.terms(passage.contents) for passage in read_corpus(corpus))


def _rows(corpus: Path) -> list[dict[str, Any]]:
    if corpus.suffix == ".jsonl":
        with corpus.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    from retrieval.corpus import read_corpus

    return [{"id": p.id, "title": p.title, "text": p.text} for p in read_corpus(corpus)]


def measured_build(name: str, corpus: Path, folder: Path, num_passages: int, options: dict[str, Any]) -> Figures:
    """Rate and peak resident memory of one build, in a process of its own with imports and compiling already done."""
    from retrieval.build.memory import peak_bytes, resident_bytes

    with tempfile.TemporaryDirectory() as scratch:
        few = Path(scratch) / "few.jsonl"
        few.write_text("".join(json.dumps({"id": str(i), "title": "", "text": f"w{i} w"}) + "\n" for i in range(9)))
        BUILDS[name](few, Path(scratch) / "few", {})
    start = resident_bytes()
    started = time.perf_counter()
    BUILDS[name](corpus, folder, options)
    seconds = time.perf_counter() - started
    return {
        "build_s": seconds,
        "passages_per_s": num_passages / seconds,
        "peak_mb": peak_bytes() / 1e6,
        "peak_over_start_mb": (peak_bytes() - start) / 1e6,
    }


def search_rate(search: Callable[[list[str]], object], queries: list[str], batch: int) -> float:
    """Queries a second in batches; the first batch only warms up."""
    search(queries[:batch])
    started = time.perf_counter()
    for start in range(0, len(queries), batch):
        search(queries[start : start + batch])
    return len(queries) / (time.perf_counter() - started)


def measured_search(name: str, corpus: Path, folder: Path, queries: list[str]) -> Figures:
    """Queries a second, single and in batches of 64, passages read."""
    search: Callable[[list[str]], object]
    started = time.perf_counter()
    if name == "waymark":
        from retrieval.index import open_index

        index = open_index(folder)

        def search(batch: list[str]) -> object:
            return index.search(batch, K)
    elif name == "bm25s":
        import bm25s
        import Stemmer

        model = bm25s.BM25.load(folder, mmap=True, load_corpus=True, show_progress=False)
        stemmer = Stemmer.Stemmer("english")

        def search(batch: list[str]) -> object:
            tokens = bm25s.tokenize(batch, stopwords="en", stemmer=stemmer, show_progress=False)
            return model.retrieve(tokens, k=K, show_progress=False)
    else:
        from rank_bm25 import BM25Okapi

        from retrieval.analyzer import Analyzer
        from retrieval.corpus import read_corpus

        analyzer = Analyzer()
        passages = list(read_corpus(corpus))
        okapi = BM25Okapi(analyzer.terms(passage.contents) for passage in passages)
        queries = queries[:RANK_BM25_QUERIES]

        def search(batch: list[str]) -> object:
            return [okapi.get_top_n(analyzer.terms(query), passages, n=K) for query in batch]

    search(queries[:1])
    return {
        "open_s": time.perf_counter() - started,
        "single_per_s": search_rate(search, queries[:SINGLE_QUERIES], 1),
        "batched_per_s": search_rate(search, queries, BATCH),
    }


BUILDS: dict[str, Callable[[Path, Path, dict[str, Any]], None]] = {
    "waymark": build_waymark,
    "bm25s": build_bm25s,
    "rank_bm25": build_rank_bm25,
}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, so that memory and compiled code are its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return pool.submit(function, *arguments).result()


def corpus_and_queries(options: argparse.Namespace, scratch: Path) -> tuple[Path, list[str]]:
    """The corpus file and the queries that the options name, made first where they are invented."""
    num_queries = 200 if options.smoke else options.queries
    if options.data is not None:
        corpus = next(path for path in sorted(options.data.glob("corpus.jsonl*")))
        return corpus, read_queries(next(iter(sorted(options.data.glob("questions*.jsonl*")))), num_queries)
    if options.world is not None:
        if not (scratch / "world").exists():
            in_own_process(write_world, scratch / "world", options.world)
        return scratch / "world" / "corpus.jsonl", read_queries(scratch / "world" / "questions.test.jsonl", num_queries)
    corpus = options.corpus or scratch / "corpus.jsonl"
    if options.corpus is None:
        write_corpus(corpus, 500 if options.smoke else options.passages)
    return corpus, draw_queries(corpus, num_queries)


def median_of(runs: list[Figures]) -> Figures:
    """The median of every figure over repeated runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    """Run the contenders by turns and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=50_000, help="size of the invented corpus")
    parser.add_argument("--queries", type=int, default=2_000)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--corpus", type=Path, help="a corpus file instead; queries are drawn from it")
    source.add_argument(
        "--world", type=int, metavar="PASSAGES", help="a fictional world and its test questions instead"
    )
    source.add_argument(
        "--data", type=Path, help="a folder with corpus.jsonl and questions.jsonl, packed or not, instead"
    )
    parser.add_argument("--without", action="append", default=[], choices=["bm25s", "rank_bm25"])
    parser.add_argument("--repeats", type=int, default=1, help="runs of every contender, by turns; medians are shown")
    parser.add_argument("--ram-gb", type=float, help="bound on the memory of our build")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of our build; not counted in peak_mb")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scratch", type=Path, help="keep the world in this folder and use it again")
    options = parser.parse_args()
    ours = {"ram_gb": options.ram_gb, "workers": options.workers}
    contenders = [name for name in BUILDS if name not in options.without]
    runs: dict[str, list[Figures]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.scratch or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        corpus, queries = corpus_and_queries(options, scratch)
        num_passages = in_own_process(count_passages, corpus)
        for _ in range(options.repeats):
            for name in contenders:
                folder = Path(temporary) / name
                shutil.rmtree(folder, ignore_errors=True)
                build_options = ours if name == "waymark" else {}
                built = in_own_process(measured_build, name, corpus, folder, num_passages, build_options)
                runs[name].append(built | in_own_process(measured_search, name, corpus, folder, queries))
    figures = {name: median_of(of_one) for name, of_one in runs.items()}
    columns = list(figures["waymark"])
    print(f"{num_passages:,} passages, {len(queries):,} queries, k = {K}, batches of {BATCH}")
    print(f"{'':12}" + "".join(f"{column:>20}" for column in columns))
    for name, row in figures.items():
        print(f"{name:12}" + "".join(f"{row[column]:>20,.2f}" for column in columns))
    ratios = {
        f"waymark/{name}": {column: figures["waymark"][column] / max(row[column], 1e-9) for column in columns}
        for name, row in figures.items()
        if name != "waymark"
    }
    for name, row in ratios.items():
        print(f"{name:18}" + " ".join(f"{column} x{value:,.2f}" for column, value in row.items()))
    if options.json:
        record = {
            "passages": num_passages,
            "queries": len(queries),
            "k": K,
            "batch": BATCH,
            "options": ours,
            "repeats": options.repeats,
            "figures": figures,
            "ratios": ratios,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def count_passages(corpus: Path) -> int:
    """Passages of a corpus."""
    from retrieval.corpus import read_corpus

    return sum(1 for _ in read_corpus(corpus))


if __name__ == "__main__":
    main()
