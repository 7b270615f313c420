"""Our bm25s backend against bm25s's own API and rank_bm25: build time, peak memory, search rate, as ratios of one run.

Every contender gets the same corpus and queries, from text to ranked passages, one process each and one thread. The
corpus is drawn from a Zipf distribution over invented words unless --corpus names a real one.

    python -m benchmarks.bm25                         # 50,000 passages
    python -m benchmarks.bm25 --passages 1000000 --without rank_bm25
    python -m benchmarks.bm25 --smoke                 # seconds: that it runs, not what it measures
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

K = 10
BATCH = 100
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def write_corpus(path: Path, num_passages: int, seed: int = 0) -> None:
    """Passages of 30 to 90 words over 200,000 invented words, Zipf-distributed."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(LETTERS, size=size)) for size in rng.integers(4, 11, size=200_000)])
    with path.open("w", encoding="utf-8") as file:
        for i in range(num_passages):
            ranks = np.minimum(rng.zipf(1.2, size=int(rng.integers(30, 90))), len(words)) - 1
            file.write(json.dumps({"id": f"p{i}", "title": "", "text": " ".join(words[ranks])}) + "\n")


def draw_queries(corpus: Path, num_queries: int, seed: int = 1) -> list[str]:
    """Eight words of passages near the start of the corpus."""
    from retrieval.corpus import read_corpus

    rng = np.random.default_rng(seed)
    texts = [passage.text.split() for passage, _ in zip(read_corpus(corpus), range(2000), strict=False)]
    texts = [words for words in texts if words]
    return [" ".join(rng.choice(texts[int(rng.integers(len(texts)))], size=8)) for _ in range(num_queries)]


def build_waymark(corpus: Path, folder: Path) -> None:
    """`build_index`, down to the disk and with checksums."""
    from retrieval.index import build_index

    build_index(corpus, folder)


def build_bm25s(corpus: Path, folder: Path) -> None:
    """bm25s's README: tokenize, index, save with the corpus."""
    import bm25s
    import Stemmer

    from retrieval.corpus import read_corpus

    passages = list(read_corpus(corpus))
    stemmer = Stemmer.Stemmer("english")
    tokens = bm25s.tokenize([p.contents for p in passages], stopwords="en", stemmer=stemmer, show_progress=False)
    model = bm25s.BM25(backend="numba")
    model.index(tokens, show_progress=False)
    rows = [{"id": p.id, "title": p.title, "text": p.text} for p in passages]
    model.save(folder, corpus=rows, show_progress=False)


def build_rank_bm25(corpus: Path, folder: Path) -> None:
    """rank_bm25 in memory; there is nothing to save."""
    from rank_bm25 import BM25Okapi

    from retrieval.analyzer import Analyzer
    from retrieval.corpus import read_corpus

    analyzer = Analyzer()
    BM25Okapi(analyzer.terms(passage.contents) for passage in read_corpus(corpus))


def measured_build(name: str, corpus: Path, folder: Path) -> dict[str, float]:
    """Seconds and peak resident memory of one build, in a process of its own with its imports already done."""
    import bm25s  # noqa: F401
    import rank_bm25  # noqa: F401

    import retrieval.index  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    BUILDS[name](corpus, folder)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"build_s": seconds, "peak_mb": peak / 1024, "peak_over_start_mb": (peak - before) / 1024}


def search_rate(search: Callable[[list[str]], object], queries: list[str], batch: int) -> float:
    """Queries a second in batches; the first batch only warms up."""
    search(queries[:batch])
    started = time.perf_counter()
    for start in range(0, len(queries), batch):
        search(queries[start : start + batch])
    return len(queries) / (time.perf_counter() - started)


def measured_search(name: str, corpus: Path, folder: Path, queries: list[str]) -> dict[str, float]:
    """Queries a second, single and in batches of 100, passages read."""
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
        queries = queries[:20]

        def search(batch: list[str]) -> object:
            return [okapi.get_top_n(analyzer.terms(query), passages, n=K) for query in batch]

    search(queries[:1])
    return {
        "open_s": time.perf_counter() - started,
        "single_per_s": search_rate(search, queries[:300], 1),
        "batched_per_s": search_rate(search, queries, BATCH),
    }


BUILDS: dict[str, Callable[[Path, Path], None]] = {
    "waymark": build_waymark,
    "bm25s": build_bm25s,
    "rank_bm25": build_rank_bm25,
}


def main() -> None:
    """Run the contenders one after the other and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--corpus", type=Path, help="a corpus file instead of an invented one")
    parser.add_argument("--without", action="append", default=[], choices=["bm25s", "rank_bm25"])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    num_passages, num_queries = (500, 200) if options.smoke else (options.passages, options.queries)
    context = multiprocessing.get_context("spawn")
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        corpus = options.corpus or Path(scratch) / "corpus.jsonl"
        if options.corpus is None:
            write_corpus(corpus, num_passages)
        queries = draw_queries(corpus, num_queries)
        for name in BUILDS:
            if name in options.without:
                continue
            folder = Path(scratch) / name
            with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
                built = pool.submit(measured_build, name, corpus, folder).result()
                searched = pool.submit(measured_search, name, corpus, folder, queries).result()
            figures[name] = built | searched
    columns = list(figures["waymark"])
    print(f"{'':12}" + "".join(f"{column:>20}" for column in columns))
    for name, row in figures.items():
        print(f"{name:12}" + "".join(f"{row[column]:>20,.2f}" for column in columns))
    ratios = {
        f"waymark/{name}": {column: figures["waymark"][column] / max(row[column], 1e-9) for column in columns}
        for name, row in figures.items()
        if name != "waymark"
    }
    for name, row in ratios.items():
        print(f"{name:18}" + " ".join(f"{column} x{value:.2f}" for column, value in row.items()))
    if options.json:
        record = {"passages": num_passages, "queries": num_queries, "k": K, "figures": figures, "ratios": ratios}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
