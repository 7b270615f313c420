"""Episodes: an environment and an actor make a trajectory, one coroutine each.

`run_episode` is the loop of sample, call tools, observe. Faults outside the policy become typed endings here and
nowhere else: a RetrievalError ends the episode as `retrieval_outage`, an EngineError as `engine_failure`; every other
exception is a bug and propagates. `envs.episode_pool` plays many.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.action import ToolRequest
from agent.engine import EngineError
from agent.protocol import AgentProtocol
from agent.tools import OPEN, SEARCH, split_open_argument
from agent.trajectory import ToolCall, Trajectory, Turn
from envs.actor import ActionRequest, Actor, stable_seed
from envs.noise import is_noisy, noisy_search
from envs.perturbation import perturbed_search
from envs.question import Question
from envs.search_env import Finished, SearchEnv
from retrieval.passage import Hit, Passage
from retrieval.retriever import RetrievalError

Search = Callable[[str, int], Awaitable[list[Hit]]]
"""`await search(query, k)`: at most `k` hits, best first; RetrievalError where there is no answer in time."""

Documents = Callable[[str], Awaitable[list[Passage]]]
"""`await documents(name)`: the passages of the document with this id or title, none where there is no such document;
RetrievalError where there is no answer in time. `retrieval.access.DocumentReader.open` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSpec:
    """Which question is asked, in which wording (`view`), where the trajectory belongs, and where it begins and ends.

    Attributes:
        parent_id, fork_turn: of a branch; the trajectory carries them.
        temperature: None is the actor's own; an evaluation during training asks for 0.
        noise: share of searches that find nothing which helps (`envs.noise`).
        perturbation: how the words of the first query are changed on their way to the retriever, a name of
            `envs.perturbation`; the policy is not told. None: not at all.
        prefix_turns: turns of an episode that was played before, with which this one goes on: nothing of them is
            sampled, searched or encoded again. The calls of a last turn without an observation are carried out first.
        stop_after_turns: the episode ends as `cut` once it has so many turns and would go on.
        reads_last: whether the calls of that last turn are carried out; if not, it ends without an observation.
        pinned: what the searches find, each in its turn, instead of what the retriever would; those beyond the last
            find nothing. None: the retriever is asked. `open` is never pinned.
    """

    id: str
    question: Question
    view: int = 0
    unit_id: str
    group_id: str
    sample: int = 0
    seed: int = 0
    temperature: float | None = None
    noise: float = 0.0
    perturbation: str | None = None
    parent_id: str | None = None
    fork_turn: int | None = None
    prefix_turns: tuple[Turn, ...] = ()
    stop_after_turns: int | None = None
    reads_last: bool = True
    pinned: tuple[tuple[Hit, ...], ...] | None = None


async def run_episode(
    spec: EpisodeSpec, *, actor: Actor, env: SearchEnv, search: Search, documents: Documents | None = None
) -> Trajectory:
    """Play one episode to its end.

    Raises:
        ValueError: the prompt does not fit the limits or the model's window, or a protocol with `open` and no
            `documents`, or a prefix that nothing follows (raised before anything is sampled).
        IndexError: the question has no such wording.
    """
    check_tools(env.protocol, documents)
    env.reset(spec.question.wording(spec.view), context_window=actor.context_window)
    with actor.episode():
        return await play(spec, actor, env, search, documents)


def check_tools(protocol: AgentProtocol, documents: Documents | None) -> None:
    """See that what a protocol offers can be done.

    Raises:
        ValueError: it offers `open`, and nothing opens documents.
    """
    if protocol.offers_open and documents is None:
        raise ValueError(
            f"protocol {protocol.name!r} offers {OPEN!r}, and there is nothing that opens documents: give documents=, "
            "such as DocumentReader(retriever).open, or take a protocol with tools=('search',)"
        )


async def play(
    spec: EpisodeSpec, actor: Actor, env: SearchEnv, search: Search, documents: Documents | None = None
) -> Trajectory:
    """Play an episode whose environment has been reset, to its end; the engine has been told of it."""
    if spec.pinned is not None:
        search = _pinned(spec.pinned, spec.prefix_turns)
    if (pending := env.replay(spec.prefix_turns)) is not None:
        await _read(pending.calls, spec, env, search, documents)
    while env.finish_reason is None:
        turn = len(env.turns)
        if spec.stop_after_turns is not None and turn >= spec.stop_after_turns:
            env.abandon("cut")
            break
        request = ActionRequest(
            key=f"{spec.id}/{turn:04d}",
            token_ids=env.token_ids,
            question=spec.question,
            view=spec.view,
            turns=env.turns,
            max_new_tokens=env.max_new_tokens,
            stop=env.protocol.stop,
            seed=stable_seed(spec.seed, turn),
            temperature=spec.temperature,
        )
        try:
            completion = await actor.act(request)
        except EngineError:
            env.abandon("engine_failure")
            break
        step = env.act(completion)
        if isinstance(step, Finished):
            break
        if step.calls and not spec.reads_last and turn + 1 == spec.stop_after_turns:
            env.abandon("cut")
            break
        await _read(step.calls, spec, env, search, documents)
    assert env.finish_reason is not None
    return Trajectory(
        id=spec.id,
        question_id=spec.question.id,
        view=spec.view,
        unit_id=spec.unit_id,
        group_id=spec.group_id,
        parent_id=spec.parent_id,
        fork_turn=spec.fork_turn,
        sample=spec.sample,
        prompt_ids=env.prompt_ids,
        turns=env.turns,
        finish_reason=env.finish_reason,
    )


def _search_of(spec: EpisodeSpec, turn: int, place: int, search: Search) -> Search:
    """The search of one query of a turn: with the episode's share of noise, one that finds nothing which helps."""
    return noisy_search(search, spec.question) if is_noisy(spec.noise, spec.seed, turn, place) else search


async def _read(
    calls: Sequence[ToolRequest], spec: EpisodeSpec, env: SearchEnv, search: Search, documents: Documents | None
) -> None:
    """Carry out the calls of a turn, and let the environment observe what they brought."""
    searches = [_search_of(spec, len(env.turns), place, search) for place in range(len(calls))]
    if spec.perturbation is not None and not any(call.tool == SEARCH for turn in env.turns for call in turn.calls):
        first = next((place for place, request in enumerate(calls) if request.tool == SEARCH), None)
        if first is not None:
            searches[first] = perturbed_search(searches[first], spec.perturbation, spec.seed)
    results = await _carry_out(calls, searches, documents, env.limits.top_k)
    if any(result.status == "error" for result in results):
        env.abandon("retrieval_outage", results)
    else:
        env.observe(results)


def _pinned(found: Sequence[tuple[Hit, ...]], prefix: Sequence[Turn]) -> Search:
    """A search that finds these hits, one after the other, those left out that turns of a prefix have found."""
    searched = sum(call.tool == SEARCH for turn in prefix for call in turn.calls)
    remaining = iter(found[searched:])

    async def search(query: str, k: int) -> list[Hit]:
        return list(next(remaining, ())[:k])

    return search


async def _carry_out(
    requests: Sequence[ToolRequest], searches: Sequence[Search], documents: Documents | None, k: int
) -> list[ToolCall]:
    """All calls of a turn at once, each with a search of its own; a bug in one is raised after all have ended."""
    pairs = list(zip(requests, searches, strict=True))
    if len(pairs) == 1:
        return [await _call(*pairs[0], documents, k)]
    outcomes = await asyncio.gather(*(_call(*pair, documents, k) for pair in pairs), return_exceptions=True)
    results = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


async def _call(request: ToolRequest, search: Search, documents: Documents | None, k: int) -> ToolCall:
    start = time.perf_counter()
    status: Literal["ok", "empty", "error"]
    try:
        if request.tool == OPEN:
            hits = await _opened(request, documents)
        else:
            hits = tuple(await search(request.argument, k))
        status = "ok" if hits else "empty"
    except RetrievalError:
        hits, status = (), "error"
    return ToolCall(
        tool=request.tool,
        argument=request.argument,
        hits=hits,
        status=status,
        latency_s=time.perf_counter() - start,
    )


async def _opened(request: ToolRequest, documents: Documents | None) -> tuple[Hit, ...]:
    """The whole document, each passage once; the environment keeps the window that is asked for."""
    assert documents is not None, "check_tools refuses a protocol that offers what cannot be done"
    document, _ = split_open_argument(request.argument)
    passages = {passage.id: passage for passage in await documents(document)}
    return tuple(Hit(passage=p, score=0.0, rank=rank) for rank, p in enumerate(passages.values(), start=1))
