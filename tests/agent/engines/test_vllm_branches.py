"""Candidates that leave one prefix find it in vLLM's cache: it is computed once, beyond the blocks that are whole."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from agent.action import Action, ToolRequest
from agent.engines.vllm import VLLMEngine
from agent.engines.vllm_settings import VLLMSettings
from agent.protocols.registry import load_protocol
from agent.trajectory import Unit
from envs.actor import EngineActor
from envs.branching import BranchSampler
from envs.episode_pool import EpisodePool
from envs.search_env import EpisodeLimits
from envs.units import UnitTask, play_round
from retrieval.passage import Hit, Passage
from tests.agent.engines.served_models import SIZES, save
from tests.agent.engines.small_engine import TOKENIZER
from tests.envs.small_world import BRIDGE

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

BLOCK = 32
PROMPT = (
    "Search and answer the question. " + "Think of the answer and search the lake of the town. " * 12 + "{question}"
)
PASSAGE = Passage(id="velmora", title="Velmora", text="Velmora is a town that was founded by Tarnek Osmi in 1204.")
LIMITS = EpisodeLimits(
    max_turns=3, top_k=1, max_new_tokens_per_turn=12, max_observation_tokens=120, max_trajectory_tokens=1000
)


class LastBest:
    """The last candidate of each step wins."""

    async def advantages(self, unit: Unit) -> np.ndarray:
        return np.array([float(t.sample) for t in unit.trajectories])

    async def turn_scores(self, unit: Unit, component: str) -> list[np.ndarray]:
        raise AssertionError("winners are drawn by advantages alone")


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, "max_position_embeddings": 1024}, tie_word_embeddings=False))


async def search(query: str, k: int) -> list[Hit]:
    return [Hit(passage=PASSAGE, score=1.0, rank=1)]


def always_searches(protocol: Any, text: str, *, ended: bool) -> Action:
    return Action(kind="call", requests=(ToolRequest(tool="search", argument="Velmora"),))


def test_candidates_of_a_turn_find_their_prefix_of_more_than_300_tokens_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.search_env.parse_action", always_searches)
    engine = VLLMEngine(
        save(llama, tmp_path), VLLMSettings(kv_cache_gb=0.1, max_num_seqs=4, block_size=BLOCK, max_batched_tokens=512)
    )
    prompts: dict[str, int] = {}
    cached: dict[str, int] = {}

    def watch(vllm: Any) -> None:
        step = vllm.step

        def watched() -> Any:
            outputs = step()
            for output in outputs:
                if output.finished:
                    prompts[output.request_id] = len(output.prompt_token_ids)
                    cached[output.request_id] = int(output.num_cached_tokens)
            return outputs

        vllm.step = watched

    engine._thread.call(watch, alone=True)
    sampler = BranchSampler(candidates=4, eta=1e-3, retrieve="all", scorer=LastBest())

    async def sample() -> Unit:
        pool = EpisodePool(
            actor=EngineActor(engine),
            search=search,
            protocol=load_protocol("waymark", prompt=PROMPT),
            tokenizer=TOKENIZER,
            limits=LIMITS,
        )
        task = UnitTask(id="u0", question=BRIDGE, key=(1,))
        try:
            return await sampler.complete(task, await play_round(pool, sampler.opening(task)), pool)
        finally:
            await pool.close()
            await engine.close()

    unit = asyncio.run(sample())
    assert [t.fork_turn for t in unit.trajectories] == [0] * 4 + [1] * 4 + [2] * 4
    for step in (1, 2):
        winner = unit.trajectories[4 * step - 1]
        computed = prompts_of(prompts, step - 1)[0] + len(winner.turns[-1].action_ids) - 1
        lengths, hits = prompts_of(prompts, step), prompts_of(cached, step)
        assert computed > 300 and set(lengths) == {computed + 1 + len(winner.turns[-1].observation_ids)}
        assert len(hits) == 4 and min(hits) >= computed // BLOCK * BLOCK, "all that the winner's own request computed"


def prompts_of(figures: dict[str, int], step: int) -> list[int]:
    """The figures of the requests of a step's candidates."""
    return [figure for name, figure in sorted(figures.items()) if f"turn{step:02d}-candidate" in name]
