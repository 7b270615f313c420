"""One step of training on real text: HotpotQA's questions and passages through rewards, credit and learner."""

from itertools import islice
from pathlib import Path

import pytest

from agent.protocols.registry import load_protocol
from envs.datasets import read_questions
from evaluation.trajectory_store import read_trajectories
from retrieval.corpus import read_corpus
from retrieval.index import build_index
from tests.evaluation.random_policy import build_random_qwen2
from train.config import check_config
from train.run import train
from train.tracking import METRICS_FILE, read_metrics

pytestmark = [pytest.mark.data, pytest.mark.slow]


def test_a_step_of_grpo_on_hotpotqa(data_dir: Path, tmp_path: Path) -> None:
    corpus = data_dir / "hotpotqa" / "corpus.jsonl.gz"
    protocol = load_protocol("search_r1")
    texts = (passage.contents for passage in islice(read_corpus(corpus), 3000))
    build_random_qwen2(tmp_path / "policy", texts, tags=(*protocol.search, *protocol.answer))
    build_index(corpus, tmp_path / "index")
    settings = {
        "steps": 1,
        "policy": {"model": str(tmp_path / "policy")},
        "data": {
            "index": str(tmp_path / "index"),
            "train_questions": str(data_dir / "hotpotqa" / "questions.jsonl.gz"),
        },
        "protocol": {"name": "search_r1"},
        "limits": {
            "top_k": 3,
            "max_turns": 4,
            "max_new_tokens_per_turn": 200,
            "max_observation_tokens": 500,
            "max_trajectory_tokens": 1400,
        },
        "rollout": {"questions_per_step": 4, "samples_per_question": 8},
        "rewards": {
            "exact_match": {"weight": 1.0},
            "hop_relevance": {"weight": 1.0},
            "information_gain": {"weight": 1.0},
            "never_answering": {"weight": 1.0},
        },
        "credit": {"estimator": "turn_normalised"},
        "learner": {"learning_rate": 1e-3, "max_tokens_per_micro_batch": 4096},
        "evaluate_every": 0,
    }
    result = train(check_config(settings), tmp_path / "run")
    (step,) = read_metrics(tmp_path / "run" / METRICS_FILE)
    assert result.trajectories == step["trajectories"] == 32
    assert step["finish_ratio/token_limit"] > 0 and step["finish_ratio/answered"] > 0
    assert step["grad_norm"] > 0, "answering at all is rewarded, so real trajectories of real length move weights"
    assert step["sampler_ratio_max"] == pytest.approx(1.0, abs=1e-3), (
        "the learner reads the very tokens that were sampled"
    )
    assert step["rewards/information_gain/group_std"] > 0, "real passages come nearer to the gold ones, or do not"
    stored = list(read_trajectories(tmp_path / "run" / "trajectories"))
    assert len(stored) == 32
    assert {s.trajectory.question_id for s in stored} <= {
        q.id for q in read_questions(settings["data"]["train_questions"])
    }
