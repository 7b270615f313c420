"""Ask a policy a set of questions, and score what comes back.

The policy is an engine (greedy by default) or a scripted one; both go through `envs.episode`, the same code that
training samples with, so an evaluation never measures another agent than the one that was trained.
"""

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from agent.engine import Engine
from agent.protocol import AgentProtocol
from agent.trajectory import Trajectory
from envs.actor import Actor, EngineActor, ScriptedActor, ScriptedPolicy, stable_seed
from envs.episode import Documents, EpisodeSpec, Search
from envs.episode_pool import EpisodePool, run_episodes
from envs.question import Question
from envs.search_env import EpisodeLimits
from evaluation.consistency import DEFAULT_WORDINGS, Consistency, evaluate_consistency
from evaluation.metrics import Evaluation, evaluate_trajectories
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from retrieval.retriever import Retriever

OnFinish = Callable[[Trajectory], None]


async def evaluate_policy(
    questions: Sequence[Question],
    *,
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    limits: EpisodeLimits,
    engine: Engine | None = None,
    policy: ScriptedPolicy | None = None,
    search: Search | None = None,
    retriever: Retriever | None = None,
    documents: Documents | None = None,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    noise: float = 0.0,
    max_concurrent: int = 256,
    on_finish: OnFinish | None = None,
) -> tuple[Evaluation, list[Trajectory]]:
    """Run every question `samples` times and evaluate the episodes.

    Args:
        questions: what is asked, in this order.
        protocol: how the policy says what it wants.
        tokenizer: of the policy; a scripted policy's words are encoded with it too.
        limits: of one episode.
        engine: the policy, sampled at `temperature` (0 is greedy); or
        policy: a scripted one. Exactly one of the two.
        search: an async search, such as `MicroBatcher.search`; or
        retriever: from which a micro-batcher is made and closed here. Exactly one of the two.
        documents: opens documents, for a protocol that offers `open`; a `retriever` opens its own.
        samples: episodes per question; their figures are averaged before means are taken.
        seed: of sampling and of scripted policies. Equal arguments give equal trajectories.
        noise: share of searches that find nothing which helps (`envs.noise`).
        max_concurrent: episodes in flight.
        on_finish: called with each trajectory when it ends, for progress.

    Returns:
        The evaluation, and the trajectories in the order of the questions.

    Raises:
        ValueError: no question, repeated question ids, both or neither of a pair, a prompt that does not fit, or a
            protocol that offers `open` over a retriever that opens nothing.
    """
    if (search is None) == (retriever is None):
        raise ValueError("give either search= or retriever=, and not both")
    if not questions:
        raise ValueError("there is no question to ask; give at least one")
    if len({question.id for question in questions}) != len(questions):
        raise ValueError("two questions have one id; figures are kept per question, so make the ids unique")
    if samples < 1:
        raise ValueError(f"samples is {samples}; ask every question at least once")
    actor = _actor(engine, policy, tokenizer, temperature)
    if retriever is not None and documents is None and protocol.offers_open:
        documents = DocumentReader(retriever).open
    batcher = MicroBatcher(retriever) if retriever is not None else None
    try:
        trajectories = await run_episodes(
            evaluation_specs(questions, samples=samples, seed=seed, noise=noise),
            actor=actor,
            search=batcher.search if batcher is not None else _given(search),
            documents=documents,
            protocol=protocol,
            tokenizer=tokenizer,
            limits=limits,
            max_concurrent=max_concurrent,
            on_finish=on_finish,
        )
    finally:
        if batcher is not None:
            await batcher.close()
    evaluation = evaluate_trajectories(trajectories, questions, citations=protocol.citations, seed=seed)
    return evaluation, trajectories


async def evaluate_policy_consistency(
    questions: Sequence[Question],
    *,
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    limits: EpisodeLimits,
    retriever: Retriever,
    engine: Engine | None = None,
    policy: ScriptedPolicy | None = None,
    wordings: int = DEFAULT_WORDINGS,
    seed: int = 0,
    noise: float = 0.0,
    max_concurrent: int = 256,
    on_finish: OnFinish = lambda trajectory: None,
) -> Consistency:
    """Measure how alike a policy answers the wordings of each question; see `evaluation.consistency`.

    Raises:
        ValueError: both or neither of `engine` and `policy`, no question with a paraphrase, or what `EpisodePool`
            refuses.
    """
    batcher = MicroBatcher(retriever)
    pool = EpisodePool(
        actor=_actor(engine, policy, tokenizer, 0.0),
        search=batcher.search,
        documents=DocumentReader(retriever).open if protocol.offers_open else None,
        protocol=protocol,
        tokenizer=tokenizer,
        limits=limits,
        max_concurrent=max_concurrent,
    )
    try:
        return await evaluate_consistency(
            questions, pool, wordings=wordings, seed=seed, noise=noise, on_finish=on_finish
        )
    finally:
        await pool.close()
        await batcher.close()


def evaluation_specs(
    questions: Sequence[Question],
    *,
    samples: int = 1,
    seed: int = 0,
    temperature: float | None = None,
    noise: float = 0.0,
    name: str = "eval",
) -> list[EpisodeSpec]:
    """The episodes of an evaluation, in the order of the questions. `name` begins their ids; no seed depends on it."""
    return [
        EpisodeSpec(
            id=f"{name}-{question.id}-{sample}",
            question=question,
            unit_id=f"{name}-{question.id}",
            group_id=f"{name}-{question.id}",
            sample=sample,
            seed=stable_seed(seed, question.id, sample),
            temperature=temperature,
            noise=noise,
        )
        for question in questions
        for sample in range(samples)
    ]


def _actor(
    engine: Engine | None, policy: ScriptedPolicy | None, tokenizer: PreTrainedTokenizerBase, temperature: float
) -> Actor:
    if (engine is None) == (policy is None):
        raise ValueError("give either engine= or policy= (a scripted one), and not both")
    if engine is not None:
        return EngineActor(engine, temperature=temperature)
    assert policy is not None
    return ScriptedActor(policy, tokenizer)


def _given(search: Search | None) -> Search:
    assert search is not None
    return search
