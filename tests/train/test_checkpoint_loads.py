"""What a run leaves is an ordinary model: transformers and vLLM load it and sample as the learner scores."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.engine import Completion, Engine, SamplingParams
from agent.engines.transformers import load_engine
from agent.trajectory import Trajectory
from evaluation.trajectory_store import read_trajectories
from tests.agent.engines.served_models import greedy
from tests.train.conftest import SMALL_WORLD, run_settings
from tests.train.fakes import trajectory, turn
from tests.train.test_learner import rows_of
from train.checkpoint import list_checkpoints
from train.config import TrainConfig, check_config
from train.learner import Learner
from train.learner_state import TENSORS_FILE
from train.run import train
from train.testbed import TestbedConfig, prepare_testbed

pytestmark = pytest.mark.slow

HEADS_32_WIDE = {"hidden_size": 64, "num_layers": 2, "num_heads": 2}
"""vLLM has no kernel for narrower ones on a CPU."""
NEW_TOKENS = 24


class Finished:
    """A run of three steps, and the learner as it was at its end."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self.checkpoint = list_checkpoints(folder)[-1]
        self.learner = Learner.create(
            folder / "cold_start", None, config.learner, folder / ".again", total_steps=config.steps
        )
        self.learner.load_state(self.checkpoint / "learner")
        stored = next(iter(read_trajectories(folder / "trajectories")))
        self.prompts = [list(stored.trajectory.prompt_ids), stored.trajectory.token_ids[:150].tolist()]

    def logprobs(self, prompt: list[int], ids: list[int]) -> list[float]:
        """The learner's, by the pass that trains."""
        one: Trajectory = trajectory("t", [turn(ids)], prompt=prompt)
        rows, known = rows_of([one])
        [scored] = self.learner.score(rows, known)
        return [float(x) for x in scored]


@pytest.fixture(scope="module", params=[{}, {"peft": {"rank": 4}}], ids=["all weights", "adapters"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("loads")
    testbed = prepare_testbed(TestbedConfig(world=SMALL_WORLD, policy=HEADS_32_WIDE), folder / "testbed")
    rewards = {"even_tokens": {"use": "tests.train.fakes:EvenTokens"}, "exact_match": {"weight": 1.0}}
    learner = {"learning_rate": 1e-2, "device": "cpu", **request.param}
    config = check_config(
        run_settings(testbed, steps=3, checkpoint_every=2, rewards=rewards, learner=learner, evaluate_every=0)
    )
    train(config, folder / "run")
    yield Finished(folder / "run", config)


def agrees(finished: Finished, engine: Engine) -> None:
    """Greedy ids are those of plain forwards of the learner's model, and every logprob is the learner's."""

    async def sample() -> list[Completion]:
        params = SamplingParams(max_new_tokens=NEW_TOKENS, temperature=0.0)
        try:
            return [await engine.generate(prompt, params, key=str(i)) for i, prompt in enumerate(finished.prompts)]
        finally:
            await engine.close()

    plain = AutoModelForCausalLM.from_pretrained(finished.folder / "cold_start", dtype=torch.float32).eval()
    plain.load_state_dict(dict(finished.learner.named_weights()), strict=False)
    for prompt, completion in zip(finished.prompts, asyncio.run(sample()), strict=True):
        ids = list(completion.token_ids)
        assert ids == greedy(plain, prompt, NEW_TOKENS)[: len(ids)]
        assert len(ids) == NEW_TOKENS or completion.finish == "eos"
        assert completion.logprobs == pytest.approx(finished.logprobs(prompt, ids), abs=2e-4)


@pytest.mark.parametrize("which", ["model", "checkpoint"])
def test_transformers_loads_it(finished: Finished, which: str) -> None:
    folder = finished.folder / "model" if which == "model" else finished.checkpoint / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, tensor in finished.learner.named_weights():
        assert torch.equal(model.get_parameter(name), tensor), name
    assert AutoTokenizer.from_pretrained(folder).vocab_size > 0
    agrees(finished, load_engine(folder, device="cpu"))


@pytest.mark.vllm
@pytest.mark.parametrize("which", ["model", "checkpoint"])
def test_vllm_loads_it(finished: Finished, which: str) -> None:
    from agent.engines.vllm import VLLMEngine
    from agent.engines.vllm_settings import VLLMSettings

    folder = finished.folder / "model" if which == "model" else finished.checkpoint / "model"
    agrees(finished, VLLMEngine(folder, VLLMSettings(driver="thread", kv_cache_gb=0.1, max_num_seqs=4, block_size=32)))


def test_a_checkpoints_weights_lie_on_disk_once(finished: Finished) -> None:
    """Beside them two moments of the optimiser, and nothing of that size more."""
    weights = (finished.checkpoint / "model" / "model.safetensors").stat().st_size
    state = (finished.checkpoint / "learner" / TENSORS_FILE).stat().st_size
    trained = sum(p.numel() * 4 for p in finished.learner.model.parameters() if p.requires_grad)
    adapters = trained if finished.learner.settings.peft else 0
    assert state < 2 * trained + adapters + 0.2 * weights
