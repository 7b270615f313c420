"""An evaluation must be reproducible, count every question once, and go through the same episodes as training."""

from collections.abc import Sequence
from typing import Any

import pytest

from agent.trajectory import Trajectory
from envs.policies.registry import load_policy
from envs.search_env import EpisodeLimits
from evaluation.run import evaluate_policy
from retrieval.index import open_index
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError
from tests.evaluation.conftest import SmallWorld

LIMITS = EpisodeLimits(top_k=2, max_turns=4)


async def test_the_expert_finds_everything(small_world: SmallWorld) -> None:
    finished: list[Trajectory] = []
    with open_index(small_world.index) as index:
        evaluation, trajectories = await evaluate_policy(
            small_world.questions,
            policy=load_policy("expert", small_world.protocol),
            retriever=index,
            protocol=small_world.protocol,
            tokenizer=small_world.tokenizer,
            limits=LIMITS,
            on_finish=finished.append,
        )
    assert [t.question_id for t in trajectories] == [q.id for q in small_world.questions]
    assert len(finished) == len(small_world.questions)
    assert evaluation.summary["em"] == 1.0
    assert evaluation.summary["support_recall"] == 1.0
    assert evaluation.summary["citation_precision"] == 1.0
    assert evaluation.summary["finish_reasons"]["answered"] == 5


async def test_equal_seeds_give_equal_trajectories_and_other_seeds_do_not(small_world: SmallWorld) -> None:
    async def play(seed: int, max_concurrent: int) -> list[tuple[int, ...]]:
        with open_index(small_world.index) as index:
            _, trajectories = await evaluate_policy(
                small_world.questions,
                policy=load_policy("noisy", small_world.protocol, rates={"wrong_answer": 0.5}),
                retriever=index,
                protocol=small_world.protocol,
                tokenizer=small_world.tokenizer,
                limits=LIMITS,
                samples=4,
                seed=seed,
                max_concurrent=max_concurrent,
            )
        return [tuple(t.token_ids) for t in trajectories]

    first = await play(0, 2)
    assert first == await play(0, 20)
    assert first != await play(1, 20)


async def test_an_outage_of_the_retriever_is_counted_apart(small_world: SmallWorld) -> None:
    async def search(query: str, k: int) -> list[Hit]:
        raise RetrievalError("down")

    evaluation, _ = await evaluate_policy(
        small_world.questions,
        policy=load_policy("expert", small_world.protocol),
        search=search,
        protocol=small_world.protocol,
        tokenizer=small_world.tokenizer,
        limits=LIMITS,
    )
    assert evaluation.summary["em"] == 0.0
    assert evaluation.summary["em_without_outages"] is None
    assert evaluation.summary["finish_reasons"]["retrieval_outage"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": None}, "either engine= or policy="),
        ({"search": None}, "either search= or retriever="),
        ({"questions": []}, "no question to ask"),
        ({"questions": "twice"}, "two questions have one id"),
        ({"samples": 0}, "at least once"),
    ],
)
async def test_bad_arguments_say_what_to_do(small_world: SmallWorld, changes: dict[str, Any], message: str) -> None:
    async def search(query: str, k: int) -> Sequence[Hit]:
        return []

    arguments: dict[str, Any] = {
        "questions": small_world.questions,
        "policy": load_policy("expert", small_world.protocol),
        "search": search,
        "protocol": small_world.protocol,
        "tokenizer": small_world.tokenizer,
        "limits": LIMITS,
        **changes,
    }
    if arguments["questions"] == "twice":
        arguments["questions"] = small_world.questions * 2
    questions = arguments.pop("questions")
    with pytest.raises(ValueError, match=message):
        await evaluate_policy(questions, **arguments)
