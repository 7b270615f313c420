"""Everything of a run that lives beside the learner: rollouts, weights on their way to the engines, evaluation.

A `Sampler` runs on one event loop, which is not the learner's thread. The learner talks to it through a `Door`: in the
same process over a portal (`LocalDoor`), or from several learner processes through an actor (`train.ray_learners`).
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from anyio.from_thread import BlockingPortal

from agent.engines.opening import TransformersSpec
from agent.trajectory import Unit
from envs.packed_weights import SharedWeights
from evaluation.consistency import evaluate_consistency
from evaluation.metrics import Evaluation, evaluate_trajectories
from evaluation.run import evaluation_specs
from train.admission import AdmissionState
from train.assembly import Parts
from train.config import TrainConfig
from train.judge import UnitJudge
from train.ledger import Ledger
from train.outage import OutageGuard
from train.question_order import QuestionOrder
from train.rollouts import Rollouts
from train.runtime import Runtime
from train.unit_scorer import JudgeScorer

if TYPE_CHECKING:
    import torch

NamedWeights = Iterable[tuple[str, "torch.Tensor"]]
"""Every weight by its name in the plain model."""


class Sampler:
    """Rollouts of one run over a runtime. Use from one event loop, and `close` it.

    Args:
        config, parts: of the run.
        runtime: plays the episodes; closed here.
        judge: whose judgement decides which groups are replaced, where the config says so.
        ledger: told of every unit and trajectory.
        version: of the policy that samples first.
        state: of the checkpoint that the run goes on from.
        tell: is told in one line what a person should know.
    """

    def __init__(
        self,
        config: TrainConfig,
        parts: Parts,
        runtime: Runtime,
        *,
        judge: UnitJudge,
        ledger: Ledger,
        version: int,
        state: AdmissionState,
        tell: Callable[[str], None],
    ) -> None:
        self._config = config
        self._parts = parts
        self._runtime = runtime
        self._example = parts.train_questions[0].text
        rollout = config.rollout
        self._rollouts = Rollouts(
            order=QuestionOrder(parts.train_questions, seed=config.seed),
            episodes=runtime,
            units_per_step=rollout.questions_per_step,
            sampler=rollout.unit.sampler(rollout.samples_per_question, JudgeScorer(judge)),
            seed=config.seed,
            max_staleness=rollout.max_staleness,
            total_steps=config.steps,
            keep=judge.teaches if rollout.zero_variance == "resample" else None,
            forget=judge.forget,
            max_rejected=rollout.max_resampled * rollout.questions_per_step,
            guard=OutageGuard(
                max_share=rollout.max_outage_share,
                probe=self._probe,
                tell=tell,
                patience_s=rollout.outage_patience_s,
            ),
            ledger=ledger,
            version=version,
            state=state,
            noise=partial(rollout.noise.share, total_steps=config.steps) if rollout.noise else lambda step: 0.0,
            in_step=_is_in_step(config),
        )

    async def next_units(self, step: int, rank: int = 0, world_size: int = 1) -> list[Unit]:
        """A step's units that belong to a rank, dealt whole; see `Rollouts.next_units`."""
        return await self._rollouts.next_units(step, rank, world_size)

    async def publish(self, named: NamedWeights | SharedWeights, version: int) -> None:
        """Give the engines new weights; units that waited for this version start."""
        await self._runtime.update_weights(named, version)
        self._rollouts.set_version(version)

    async def pause(self) -> None:
        """Give the engines' GPU memory to the learner."""
        await self._runtime.pause()

    async def resume(self) -> None:
        """Take it back; sampling goes on with `publish`."""
        await self._runtime.resume()

    async def evaluate(self, step: int) -> Evaluation:
        """Greedy episodes on the dev questions, with the newest weights; also in other wordings, where asked for."""
        questions = self._parts.dev_questions
        noise = self._config.rollout.noise.evaluation if self._config.rollout.noise else 0.0
        specs = evaluation_specs(
            questions, seed=self._config.seed, temperature=0.0, name=f"eval{step:06d}", noise=noise
        )
        futures = self._runtime.submit(specs)
        try:
            trajectories = await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()
        citations = self._parts.protocol.citations
        evaluation = evaluate_trajectories(trajectories, questions, citations=citations, seed=self._config.seed)
        if not self._config.evaluate_wordings:
            return evaluation
        consistency = await evaluate_consistency(
            questions,
            self._runtime,
            wordings=self._config.evaluate_wordings,
            seed=self._config.seed,
            noise=noise,
            name=f"consistency{step:06d}",
        )
        return replace(evaluation, summary={**evaluation.summary, **consistency.summary})

    async def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint keeps of the rollouts."""
        return asdict(self._rollouts.state)

    async def readings(self) -> dict[str, float]:
        """Figures of the processes and of what was sampled for nothing, for the metrics."""
        return {**await self._runtime.readings(), **self._rollouts.readings()}

    async def close(self) -> None:
        """Give up what is played, and end the runtime."""
        await self._rollouts.close()
        await self._runtime.close()

    async def _probe(self) -> str | None:
        return await self._runtime.answers(self._example)


def _is_in_step(config: TrainConfig) -> bool:
    """True where units that branch must not let time decide what the engine batches."""
    engine = config.engine
    deterministic = isinstance(engine, TransformersSpec) and engine.chosen_schedule(in_step=config.in_step) != "eager"
    return deterministic and config.rollout.unit.kind in ("branch", "refine", "tree")


class Door(Protocol):
    """A sampler as a learner's thread sees it: the same calls, blocking."""

    def next_units(self, step: int, rank: int, world_size: int) -> list[Unit]:
        """See `Sampler.next_units`."""
        ...

    def publish(self, named: NamedWeights, version: int) -> None:
        """See `Sampler.publish`."""
        ...

    def pause(self) -> None:
        """See `Sampler.pause`."""
        ...

    def resume(self) -> None:
        """See `Sampler.resume`."""
        ...

    def evaluate(self, step: int) -> Evaluation:
        """See `Sampler.evaluate`."""
        ...

    def checkpoint(self) -> dict[str, Any]:
        """See `Sampler.checkpoint`."""
        ...

    def readings(self) -> dict[str, float]:
        """See `Sampler.readings`."""
        ...


class LocalDoor:
    """A sampler on another thread of this process."""

    def __init__(self, sampler: Sampler, portal: BlockingPortal) -> None:
        self._sampler = sampler
        self._portal = portal

    def next_units(self, step: int, rank: int, world_size: int) -> list[Unit]:
        """See `Sampler.next_units`."""
        return self._portal.call(self._sampler.next_units, step, rank, world_size)

    def publish(self, named: NamedWeights, version: int) -> None:
        """See `Sampler.publish`."""
        self._portal.call(self._sampler.publish, named, version)

    def pause(self) -> None:
        """See `Sampler.pause`."""
        self._portal.call(self._sampler.pause)

    def resume(self) -> None:
        """See `Sampler.resume`."""
        self._portal.call(self._sampler.resume)

    def evaluate(self, step: int) -> Evaluation:
        """See `Sampler.evaluate`."""
        return self._portal.call(self._sampler.evaluate, step)

    def checkpoint(self) -> dict[str, Any]:
        """See `Sampler.checkpoint`."""
        return self._portal.call(self._sampler.checkpoint)

    def readings(self) -> dict[str, float]:
        """See `Sampler.readings`."""
        return self._portal.call(self._sampler.readings)
