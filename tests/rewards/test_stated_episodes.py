"""Judgement and reflection on episodes that were played: the labels are what the expert, who sees the hops, states."""

import numpy as np
import pytest

from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory
from envs.actor import ScriptedActor
from envs.episode import EpisodeSpec
from envs.episode_pool import run_episodes
from envs.policies.registry import noisy
from envs.question import Question
from envs.search_env import EpisodeLimits
from retrieval.passage import Hit
from rewards.judgement import JudgementReward
from rewards.reflection import ReflectionReward
from rewards.reward import RewardContext
from tests.envs.small_world import BRIDGE, COMPARISON, PASSAGES, OverlapRetriever, byte_tokenizer
from tests.rewards.builders import group

CONTEXT = RewardContext(passage={p.id: p for p in PASSAGES}.__getitem__, corpus=lambda: PASSAGES)


async def play(question: Question, *, top_k: int, **rates: float) -> Trajectory:
    retriever, tokenizer, table = OverlapRetriever(), byte_tokenizer(), load_protocol("waymark_stating")

    async def search(query: str, k: int) -> list[Hit]:
        return retriever.search([query], k)[0]

    limits = EpisodeLimits(
        top_k=top_k, max_turns=8, max_new_tokens_per_turn=400, max_trajectory_tokens=8000, max_observation_tokens=900
    )
    spec = EpisodeSpec(id="e", question=question, unit_id="u", group_id="u", seed=3)
    actor = ScriptedActor(noisy(table, rates=rates), tokenizer)
    return (await run_episodes([spec], actor=actor, search=search, protocol=table, tokenizer=tokenizer, limits=limits))[
        0
    ]


def earned(played: Trajectory, question: Question) -> tuple[float, float]:
    unit, questions = group(played), {question.id: question}
    judged = JudgementReward(CONTEXT)(unit, questions).turn[0]
    return float(np.nansum(judged)), float(ReflectionReward(CONTEXT)(unit, questions).outcome[0])


# With more hits the first search shows both sides of the comparison, and the expert searches for the second anyway.
@pytest.mark.parametrize(("question", "top_k"), [(BRIDGE, 1), (BRIDGE, 3), (COMPARISON, 1)])
async def test_true_statements_earn_all_and_their_opposites_nothing(question: Question, top_k: int) -> None:
    played = await play(question, top_k=top_k)
    assert sum(turn.action.judgement is not None for turn in played.turns) >= 2
    assert earned(played, question) == (pytest.approx(0.3), 1.0)
    judged, reflected = earned(await play(question, top_k=top_k, wrong_statement=1.0), question)
    assert judged < -0.25 and reflected == 0.0
