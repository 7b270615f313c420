"""A runtime without engine and retriever: what is sampled follows from the episode's seed alone, wherever it is played.

With it, a run of several learner processes has the trajectories of a run of one, to the bit.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.trajectory import FinishReason, Trajectory
from envs.episode import EpisodeSpec
from envs.question import Question
from rewards.per_trajectory import TurnReward
from rewards.reward import RewardContext
from tests.train.fakes import turn
from train.assembly import Parts
from train.config import TrainConfig
from train.judge import UnitJudge
from train.ledger import Ledger
from train.loop import learn, starting_learner
from train.progress import Progress, TrainResult
from train.ray_attempt import OpenRuntime
from train.run_folder import RunFolder
from train.runtime import Runtime


class ScriptedRuntime:
    """Every episode is a few turns of random tokens with random logprobs."""

    def __init__(self, vocabulary: int, *, finish: FinishReason = "no_answer") -> None:
        self._vocabulary = vocabulary
        self._finish = finish
        self._version = 0

    def submit(self, specs: Sequence[EpisodeSpec]) -> Sequence[asyncio.Future[Trajectory]]:
        return [asyncio.ensure_future(self._play(spec)) for spec in specs]

    async def _play(self, spec: EpisodeSpec) -> Trajectory:
        rng = np.random.default_rng(spec.seed)
        await asyncio.sleep(float(rng.uniform(0, 0.01)))

        def ids(most: int) -> list[int]:
            return rng.integers(2, self._vocabulary, size=rng.integers(1, most)).tolist()

        actions = [ids(8) for _ in range(rng.integers(1, 4))]
        turns = [turn(a, ids(6), (-rng.exponential(size=len(a)) - 1).tolist()) for a in actions]
        return Trajectory(
            id=spec.id,
            question_id=spec.question.id,
            unit_id=spec.unit_id,
            group_id=spec.group_id,
            sample=spec.sample,
            prompt_ids=tuple(ids(9)),
            turns=tuple(turns),
            finish_reason=self._finish,
        )

    async def update_weights(self, named: Any, version: int) -> None:
        self._version = version

    async def pause(self) -> None:
        return None

    async def resume(self) -> None:
        return None

    async def answers(self, query: str) -> str | None:
        return "it is not there" if self._finish == "retrieval_outage" else None

    async def readings(self) -> dict[str, float]:
        return {"scripted/version": float(self._version)}

    async def close(self) -> None:
        return None


async def open_scripted(
    config: TrainConfig, parts: Parts, model: str, *, name: str, tell: Callable[[str], None], ledger: Ledger
) -> Runtime:
    """Opens it as `train.ray_attempt.open_crew` opens a crew."""
    tell(f"scripted runtime of {name.rsplit('-', 1)[-1]}")
    return ScriptedRuntime(len(parts.tokenizer))


class HeldRuntime(ScriptedRuntime):
    """Plays no episode of the steps from `step` on until there is a file `until`: what a test does to a run that stands
    there meets a run that has not ended.
    """

    def __init__(self, vocabulary: int, *, step: int, until: Path) -> None:
        super().__init__(vocabulary)
        self._step = step
        self._until = until

    async def _play(self, spec: EpisodeSpec) -> Trajectory:
        while step_of(spec.unit_id) >= self._step and not self._until.exists():
            await asyncio.sleep(0.02)
        return await super()._play(spec)


def step_of(unit: str) -> int:
    """The step, from 0, that a unit's id such as `step000001-unit001` names."""
    return int(unit.removeprefix("step").split("-")[0])


def open_held(step: int, until: Path) -> OpenRuntime:
    """Opens a scripted runtime that holds a step."""

    async def open_it(
        config: TrainConfig, parts: Parts, model: str, *, name: str, tell: Callable[[str], None], ledger: Ledger
    ) -> Runtime:
        return HeldRuntime(len(parts.tokenizer), step=step, until=until)

    return open_it


async def open_outage(
    config: TrainConfig, parts: Parts, model: str, *, name: str, tell: Callable[[str], None], ledger: Ledger
) -> Runtime:
    """One whose episodes all end without an answer of the retriever."""
    return ScriptedRuntime(len(parts.tokenizer), finish="retrieval_outage")


async def open_nothing(
    config: TrainConfig, parts: Parts, model: str, *, name: str, tell: Callable[[str], None], ledger: Ledger
) -> Runtime:
    """A crew that cannot be had."""
    raise TimeoutError("the cluster has no room for 99 engines")


def learn_alone(
    config: TrainConfig, parts: Parts, out: Path, progress: Progress, open_runtime: OpenRuntime = open_scripted
) -> TrainResult:
    """The same run in this process, with one learner."""
    from anyio.from_thread import start_blocking_portal

    from train.admission import AdmissionState
    from train.sampler import LocalDoor, Sampler

    run = RunFolder.open(out, config, resume=False)
    state, learner = starting_learner(config, parts, run, config.policy.model, None)
    judge = UnitJudge(parts.rewards, parts.estimator, parts.questions_by_id)
    ledger = Ledger(run.path / "ledger.jsonl")

    async def make() -> Sampler:
        runtime = await open_runtime(config, parts, "", name="alone", tell=progress.stage, ledger=ledger)
        return Sampler(
            config,
            parts,
            runtime,
            judge=judge,
            ledger=ledger,
            version=0,
            state=AdmissionState(),
            tell=progress.stage,
        )

    with start_blocking_portal() as portal:
        sampler = portal.call(make)
        result = learn(config, parts, run, learner, state, judge, LocalDoor(sampler, portal), progress)
        portal.call(sampler.close)
    ledger.close()
    run.close()
    return result


class FailsAtUnit(TurnReward):
    """Scores even tokens, and raises at one unit, in whichever process scores it."""

    name = "fails_at_unit"

    def __init__(self, context: RewardContext, unit: str = "") -> None:
        del context
        self._unit = unit

    def turns(self, trajectory: Trajectory, question: Question) -> NDArray[np.float64]:
        if trajectory.unit_id == self._unit:
            raise ArithmeticError(f"no score for {trajectory.unit_id}: see the reward's settings")
        return np.array([np.mean([token % 2 == 0 for token in turn.action_ids]) for turn in trajectory.turns])
