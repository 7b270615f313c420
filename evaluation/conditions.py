"""The conditions under which an evaluation's episodes are played, each with a pool of its own, behind one door.

An episode's id begins with the name of its condition: `eval-q1-0` is the evaluation itself, `closed_book-q1-0` a
control. A condition that is neither a control nor pinned (a share of noise, a perturbed query) is played as the
evaluation is, for what makes it stands in the episode's spec. Pools are made when they are first needed, in this
process or in a worker's.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from agent.engine import Completion
from agent.protocol import AgentProtocol
from agent.trajectory import Trajectory
from envs.actor import ActionRequest, Actor
from envs.episode import EpisodeSpec
from envs.episode_pool import EpisodePool
from envs.search_env import EpisodeLimits
from evaluation.controls import CONTROLS
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.retriever import Retriever

MAIN = "eval"
"""The condition of the evaluation itself."""


def condition_of(episode_id: str) -> str:
    """The condition that an episode's id begins with.

    >>> condition_of("closed_book-q-17-0")
    'closed_book'
    """
    return episode_id.partition("-")[0]


class TimedActor:
    """An actor that notes how long each episode waited for it, in seconds by episode id."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.seconds: dict[str, float] = {}

    @property
    def context_window(self) -> int | None:
        """Of the actor."""
        return self._actor.context_window

    def episode(self) -> AbstractContextManager[None]:
        """Of the actor."""
        return self._actor.episode()

    async def act(self, request: ActionRequest) -> Completion:
        """The actor's action."""
        began = time.perf_counter()
        try:
            return await self._actor.act(request)
        finally:
            episode = request.key.rpartition("/")[0]
            self.seconds[episode] = self.seconds.get(episode, 0.0) + time.perf_counter() - began


@dataclass(kw_only=True)
class ConditionPools:
    """Plays episodes, each under its condition. Use from one event loop, and `close` it.

    Args:
        actor: who acts.
        index: what the evaluation searches.
        limits: of the evaluation; `limits_of` has those of conditions that read more (`PinnedControl.limits_of`).
        seed: of random passages.
        max_concurrent: episodes in flight, of each condition.
    """

    actor: Actor
    protocol: AgentProtocol
    tokenizer: PreTrainedTokenizerBase
    index: Retriever
    limits: EpisodeLimits
    limits_of: dict[str, EpisodeLimits] = field(default_factory=dict)
    seed: int = 0
    max_concurrent: int = 64
    _pools: dict[str, EpisodePool] = field(init=False, default_factory=dict)
    _batchers: list[MicroBatcher] = field(init=False, default_factory=list)
    _opening: dict[str, asyncio.Future[Retriever]] = field(init=False, default_factory=dict)

    def submit(self, specs: Sequence[EpisodeSpec]) -> list[asyncio.Future[Trajectory]]:
        """Start episodes; one future each, in order.

        Raises:
            ValueError: as `EpisodePool.submit`.
        """
        futures: dict[str, asyncio.Future[Trajectory]] = {}
        by_condition: dict[str, list[EpisodeSpec]] = {}
        for spec in specs:
            by_condition.setdefault(condition_of(spec.id), []).append(spec)
        for name, asked in by_condition.items():
            started = self._pool(name).submit(asked)
            futures |= {spec.id: future for spec, future in zip(asked, started, strict=True)}
        return [futures[spec.id] for spec in specs]

    async def prepare(self, name: str) -> None:
        """Open what a condition searches, beside the event loop: random passages of a large corpus take seconds."""
        control = CONTROLS.get(name)
        if control is None or name in self._pools:
            return
        if name not in self._opening:
            opening = asyncio.to_thread(control.retriever, self.index, self.seed)
            self._opening[name] = asyncio.ensure_future(opening)
        await asyncio.shield(self._opening[name])

    async def close(self) -> None:
        """Give up what is played."""
        for pool in self._pools.values():
            await pool.close()
        for batcher in self._batchers:
            await batcher.close()

    def _pool(self, name: str) -> EpisodePool:
        key = name if name in CONTROLS or name in self.limits_of else MAIN
        if key not in self._pools:
            control = CONTROLS.get(key)
            opened = self._opening.get(key)
            if opened is not None and opened.done():
                retriever = opened.result()
            else:
                retriever = control.retriever(self.index, self.seed) if control else self.index
            limits = control.limits_of(self.limits) if control else self.limits_of.get(key, self.limits)
            batcher = MicroBatcher(retriever)
            self._batchers.append(batcher)
            self._pools[key] = EpisodePool(
                actor=self.actor,
                search=batcher.search,
                documents=DocumentReader(retriever).open if self.protocol.offers_open else None,
                protocol=self.protocol,
                tokenizer=self.tokenizer,
                limits=limits,
                max_concurrent=self.max_concurrent,
            )
        return self._pools[key]
