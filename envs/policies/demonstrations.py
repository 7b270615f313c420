"""Demonstrations: real episodes of a scripted policy, searches included, for the cold start.

They run through the same environment as a trained policy's episodes, so what is imitated is token for token what it
will see later. Ids and seeds follow from (seed, question id, sample): a longer list begins with the shorter one.
"""

import asyncio
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from agent.protocol import AgentProtocol
from agent.trajectory import Trajectory
from envs.actor import ScriptedActor, ScriptedPolicy, stable_seed
from envs.episode import EpisodeSpec, Search
from envs.episode_pool import run_episodes
from envs.question import Question
from envs.search_env import EpisodeLimits
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.index import Index
from retrieval.passage import Hit
from retrieval.retriever import RetrievalError, Retriever


def demonstration_specs(
    questions: Sequence[Question], *, count: int | None = None, seed: int = 0, views: Sequence[int] = (0,)
) -> list[EpisodeSpec]:
    """`count` episodes (default: one a question), going round the questions; each round is the next `sample`.

    Episodes take turns in those of the wordings `views` that their question has.

    Raises:
        ValueError: no questions, `count` < 1, or a question that has none of the wordings.
    """
    if not questions or (count is not None and count < 1):
        raise ValueError(f"{len(questions)} questions, count={count}: demonstrations need at least one of each")
    specs = []
    for position in range(len(questions) if count is None else count):
        sample, place = divmod(position, len(questions))
        question = questions[place]
        wordings = [view for view in views if 0 <= view <= len(question.paraphrases)]
        if not wordings:
            raise ValueError(
                f"question {question.id!r} has {len(question.paraphrases)} paraphrases, so views 0 to "
                f"{len(question.paraphrases)}; views={list(views)} has none of these"
            )
        name = f"demonstration-{question.id}-sample{sample:02d}"
        specs.append(
            EpisodeSpec(
                id=name,
                question=question,
                view=wordings[(place + sample) % len(wordings)],
                unit_id=f"demonstration-{question.id}",
                group_id=f"demonstration-{question.id}",
                sample=sample,
                seed=stable_seed(seed, question.id, sample),
            )
        )
    return specs


def make_demonstrations(
    questions: Sequence[Question],
    policy: ScriptedPolicy,
    retriever: Retriever,
    *,
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    limits: EpisodeLimits,
    count: int | None = None,
    seed: int = 0,
    views: Sequence[int] = (0,),
    max_concurrent: int = 256,
    on_finish: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Run a scripted policy on questions and return its trajectories in order.

    An index is searched directly, any other retriever through a micro-batcher, which makes one request of the searches
    that wait. `on_finish` is called with each trajectory when it ends. Blocks until all are done; it runs an event loop
    of its own, so call it from outside of one (inside, use `run_episodes` with a `ScriptedActor`).

    Raises:
        RetrievalError: a search was not answered; an outage is nothing to imitate.
    """
    specs = demonstration_specs(questions, count=count, seed=seed, views=views)

    async def play() -> list[Trajectory]:
        async with MicroBatcher(retriever) as batcher:
            return await run_episodes(
                specs,
                actor=ScriptedActor(policy, tokenizer),
                search=direct_search(retriever) if isinstance(retriever, Index) else batcher.search,
                documents=DocumentReader(retriever).open if protocol.offers_open else None,
                protocol=protocol,
                tokenizer=tokenizer,
                limits=limits,
                max_concurrent=max_concurrent,
                on_finish=on_finish,
            )

    trajectories = asyncio.run(play())
    if lost := sum(trajectory.finish_reason == "retrieval_outage" for trajectory in trajectories):
        raise RetrievalError(
            f"{lost} of {len(trajectories)} demonstrations ended because a search was not answered; check that the "
            "retriever answers, then start again"
        )
    return trajectories


def direct_search(retriever: Retriever) -> Search:
    """A retriever in this process as an async search without threads: right where nothing else wants the loop."""

    async def search(query: str, k: int) -> list[Hit]:
        return retriever.search([query], k)[0]

    return search
