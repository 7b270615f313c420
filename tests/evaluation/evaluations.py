"""Small evaluation files as `waymark evaluate` writes them, for the tests of comparisons."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.trajectory import Trajectory
from evaluation.evaluation_file import FORMAT
from evaluation.trajectory_store import TrajectoryWriter
from tests.evaluation.episodes import answer_turn, search_turn, trajectory

BLOCK: dict[str, Any] = {
    "model": {"name": "a", "weights_sha256": "0" * 64},
    "index": {"backend": "bm25s", "index_hash": "1" * 64, "corpus_hash": "2" * 64, "settings": {"k1": 1.5}},
    "encoder": [],
    "top_k": 3,
    "protocol": {"name": "waymark", "sha256": "3" * 64},
    "passage_format": {"passage": "{text}"},
    "chat_template": {"sha256": None},
    "limits": {"top_k": 3, "max_turns": 4},
    "decoding": {"temperature": 0.0, "samples": 1},
    "seeds": {"sampling": 0},
    "questions": {"name": "questions.test.jsonl", "sha256": "4" * 64},
    "metric_version": 1,
    "deviations": [],
    "packages": {"numpy": "2.3"},
    "python": "3.11",
    "hardware": {"cpu": "x", "gpus": []},
    "commit": "abc",
}


def block(**changes: Any) -> dict[str, Any]:
    """The block with some fields changed; None takes a field out."""
    changed = {**BLOCK, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def record(
    em: Sequence[float],
    *,
    ids: Sequence[str] | None = None,
    comparability: Mapping[str, Any] = BLOCK,
    texts: bool = True,
    **columns: Sequence[Any],
) -> dict[str, Any]:
    """An evaluation of so many questions; further columns of `per_question` by name."""
    names = list(ids) if ids is not None else [f"q{i}" for i in range(len(em))]
    per_question: dict[str, Any] = {"question_id": names, "em": list(em), "f1": list(em), **columns}
    if texts:
        per_question |= {
            "question": [f"What is {name}?" for name in names],
            "golden_answers": [["gold"] for _ in names],
            "kind": ["bridge" if i % 3 else "comparison" for i in range(len(names))],
            "num_hops": [2 + i % 2 for i in range(len(names))],
            "supporting_ids": [["p1"] for _ in names],
            "answers": [["gold" if value else "wrong"] for value in em],
            "finish_reasons": [["answered"] for _ in names],
        }
    mean = float(np.mean(em))
    return {
        "format": FORMAT,
        "n": len(names),
        "em": mean,
        "em_low": mean - 0.1,
        "em_high": mean + 0.1,
        "num_outages": 0,
        "finish_reasons": {"answered": len(names)},
        "controls": {"closed_book": {"em": 0.1, "em_low": 0.05, "em_high": 0.15}},
        "comparability": dict(comparability),
        "per_question": per_question,
    }


def write(folder: Path, written: Mapping[str, Any], *, trajectories: bool = False) -> Path:
    """Write a folder with `evaluation.json`, and a trajectory for each question where asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(written))
    if trajectories:
        columns = written["per_question"]
        with TrajectoryWriter(folder / "trajectories") as writer:
            writer.append(
                0, [_episode(q, a[0]) for q, a in zip(columns["question_id"], columns["answers"], strict=True)]
            )
    return folder


def _episode(question_id: str, answer: str) -> Trajectory:
    return trajectory(
        search_turn(f"about {question_id}", [(1, "p1")]),
        answer_turn(answer, [1]),
        id=f"eval-{question_id}-0",
        question_id=question_id,
    )
