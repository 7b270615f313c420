"""The terminal says under what an evaluation was made."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from envs.search_env import EpisodeLimits
from evaluation.console import print_result
from evaluation.job import EvaluationJob, run_job
from tests.evaluation.conftest import SmallWorld


def test_noise_stands_on_the_console_and_is_refused_where_it_does_nothing(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    job = EvaluationJob(
        policy="scripted:expert",
        index=small_world.index,
        questions=small_world.questions_file,
        out=tmp_path / "clean",
        limits=EpisodeLimits(top_k=2, max_new_tokens_per_turn=60, max_trajectory_tokens=700),
    )
    said = []
    for noise, out in ((0.0, "clean"), (0.5, "noisy")):
        text = io.StringIO()
        print_result(run_job(replace(job, noise=noise, out=tmp_path / out)), Console(file=text, width=200))
        said.append(text.getvalue())
    assert "noise:" not in said[0]
    assert "noise: 0.5 of the searches find nothing which helps; the controls have none" in said[1]
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"id": "b", "question": "Who?", "golden_answers": []}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"none of the 1 questions has supporting_ids|gold"):
        run_job(replace(job, noise=0.5, questions=bare, out=tmp_path / "bare"))
