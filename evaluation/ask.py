"""Ask one question and follow the episode turn by turn, as `waymark ask` prints it and a page can show it.

The episode is the one that training and evaluation play (`envs.episode`): whoever follows it stands between the episode
and its actor, sees the turns that are complete whenever the next action is asked for, and changes nothing.

    async with asking(job) as (asked, question):         # doctest: +SKIP
        async for event in asked.ask(question):
            print(event.record())                        # an AskedTurn each, an AskedEnd last
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass

from agent.engine import Completion, EngineError
from agent.protocol import AgentProtocol
from agent.protocols.registry import load_protocol
from agent.trajectory import Trajectory, Turn
from envs.actor import ActionRequest, Actor, EngineActor, ScriptedActor, stable_seed
from envs.episode import EpisodeSpec, Search, run_episode
from envs.question import Question
from envs.search_env import EpisodeLimits, SearchEnv
from evaluation.ask_job import AskJob, asked_question
from evaluation.asked_turn import AskedEnd, AskedPassage, AskedTurn, asked_end, asked_turn
from evaluation.evaluated_policy import SCRIPTED, EvaluatedPolicy, load_model_policy, load_scripted_policy
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.passage import Hit
from retrieval.ready import outage_told, ready_retriever
from retrieval.retriever import RetrievalError, Retriever

NAME = "ask"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A policy and a retriever that are open; `ask` as often as wanted, from one event loop, one after the other."""

    policy: EvaluatedPolicy
    retriever: Retriever
    protocol: AgentProtocol
    limits: EpisodeLimits
    temperature: float = 0.0
    seed: int = 0

    async def ask(self, question: str | Question) -> AsyncGenerator[AskedTurn | AskedEnd, None]:
        """Each turn when it is complete, and the end; leaving early ends the episode.

        Raises:
            ValueError: an empty question, or one whose prompt does not fit; nothing was sampled.
        """
        asked = Question(id=NAME, text=question, golden_answers=()) if isinstance(question, str) else question
        started = time.perf_counter()
        batcher = MicroBatcher(self.retriever)
        told: asyncio.Queue[tuple[Turn, ...] | None] = asyncio.Queue()
        faults: list[str] = []
        episode = asyncio.create_task(
            run_episode(
                EpisodeSpec(
                    id=NAME, question=asked, unit_id=NAME, group_id=NAME, seed=stable_seed(self.seed, asked.id, 0)
                ),
                actor=_Followed(self._actor(), told, faults),
                env=SearchEnv(self.protocol, self.policy.tokenizer, self.limits),
                search=_told_faults(batcher.search, faults),
                documents=DocumentReader(self.retriever).open if self.protocol.offers_open else None,
            )
        )
        episode.add_done_callback(lambda _: told.put_nowait(None))
        turns: list[AskedTurn] = []
        seen: dict[str, AskedPassage] = {}

        def new_turns(complete: Sequence[Turn]) -> list[AskedTurn]:
            fresh = []
            for turn in complete[len(turns) :]:
                fresh.append(asked_turn(turn, len(turns) + 1, asked, seen))
                turns.append(fresh[-1])
                seen.update((passage.id, passage) for passage in fresh[-1].passages)
            return fresh

        try:
            while (complete := await told.get()) is not None:
                for turn in new_turns(complete):
                    yield turn
            trajectory: Trajectory = await episode
            for turn in new_turns(trajectory.turns):
                yield turn
            fault = faults[-1] if faults else None
            yield asked_end(trajectory, asked, turns, seconds=time.perf_counter() - started, fault=fault)
        finally:
            episode.cancel()
            await asyncio.gather(episode, return_exceptions=True)
            await batcher.close()

    def _actor(self) -> Actor:
        if self.policy.engine is not None:
            return EngineActor(self.policy.engine, temperature=self.temperature)
        assert self.policy.scripted is not None
        return ScriptedActor(self.policy.scripted, self.policy.tokenizer)


@asynccontextmanager
async def asking(job: AskJob) -> AsyncIterator[tuple[Asked, Question]]:
    """Open what a job names, cheapest first; yields it with the job's question.

    Raises:
        ValueError, FileNotFoundError: something given cannot be used; the message says what to do.
    """
    settings = job.settings()
    protocol = load_protocol(settings.protocol, **settings.protocol_overrides)
    question = asked_question(job)
    spec = job.spec(settings)
    with ready_retriever(
        job.index,
        top_k=settings.limits.top_k,
        example=question.text,
        max_query_chars=settings.limits.max_query_chars,
    ) as retriever:
        with outage_told(job.index):
            if protocol.offers_open:
                DocumentReader(retriever).check()
            if settings.policy.startswith(SCRIPTED):
                policy = load_scripted_policy(
                    settings.policy.removeprefix(SCRIPTED),
                    protocol,
                    [question],
                    retriever,
                    top_k=settings.limits.top_k,
                    answers_from=job.questions,
                )
            else:
                policy = load_model_policy(settings.policy, spec, trust_remote_code=settings.trust_remote_code)
        try:
            yield (
                Asked(
                    policy=policy,
                    retriever=retriever,
                    protocol=protocol,
                    limits=settings.limits,
                    temperature=job.temperature,
                    seed=job.seed,
                ),
                question,
            )
        finally:
            if policy.engine is not None:
                await policy.engine.close()


async def follow(job: AskJob) -> AsyncGenerator[AskedTurn | AskedEnd, None]:
    """Open what a job names, ask its question, and yield each turn and the end. Raises as `asking` and `Asked.ask`."""
    async with asking(job) as (asked, question), aclosing(asked.ask(question)) as events:
        async for event in events:
            yield event


class _Followed:
    """An actor that tells which turns are complete before it acts, and what an engine said that failed."""

    def __init__(self, actor: Actor, told: "asyncio.Queue[tuple[Turn, ...] | None]", faults: list[str]) -> None:
        self._actor = actor
        self._told = told
        self._faults = faults

    @property
    def context_window(self) -> int | None:
        return self._actor.context_window

    def episode(self) -> AbstractContextManager[None]:
        return self._actor.episode()

    async def act(self, request: ActionRequest) -> Completion:
        if request.turns:
            self._told.put_nowait(request.turns)
            await asyncio.sleep(0)  # an engine in this process may hold the loop: what is known is shown first
        try:
            return await self._actor.act(request)
        except EngineError as error:
            self._faults.append(str(error))
            raise


def _told_faults(search: Search, faults: list[str]) -> Search:
    async def searched(query: str, k: int) -> list[Hit]:
        try:
            return await search(query, k)
        except RetrievalError as error:
            faults.append(str(error))
            raise

    return searched
