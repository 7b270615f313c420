"""The section of docs/rewards.md for trajectories of one's own: both examples run, and the traps are as it says."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.datasets.jsonl import question_row
from evaluation.trajectory_store import TrajectoryWriter
from retrieval.index import build_index
from rewards.annotation import MissingAnnotation
from rewards.compose import RewardTerm, build_rewards
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "rewards.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## From Python, on trajectories of your own\n")[1].split("\n## ")[0]
BY_HAND, AGAIN = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


def run_by_hand() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(BY_HAND, names)
    return names


def test_the_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    run_by_hand()
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", BY_HAND)


def test_the_traps_are_as_the_page_says() -> None:
    names = run_by_hand()
    unit, question = names["unit"], names["question"]
    lone = names["composition"].rewards["cited"](unit, names["questions"])
    assert lone.outcome.tolist() == [1.0]
    terms = {name: RewardTerm() for name in ("consistency", "citation_recall")}
    composition = build_rewards(terms, names["context"])
    unlabelled = replace(question, supporting_ids=())
    scores = composition.score(unit, {"q1": unlabelled})
    assert all(np.isnan(scores[name].outcome).all() for name in terms)
    with pytest.raises(MissingAnnotation, match="supporting_ids"):
        composition.check([unlabelled])


def test_stored_trajectories_are_scored_again(tmp_path: Path) -> None:
    names = run_by_hand()
    with TrajectoryWriter(tmp_path / "run" / "trajectories") as writer:
        writer.append(3, names["unit"].trajectories)
    questions, corpus = tmp_path / "questions.jsonl", tmp_path / "corpus.jsonl"
    questions.write_text(json.dumps(question_row(names["question"])) + "\n", encoding="utf-8")
    rows = [{"id": p.id, "title": p.title, "text": p.text} for p in names["passages"].values()]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build_index(corpus, tmp_path / "index")
    exec(AGAIN, names)
    terms = names["composition"].terms
    scored = names["score_again"](tmp_path / "run", questions, tmp_path / "index", terms)
    assert set(scored) == {(3, "q1")}
    assert scored[3, "q1"]["hop_relevance"].turn[0].tolist() == [0.5, 0.5, 0.0]
