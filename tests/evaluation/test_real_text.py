"""Real text of real length through every room: small invented worlds never reach the token limits."""

from itertools import islice
from pathlib import Path

import pytest

from agent.protocols.registry import load_protocol
from envs.datasets import read_questions
from envs.search_env import EpisodeLimits
from evaluation.job import EvaluationJob, run_job
from evaluation.retrieval_quality import evaluate_index
from evaluation.trajectory_store import read_trajectories
from retrieval.corpus import read_corpus
from retrieval.index import build_index, open_index
from tests.evaluation.random_policy import build_random_qwen2

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def hotpotqa_index(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hotpotqa") / "index"
    build_index(data_dir / "hotpotqa" / "corpus.jsonl.gz", out)
    return out


@pytest.fixture(scope="module")
def random_qwen2(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    passages = islice(read_corpus(data_dir / "hotpotqa" / "corpus.jsonl.gz"), 3000)
    protocol = load_protocol("search_r1")
    tags = (*protocol.search, *protocol.answer)
    return build_random_qwen2(
        tmp_path_factory.mktemp("qwen2") / "model", (passage.contents for passage in passages), tags=tags
    )


def test_a_random_qwen2_goes_through_hotpotqa_with_its_limits_reached(
    hotpotqa_index: Path, random_qwen2: Path, data_dir: Path, tmp_path: Path
) -> None:
    job = EvaluationJob(
        policy=str(random_qwen2),
        index=hotpotqa_index,
        questions=data_dir / "hotpotqa" / "questions.jsonl.gz",
        out=tmp_path / "out",
        protocol="search_r1",
        limits=EpisodeLimits(
            top_k=3, max_turns=4, max_new_tokens_per_turn=200, max_trajectory_tokens=1400, max_observation_tokens=500
        ),
        limit=48,
        temperature=1.0,
        max_batch=48,
    )
    result = run_job(job)
    summary = result.evaluation.summary
    assert summary["n"] == 48
    assert summary["em"] <= 0.05
    assert summary["finish_reasons"]["token_limit"] > 0
    assert summary["num_outages"] == 0
    assert sum(summary["finish_reasons"].values()) == 48
    stored = [s.trajectory for s in read_trajectories(tmp_path / "out" / "trajectories")]
    assert max(len(t.token_ids) for t in stored) <= 1400
    assert max(len(turn.action_ids) for t in stored for turn in t.turns) == 200
    shown = [turn.shown for t in stored for turn in t.turns if turn.shown]
    assert shown, "chance opens and closes a search now and then, and real passages come back"
    assert any(s.truncated for passages in shown for s in passages), "real passages are longer than the budget"
    assert max(len(turn.observation_ids) for t in stored for turn in t.turns) <= 500
    assert result.comparability["protocol"]["name"] == "search_r1"
    assert "an empty query is an invalid action" in result.comparability["deviations"]


def test_an_episode_sees_what_the_index_finds(
    hotpotqa_index: Path, random_qwen2: Path, data_dir: Path, tmp_path: Path
) -> None:
    """A policy that asks the question itself must see exactly the supports that one search finds: nothing is lost on
    the way through batcher, environment, rendering and metrics."""
    questions = data_dir / "hotpotqa" / "questions.jsonl.gz"
    job = EvaluationJob(
        policy="scripted:question_copier",
        index=hotpotqa_index,
        questions=questions,
        out=tmp_path / "out",
        protocol="search_r1",
        limits=EpisodeLimits(top_k=5, max_observation_tokens=20_000, max_trajectory_tokens=60_000),
    )
    summary = run_job(job).evaluation.summary
    with open_index(hotpotqa_index) as index:
        found = evaluate_index(index, read_questions(questions), ks=(5,)).summary
    assert summary["n"] == found["n"] == 1316
    assert summary["support_recall"] == pytest.approx(found["recall_mean@5"], abs=1e-12)
    assert summary["support_recall"] == pytest.approx(0.745, abs=0.005)
