"""How fast the viewer's pages are over many trajectories.

    python -m benchmarks.viewer                     # 100,000 trajectories: the table in docs/viewer.md
    python -m benchmarks.viewer --smoke             # seconds: that it runs, not what it measures

Episodes of the scripted expert with faults in the fictional world are played once and stored again and again under
further ids, questions and steps, with the scores that training stores. Then every kind of page is asked for, in process
(the whole way from the address to the HTML, without a socket): the middle and the slowest of the repeats, and the time
of the processor, which says the same on a machine that does other work too.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from fastapi.testclient import TestClient

from agent.trajectory import Trajectory
from benchmarks.demonstrations import PROTOCOL, make_tokenizer
from envs.datasets import read_questions
from envs.policies.demonstrations import make_demonstrations
from envs.policies.expert import ExpertPolicy
from envs.policies.noisy import NoiseRates, NoisyPolicy
from envs.search_env import EpisodeLimits
from envs.world import WorldSettings, make_world
from evaluation.trajectory_store import TrajectoryWriter
from evaluation.viewer.app import create_app
from evaluation.viewer.catalogue import Catalogue
from retrieval.index import build_index, open_index

GROUP, PER_STEP = 8, 800
RATES = {"wrong_query": 0.3, "repeated_query": 0.2, "endless_search": 0.1, "wrong_answer": 0.3, "wrong_citation": 0.2}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Make the store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    count, repeats = (1_000, 3) if options.smoke else (options.trajectories, options.repeats)
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(Path(scratch), count, num_questions=40 if options.smoke else 400)
        figures = measured(run, Path(scratch) / "cache", repeats)
    for name, value in figures.items():
        told = (
            value if isinstance(value, int | float) else "{:7.1f} ms, at most {:7.1f}; processor {:6.1f}".format(*value)
        )
        print(f"{name:<44}", told)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def make_run(folder: Path, count: int, *, num_questions: int) -> Path:
    """A run folder with `count` trajectories, its questions and its tokenizer."""
    world, run = folder / "world", folder / "run"
    sizes = {"train_questions": num_questions, "dev_questions": 0, "test_questions": 0}
    make_world(WorldSettings.preset("tiny", hops=(2, 3), **sizes), world)
    build_index(world / "corpus.jsonl", folder / "index")
    questions = read_questions(world / "questions.train.jsonl")
    tokenizer = make_tokenizer(world, questions)
    with open_index(folder / "index") as index:
        played = make_demonstrations(
            questions,
            NoisyPolicy(ExpertPolicy(PROTOCOL), NoiseRates(**RATES)),
            index,
            protocol=PROTOCOL,
            tokenizer=tokenizer,
            limits=EpisodeLimits(max_turns=6, top_k=5, max_trajectory_tokens=4096, max_new_tokens_per_turn=200),
            count=4 * len(questions),
        )
    run.mkdir()
    tokenizer.save_pretrained(run / "model")
    config = {"data": {"train_questions": str(world / "questions.train.jsonl")}}
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with TrajectoryWriter(run / "trajectories") as writer:
        for step, batch in steps(played, count):
            writer.append(step, batch, [extra_of(trajectory, i) for i, trajectory in enumerate(batch)])
    return run


def steps(played: Sequence[Trajectory], count: int) -> Iterator[tuple[int, list[Trajectory]]]:
    """`count` trajectories in groups and steps, under ids of their own."""
    for first in range(0, count, PER_STEP):
        step = first // PER_STEP + 1
        batch = []
        for i in range(first, min(first + PER_STEP, count)):
            unit = f"step{step:06d}-unit{i % PER_STEP // GROUP:03d}"
            own = {"id": f"{unit}-sample{i % GROUP:02d}", "unit_id": unit, "group_id": unit, "sample": i % GROUP}
            batch.append(replace(played[i % len(played)], **own))  # type: ignore[arg-type]
        yield step, batch


def extra_of(trajectory: Trajectory, i: int) -> dict[str, Any]:
    """Scores in the form in which training stores them."""
    values = [round(0.5 - 0.1 * ((i + turn) % 11), 2) for turn in range(trajectory.num_turns)]
    return {
        "reward": round(sum(values), 2),
        "rewards": {"hop_relevance": {"turn": values, "outcome": None}},
        "advantages": values,
    }


def measured(run: Path, cache: Path, repeats: int) -> dict[str, Any]:
    """Seconds of the processor to fill the index, and the times of each page."""
    catalogue = Catalogue([run], (), cache)
    (one,) = list(catalogue.runs)
    figures: dict[str, Any] = {}
    with TestClient(create_app(catalogue, fill=False), base_url="http://127.0.0.1") as client:
        base = f"/run/{one.key}"

        def ask(address: str) -> str:
            page = client.get(address)
            assert page.status_code == 200, page.text
            return page.text

        started = time.process_time()
        while catalogue.index(one).catch_up():
            pass
        figures["seconds until all are listed"] = round(time.process_time() - started, 2)
        ask(f"{base}/trajectories")  # reads the questions, once
        figures["list, while records are being read"] = times(lambda: ask(f"{base}/trajectories"), repeats)
        started = time.process_time()
        catalogue.fill()
        figures["seconds until all can be searched"] = round(time.process_time() - started, 2)
        figures["trajectories"] = count = catalogue_count(catalogue, one)
        figures["megabytes of index"] = round(sum(file.stat().st_size for file in cache.iterdir()) / 1e6, 1)
        with catalogue.index(one).reading() as database:
            rows = database.execute("SELECT * FROM trajectory ORDER BY n").fetchall()
        middle = rows[count // 2]
        at = f"at={middle['segment']}-{middle['offset']}"
        pages = {
            "list, newest": "trajectories",
            "list, a page in the middle": f"trajectories?after={count // 2}",
            "list, highest reward": "trajectories?order=highest+reward",
            "list, one question": f"trajectories?question={middle['question_id']}",
            "list, steps and rewards": "trajectories?step_from=2&reward_from=0.1&reward_to=0.6",
            "list, wrong answers": "trajectories?outcome=wrong",
            "list, words in texts": "trajectories?text=" + "+".join((middle["answer"] or "born").split()),
            "list, a frequent word": "trajectories?text=the",
            "one trajectory": f"trajectory?{at}",
            "one trajectory, tokens by logprob": f"trajectory?{at}&tokens=logprob",
            "a group of 8": f"group?id={middle['unit_id']}",
        }
        for name, page in pages.items():
            figures[name] = times(lambda page=page: ask(f"{base}/{page}"), repeats)  # type: ignore[misc]
        figures["the list of runs"] = times(lambda: ask("/"), repeats)
        figures["all questions against another run"] = times(lambda: ask(f"/compare?a={one.key}&b={one.key}"), repeats)
    return figures


def catalogue_count(catalogue: Catalogue, one: Any) -> int:
    """Trajectories in the index."""
    with catalogue.index(one).reading() as database:
        return int(database.execute("SELECT count(*) FROM trajectory").fetchone()[0])


def times(act: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Middle and longest of some repeats, and the middle of the processor's time, in milliseconds."""
    taken, worked = [], []
    for _ in range(repeats):
        started, begun = time.perf_counter(), time.process_time()
        act()
        taken.append((time.perf_counter() - started) * 1000)
        worked.append((time.process_time() - begun) * 1000)
    return round(statistics.median(taken), 1), round(max(taken), 1), round(statistics.median(worked), 1)


if __name__ == "__main__":
    main()
