"""How long the report of a comparison takes to build, and how large it is: 10,000 questions, two runs.

    python -m benchmarks.comparison_report
    python -m benchmarks.comparison_report --questions 10000 --json comparison_report.json --keep comparisons/benchmark
    python -m benchmarks.comparison_report --smoke

The runs are made here (two policies that are right by chance, `benchmarks.simulation.evaluated_runs`); making them is
not timed. Timed is what `waymark compare A B --out DIR` does after its imports: reading both files, the tests, and
writing page, JSON and CSV, the worst regressions with both trajectories read from their stores.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.simulation.evaluated_runs import SimulatedPolicy, make_questions, write_evaluation
from evaluation.comparability import checkout_commit, hardware
from evaluation.comparison import compare_runs
from evaluation.comparison_report import write_comparison
from evaluation.evaluation_suite import read_suites

MAX_SECONDS, MAX_MEGABYTES = 20.0, 10.0
FIRST = SimulatedPolicy()
SECOND = SimulatedPolicy(accuracy=0.66, loss_a_hop=0.10, extra_searches=0.05, no_answer=0.02, thought="Next I need")


def main() -> None:
    """Make the runs, build the report, print and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the runs and the report; default: thrown away")
    parser.add_argument("--smoke", action="store_true", help="seconds: 200 questions")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bound is missed")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    if args.smoke:
        args.questions = 200
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(args.keep or Path(scratch), args.questions, args.seed)
    within = figures["seconds"] < MAX_SECONDS and figures["page_megabytes"] < MAX_MEGABYTES
    print(
        f"{figures['questions']:,} questions, 2 runs: {figures['seconds']:.1f} s ({figures['reading_seconds']:.1f} "
        f"reading, {figures['testing_seconds']:.1f} testing, {figures['writing_seconds']:.1f} writing), page "
        f"{figures['page_megabytes']:.1f} MB, json {figures['json_megabytes']:.1f} MB, csv "
        f"{figures['csv_megabytes']:.1f} MB "
        f"(bounds: {MAX_SECONDS:g} s, page {MAX_MEGABYTES:g} MB: {'kept' if within else 'MISSED'})"
    )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if args.check and not within:
        raise SystemExit("a bound is missed")


def measure(folder: Path, num_questions: int, seed: int) -> dict[str, Any]:
    """Make two runs in a folder and report them; seconds and megabytes."""
    questions = make_questions(num_questions, seed=seed)
    for name, policy, own in (("outcome", FIRST, 1), ("turn", SECOND, 2)):
        write_evaluation(folder / name, questions, policy, seed=seed + own)
    start = time.perf_counter()
    suites = read_suites([folder / "outcome", folder / "turn"])
    read = time.perf_counter()
    comparison = compare_runs(suites)
    tested = time.perf_counter()
    page = write_comparison(folder / "report", comparison)
    written = time.perf_counter()
    return {
        "questions": num_questions,
        "seconds": written - start,
        "reading_seconds": read - start,
        "testing_seconds": tested - read,
        "writing_seconds": written - tested,
        "page_megabytes": page.stat().st_size / 1e6,
        "json_megabytes": page.with_suffix(".json").stat().st_size / 1e6,
        "csv_megabytes": page.with_suffix(".csv").stat().st_size / 1e6,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "hardware": hardware(),
        "commit": checkout_commit(),
    }


if __name__ == "__main__":
    main()
