"""Episodes on the real engine: what is sampled follows from the specs, whatever the searches take."""

import asyncio
import random
from collections import deque

import pytest

from agent.action import Action, ToolRequest
from agent.engines.transformers import TransformersEngine, load_engine
from agent.hugging_face import load_tokenizer
from agent.protocol import AgentProtocol
from agent.protocols.registry import load_protocol
from agent.tiny import build_tiny_policy
from agent.trajectory import Trajectory
from envs.actor import EngineActor
from envs.episode import EpisodeSpec
from envs.episode_pool import run_episodes
from envs.search_env import EpisodeLimits
from tests.envs.small_world import BRIDGE, COMPARISON, PASSAGES, OverlapRetriever

WAYMARK = load_protocol("waymark")
LIMITS = EpisodeLimits(
    max_turns=4, top_k=2, max_new_tokens_per_turn=8, max_trajectory_tokens=400, max_observation_tokens=60
)


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory):
    texts = [p.contents for p in PASSAGES] + [BRIDGE.text, COMPARISON.text]
    folder = tmp_path_factory.mktemp("policy")
    return build_tiny_policy(
        folder, texts, protocol=WAYMARK, hidden_size=32, num_layers=2, num_heads=2, initializer_range=0.5
    )


def babble(protocol: AgentProtocol, text: str, *, ended: bool) -> Action:
    """An untrained policy's noise, read as a search by its length, so that episodes search at different turns."""
    if len(text) % 3 == 0:
        return Action(kind="answer", answer=text)
    if len(text) % 3 == 1:
        return Action(kind="invalid", error="noise")
    return Action(kind="call", requests=(ToolRequest(tool="search", argument=PASSAGES[len(text) % 9].title),))


async def play(engine: TransformersEngine, tokenizer, seed: int, max_concurrent: int) -> list[Trajectory]:
    pauses = random.Random(seed)
    retriever = OverlapRetriever()

    async def search(query, k):
        await asyncio.sleep(pauses.random() * 0.004)
        return retriever.search([query], k)[0]

    specs = [
        EpisodeSpec(id=f"e{i}", question=(BRIDGE, COMPARISON)[i % 2], unit_id="u", group_id="g", seed=i)
        for i in range(10)
    ]
    return await run_episodes(
        specs,
        actor=EngineActor(engine),
        search=search,
        protocol=WAYMARK,
        tokenizer=tokenizer,
        limits=LIMITS,
        max_concurrent=max_concurrent,
    )


@pytest.mark.parametrize("max_concurrent", [4, 10])
async def test_the_deterministic_schedule_does_not_see_how_long_a_search_takes(
    policy_folder, monkeypatch, max_concurrent
):
    monkeypatch.setattr("envs.search_env.parse_action", babble)
    engine = load_engine(policy_folder, schedule="deterministic")
    try:
        runs = [await play(engine, load_tokenizer(policy_folder), seed, max_concurrent) for seed in (1, 2)]
    finally:
        await engine.close()
    first, second = ([(t.token_ids.tolist(), t.logprobs.tolist(), t.finish_reason) for t in run] for run in runs)
    assert first == second, "token ids and logprobs must be equal to the last bit"
    assert sum(t.num_searches for t in runs[0]) >= 5 and len({t.num_turns for t in runs[0]}) > 1


async def test_the_engines_logprobs_are_those_of_the_trajectorys_tokens(policy_folder, monkeypatch):
    monkeypatch.setattr("envs.search_env.parse_action", babble)
    engine = load_engine(policy_folder, schedule="eager")
    try:
        for t in await play(engine, load_tokenizer(policy_folder), 3, 10):
            scored = engine.score(t.token_ids.tolist())
            mask = t.loss_mask
            assert len(scored) == len(mask) and mask.sum() > 0
            assert t.logprobs[mask == 1] == pytest.approx([s for s, m in zip(scored, mask, strict=True) if m], abs=1e-4)
    finally:
        await engine.close()


async def test_a_slow_search_holds_back_nobody_else_under_the_eager_schedule(policy_folder, monkeypatch):
    """With the real engine: every episode searches first, and the others end while one search hangs."""

    def search_once(protocol: AgentProtocol, text: str, *, ended: bool) -> Action:
        turn = turns.popleft()
        if turn < 3:
            return Action(kind="call", requests=(ToolRequest(tool="search", argument=PASSAGES[turn].title),))
        return Action(kind="answer", answer="x")

    turns = deque(range(6))
    monkeypatch.setattr("envs.search_env.parse_action", search_once)
    release, ended = asyncio.Event(), []

    async def search(query, k):
        if query == PASSAGES[0].title:
            await release.wait()
        return OverlapRetriever().search([query], k)[0]

    def on_finish(trajectory):
        ended.append(trajectory.num_searches)
        if len(ended) == 2:
            release.set()

    engine = load_engine(policy_folder, schedule="eager")
    specs = [EpisodeSpec(id=f"e{i}", question=BRIDGE, unit_id="u", group_id="g", seed=i) for i in range(3)]
    try:
        async with asyncio.timeout(30):
            await run_episodes(
                specs,
                actor=EngineActor(engine),
                search=search,
                protocol=WAYMARK,
                tokenizer=load_tokenizer(policy_folder),
                limits=LIMITS,
                on_finish=on_finish,
            )
    finally:
        await engine.close()
    assert ended == [1, 1, 1]
