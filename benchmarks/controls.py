"""What an agent can reach at best on the public sets, before any agent: coverage, and what a search and a reader find.

For each set a bm25s index (English stopwords, Snowball stemmer) over its corpus, and over its `complete` questions: the
question as the only query, every gold sub-question with gold answers filled in, the gold passages themselves, and the
corpus as a whole. 95 % intervals by bootstrap over questions. A set without annotated hops says so.

    python -m benchmarks.controls --data DATA --out benchmarks/results/controls.json
    python -m benchmarks.controls --data DATA --sets musique          # adds to the file, and prints the table of all
    python -m benchmarks.controls --smoke                             # seconds, a small world: that it runs
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.datasets import read_questions
from envs.question import Question
from envs.world import WorldSettings, make_world
from evaluation.ceilings import answers_found, coverage_ceiling
from evaluation.comparability import checkout_commit, hardware
from evaluation.controls import oracle_decomposition
from evaluation.retrieval_quality import select_questions
from evaluation.trajectory_record import plain
from retrieval.index import build_index, open_index

SETS = ("hotpotqa", "musique", "2wikimultihopqa")
K = 5
ANNOTATED = 0.9
"""Where fewer of the questions have the hops' answers, the set counts as not annotated."""


def measure(corpus: Path, questions: Sequence[Question]) -> dict[str, Any]:
    """All figures of one set."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        build_index(corpus, Path(folder) / "index")
        with open_index(Path(folder) / "index") as index:
            found = oracle_decomposition(index, questions, ks=(K, 10))
            read = answers_found(index, questions, k=K)
            coverage = coverage_ceiling(index, questions)
            passages = index.num_passages
    if read["oracle_decomposition"]["n"] < ANNOTATED * read["question_search"]["n"]:
        found["oracle_decomposition"] = {"not_annotated": True}
        read["oracle_decomposition"] = {"not_annotated": True}
    seconds = time.perf_counter() - began
    return {"n": len(questions), "passages": passages, "found": found, "read": read, "coverage": coverage, "s": seconds}


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as a Markdown table: what is found, and whether it says the answer."""
    lines = [
        f"| set (n) | control | supports found @{K} | all of them @{K} | the answer is read |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, record in records.items():
        found, read, coverage = record["found"], record["read"], record["coverage"]
        label = f"{name} ({record['n']})"
        single, oracle = found["single_search_with_question"], found.get("oracle_decomposition", {})
        rows = [
            (
                "single search with the question",
                _told(single, f"recall_mean@{K}"),
                _told(single, f"recall_all@{K}"),
                _told(read["question_search"], "answer_found"),
            )
        ]
        if "not_annotated" in read["oracle_decomposition"] and "n" not in read["oracle_decomposition"]:
            rows.append(("oracle decomposition", "not annotated", "not annotated", "not annotated"))
        else:
            rows.append(
                (
                    "oracle decomposition",
                    _told(oracle, f"hop_recall@{K}"),
                    _told(oracle, f"recall_all@{K}"),
                    _told(read["oracle_decomposition"], "answer_found"),
                )
            )
        rows.append(("oracle passages", "1", "1", _told(read["oracle_passages"], "answer_found")))
        covered = _told(coverage, "coverage_supports")
        rows.append(("coverage of the corpus", covered, covered, _told(coverage, "coverage_answers")))
        for control, *cells in rows:
            lines.append(f"| {label} | {control} | {' | '.join(cells)} |")
            label = ""
    return "\n".join(lines)


def _told(summary: Mapping[str, Any], key: str) -> str:
    if summary.get(key) is None:
        return "not annotated"
    low, high = summary[f"{key}_low"], summary[f"{key}_high"]
    return f"{_short(summary[key])} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _smoke() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        make_world(WorldSettings.preset("tiny"), world)
        return {"tiny world": measure(world / "corpus.jsonl", read_questions(world / "questions.test.jsonl"))}


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with SET/corpus.jsonl.gz and SET/questions.jsonl.gz")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--out", type=Path, help="JSON file; sets that it has and that are not measured are kept")
    parser.add_argument("--smoke", action="store_true", help="a small world in seconds, no claim")
    options = parser.parse_args()
    if options.smoke:
        print(table(plain(_smoke())))
        return
    if options.data is None:
        parser.error("--data is needed: the folder of the sets (or --smoke)")
    kept = json.loads(options.out.read_text()) if options.out and options.out.is_file() else {"sets": {}}
    for name in options.sets:
        questions = read_questions(options.data / name / "questions.jsonl.gz")
        complete = select_questions(questions, {"selection": "complete"})
        kept["sets"][name] = plain(measure(options.data / name / "corpus.jsonl.gz", complete))
        kept |= {"hardware": hardware(), "commit": checkout_commit()}
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"{name}: {kept['sets'][name]['s']:.0f} s", flush=True)
    print(table({name: kept["sets"][name] for name in SETS if name in kept["sets"]}))


if __name__ == "__main__":
    main()
