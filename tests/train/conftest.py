"""A testbed small enough to train on in a test (some hundred passages, a policy of a few ten thousand parameters), and
learners of a policy that is smaller still."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.fakes import save_policy
from train.assembly import assemble
from train.config import check_config
from train.learner import Learner
from train.learner_config import LearnerConfig
from train.policy_start import make_cold_start
from train.testbed import Testbed, TestbedConfig, prepare_testbed

SMALL_WORLD = {"preset": "tiny", "hops": [2], "seed": 3}
SMALL_POLICY = {"hidden_size": 32, "num_layers": 2, "num_heads": 2}


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Testbed:
    config = TestbedConfig(world=SMALL_WORLD, policy=SMALL_POLICY)
    return prepare_testbed(config, tmp_path_factory.mktemp("testbed"))


def run_settings(testbed: Testbed, **changes: Any) -> dict[str, Any]:
    """A complete training config as a mapping: four steps of 3 questions x 4 samples after a short cold start."""
    settings: dict[str, Any] = {
        "seed": 1,
        "steps": 4,
        "policy": {"model": str(testbed.policy)},
        "data": {
            "index": str(testbed.index),
            "train_questions": str(testbed.questions("train")),
            "dev_questions": str(testbed.questions("dev")),
            "dev_limit": 8,
        },
        "limits": {
            "max_turns": 3,
            "top_k": 2,
            "max_new_tokens_per_turn": 24,
            "max_observation_tokens": 160,
            "max_trajectory_tokens": 600,
        },
        "rollout": {"questions_per_step": 3, "samples_per_question": 4},
        "rewards": {"exact_match": {"weight": 1.0}, "hop_relevance": {"weight": 0.5}},
        "credit": {"estimator": "turn"},
        "learner": {"learning_rate": 1e-3},
        "cold_start": {"phases": [{"demonstrations": 64, "steps": 8, "batch_size": 8}]},
        "evaluate_every": 2,
        "checkpoint_every": 1,
    }
    settings.update(changes)
    return settings


@pytest.fixture(scope="session")
def searching(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of the testbed that has learned to search, more often than not: what is trained from it asks retrievers.
    It has imitated first actions alone.
    """
    phase = {"max_turns": 1, "demonstrations": 256, "steps": 80, "batch_size": 16, "learning_rate": 5e-3}
    folder = tmp_path_factory.mktemp("searching") / "policy"
    config = check_config(run_settings(testbed, cold_start={"phases": [phase]}))
    with assemble(config) as parts:
        return make_cold_start(config, parts, folder, lambda line: None)


@pytest.fixture
def config_file(testbed: Testbed, tmp_path: Path) -> Path:
    """The same as a YAML file."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(run_settings(testbed)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Llama of `save_policy`."""
    folder = tmp_path_factory.mktemp("policy")
    save_policy(folder)
    return folder


@pytest.fixture
def make_learner(policy: Path, tmp_path: Path) -> Iterator[Callable[..., Learner]]:
    """Makes learners of `policy` on the CPU, in small micro-batches, with the settings that a test asks for."""

    def create(**settings: Any) -> Learner:
        settings = {"device": "cpu", "max_tokens_per_micro_batch": 48, **settings}
        return Learner.create(policy, None, LearnerConfig(**settings), tmp_path / "out")

    yield create
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
