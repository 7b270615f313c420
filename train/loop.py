"""The training loop, which reads like the algorithm: rollouts, scores, credit, step, weights to the engine, log,
checkpoint.

    units   = rollouts.next_units(step, rank, world_size)    # groups of trajectories, of bounded age
    scores  = rewards.score(unit)                            # one Scores per reward, kept apart by name
    rows    = estimator(unit, scores, weights)               # which tokens, which advantages
    metrics = learner.update(rows)                           # TRL's loss on them, one optimiser step
    engine.update_weights(learner.named_weights())           # the next rollouts are on policy

Engine, searches and episodes live on an event loop of their own, on another thread; the learner stays on this one.
A killed run goes on from its last checkpoint: data order and sampling seeds follow from (seed, step), so the repeated
steps are the same steps.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from agent.engines.transformers import load_engine
from agent.trajectory import NOT_THE_POLICYS_FAULT, Unit
from envs.actor import EngineActor
from envs.episode_pool import EpisodePool
from evaluation.metrics import Evaluation
from evaluation.run import evaluate_policy
from evaluation.trajectory_store import TrajectoryWriter
from evaluation.turn_scores import turn_scores
from retrieval.access import DocumentReader
from retrieval.batcher import MicroBatcher
from rewards.score import Scores
from train.admission import AdmissionState
from train.assembly import Parts, assemble
from train.checkpoint import CheckpointState, read_state, save_checkpoint
from train.config import TrainConfig
from train.credit.row import Row
from train.learner import Learner
from train.ledger import Ledger
from train.policy_start import starting_model
from train.rollouts import QuestionOrder, Rollouts
from train.run_folder import RunFolder
from train.step_metrics import rollout_metrics
from train.tracking import WALL_CLOCK_PREFIX, MetricsLog


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a finished run leaves: the trained model's folder, steps done, trajectories sampled, last dev evaluation."""

    model: Path
    steps: int
    trajectories: int
    dev: dict[str, Any] | None


class Progress:
    """Where the loop tells how far it is; the default says nothing. A context manager, for displays that end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def stage(self, text: str) -> None:
        """A stage before or after the steps begins."""

    def step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        """A step has been logged."""


class RolloutFailure(RuntimeError):
    """A whole step brought no trajectory to learn from."""


def train(config: TrainConfig, out: Path, *, resume: bool = False, progress: Progress | None = None) -> TrainResult:
    """Run, or go on with, one training run in the folder `out`.

    Raises:
        ValueError: (or a subclass) config, data or folder cannot be used; nothing has been spent.
        RolloutFailure: every trajectory of a step ended in an outage, or no reward applies to any.
    """
    progress = progress or Progress()
    refuse_several_processes()
    with assemble(config) as parts:
        run = RunFolder.open(out, config, resume=resume, searched=parts.index.identity)
        try:
            for warning in parts.warnings:
                progress.stage(f"warning: {warning}")
            with start_blocking_portal(name="waymark-rollouts") as portal:
                return _train(config, parts, run, portal, progress)
        finally:
            run.close()


def refuse_several_processes() -> None:
    """Raises ValueError under a launcher of several: learner and rollouts know ranks, the run folder does not."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ValueError(f"started as one of {processes} processes; train runs in one: start it without a launcher")


def _train(
    config: TrainConfig, parts: Parts, run: RunFolder, portal: BlockingPortal, progress: Progress
) -> TrainResult:
    checkpoint = run.latest_checkpoint()
    state = read_state(checkpoint) if checkpoint else CheckpointState(step=0, trajectories=0)
    # Also when a run goes on: the reference of the KL term, and what adapters are added to, is where training started.
    model_path = starting_model(config, parts, run, progress.stage)
    learner = Learner.create(
        model_path,
        parts.tokenizer,
        config.learner.model_copy(update={"seed": config.seed}),
        run.path / ".learner",
        total_steps=config.steps,
        trust_remote_code=config.policy.trust_remote_code,
    )
    rank, world_size = learner.accelerator.process_index, learner.accelerator.num_processes
    if checkpoint:
        learner.load_state(checkpoint / "learner")
        parts.rewards.load_state_dict(state.rewards)
    engine = load_engine(
        model_path,
        schedule=config.rollout.schedule,
        max_batch=config.rollout.max_batch,
        dtype=config.engine_dtype,
        trust_remote_code=config.policy.trust_remote_code,
    )
    engine.update_weights(learner.named_weights(), version=state.step)
    batcher = MicroBatcher(parts.index, **config.retrieval.model_dump())
    documents = DocumentReader(parts.index).open if parts.protocol.offers_open else None
    ledger = Ledger(run.path / "ledger.jsonl")
    if checkpoint:
        ledger.write("resumed", step=state.step)
    episodes = EpisodePool(
        actor=EngineActor(engine, temperature=config.rollout.temperature),
        search=batcher.search,
        documents=documents,
        protocol=parts.protocol,
        tokenizer=parts.tokenizer,
        limits=config.limits,
        max_concurrent=config.rollout.max_concurrent_episodes,
    )
    rollouts = Rollouts(
        order=QuestionOrder(parts.train_questions, seed=config.seed),
        episodes=episodes,
        units_per_step=config.rollout.questions_per_step,
        samples_per_unit=config.rollout.samples_per_question,
        seed=config.seed,
        max_staleness=config.rollout.max_staleness,
        ledger=ledger,
        version=state.step,
        state=AdmissionState(**state.admission),
    )
    log = MetricsLog(run.path, tracker=config.tracker, config=config.model_dump(mode="json"))
    log.keep_until(state.step if checkpoint else -1)
    store = TrajectoryWriter(run.trajectories) if config.save_trajectories else None
    if store:
        store.keep_until(state.step)
    questions = parts.questions_by_id
    trajectories_seen, dev = state.trajectories, None

    def evaluate() -> Evaluation:
        ask = partial(
            evaluate_policy,
            parts.dev_questions,
            engine=engine,
            search=batcher.search,
            documents=documents,
            protocol=parts.protocol,
            tokenizer=parts.tokenizer,
            limits=config.limits,
            seed=config.seed,
        )
        evaluation, _ = portal.call(ask)
        return evaluation

    try:
        if state.step == 0 and config.evaluate_every:
            dev = evaluate().summary
            log.log(0, {"trajectories": 0, **_prefixed("dev/", dev)})
            progress.step(0, config.steps, _prefixed("dev/", dev))
        for step in range(state.step, config.steps):
            clock = Stopwatch()
            units = portal.call(rollouts.next_units, step, rank, world_size)
            clock.lap("rollout")
            scores = [parts.rewards.score(unit, questions) for unit in units]
            clock.lap("score")
            rows = credit_rows(units, scores, parts)
            clock.lap("credit")
            trajectories = {t.id: t for unit in units for t in unit.trajectories}
            learned = learner.update(rows, trajectories, temperature=config.rollout.temperature)
            learned.pop("seconds")
            clock.lap("update")
            engine.update_weights(learner.named_weights(), version=step + 1)
            portal.call(rollouts.set_version, step + 1)
            clock.lap("sync")

            trajectories_seen += len(trajectories)
            values = {"trajectories": trajectories_seen, **rollout_metrics(units, scores, questions), **learned}
            values.update((f"rewards/{name}/missing", count) for name, count in parts.rewards.missing.items() if count)
            if store:
                extra = turn_scores(units, scores, rows, parts.rewards.weights)
                store.append(step + 1, list(trajectories.values()), extra)
            if config.evaluate_every and ((step + 1) % config.evaluate_every == 0 or step + 1 == config.steps):
                dev = evaluate().summary
                values.update(_prefixed("dev/", dev))
                clock.lap("evaluate")
            values.update(clock.seconds())
            log.log(step + 1, values)
            progress.step(step + 1, config.steps, values)
            if step + 1 == config.steps or (config.checkpoint_every and (step + 1) % config.checkpoint_every == 0):
                save_checkpoint(
                    run.path,
                    CheckpointState(
                        step=step + 1,
                        trajectories=trajectories_seen,
                        rewards=parts.rewards.state_dict(),
                        admission=asdict(portal.call(lambda: rollouts.state)),
                    ),
                    learner,
                    keep=config.keep_checkpoints,
                )
        run.write_model(learner.save_model_folder)
        return TrainResult(model=run.model, steps=config.steps, trajectories=trajectories_seen, dev=dev)
    finally:
        log.close()
        if store:
            store.close()
        portal.call(rollouts.close)
        portal.call(episodes.close)
        portal.call(batcher.close)
        portal.call(engine.close)
        ledger.close()


def credit_rows(units: list[Unit], scores: list[dict[str, Scores]], parts: Parts) -> list[Row]:
    """Rows of all units.

    Raises:
        RolloutFailure: there is none, because of outages or because no reward applies.
    """
    rows = [
        row
        for unit, named in zip(units, scores, strict=True)
        for row in parts.estimator(unit, named, parts.rewards.weights)
    ]
    if not rows:
        trajectories = [t for unit in units for t in unit.trajectories]
        reasons = Counter(t.finish_reason for t in trajectories)
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        if all(reason in NOT_THE_POLICYS_FAULT for reason in reasons):
            advice = "check that the retriever answers, then go on with --resume"
        else:
            advice = "no reward of non-zero weight applies to any of the others; check what `rewards` need and score"
        raise RolloutFailure(f"no trajectory of this step can be learned from ({told}): {advice}")
    return rows


class Stopwatch:
    """Seconds of each phase of a step."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._start = self._last = now()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a phase."""
        now = self._now()
        self._laps[name] = now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Phases and their total under the wall-clock prefix."""
        laps = {**self._laps, "step": self._now() - self._start}
        return {f"{WALL_CLOCK_PREFIX}{name}": round(value, 4) for name, value in laps.items()}


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in values.items()}
