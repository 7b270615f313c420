"""The training loop, which reads like the algorithm: rollouts, scores, credit, step, weights to the engine, log,
checkpoint.

    units   = door.next_units(step, rank, world_size)        # groups of trajectories, of bounded age
    judged  = judge.judge_step(units)                        # scores by reward name, and the rows of credit
    metrics = learner.update(rows)                           # TRL's loss on them, one optimiser step
    door.publish(learner.named_weights())                    # the next rollouts are on policy

Engine, searches and episodes live on an event loop of their own, on another thread (`train.sampler`), or on Ray; the
learner stays on this one. Every rank of a learner of several processes runs `learn`; the first one logs and saves.
A killed run goes on from its last checkpoint: data order and sampling seeds follow from (seed, step), so the repeated
steps are the same steps.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from agent.trajectory import NOT_THE_POLICYS_FAULT, Unit
from evaluation.turn_scores import turn_scores
from train.assembly import Parts
from train.checkpoint import CheckpointState, admission_of, beginning, rewards_of, save_checkpoint
from train.config import TrainConfig
from train.judge import Judged, UnitJudge
from train.learner import Learner
from train.ledger import Ledger
from train.progress import Progress, Stopwatch, TrainResult
from train.ranks import Ranks
from train.records import Records
from train.rollouts import RolloutFailure
from train.run_folder import RunFolder
from train.runtime import InProcess, Runtime
from train.runtime_config import RaySettings
from train.sampler import Door, LocalDoor, Sampler
from train.step_metrics import composition_metrics, rollout_metrics
from train.watch_record import CollapseStop, refuse_stopped


def starting_learner(
    config: TrainConfig,
    parts: Parts,
    run: RunFolder,
    model: str,
    checkpoint: Path | None,
    ranks: Ranks | None = None,
) -> tuple[CheckpointState, Learner]:
    """The learner where the run begins (`checkpoint` None) or goes on, and the step that it is at.

    Raises:
        CollapseStop: the watch, as it is, has ended the run at `checkpoint`; nothing has been loaded.
    """
    ranks = ranks or Ranks()
    state = beginning(checkpoint)
    refuse_stopped(state.watch, config.watch)
    learner = Learner.create(
        model,
        parts.tokenizer,
        config.learner.model_copy(update={"seed": config.seed}),
        run.path / ".learner",
        total_steps=config.steps,
        trust_remote_code=config.policy.trust_remote_code,
    )
    if checkpoint:
        learner.load_state(checkpoint / "learner")
        parts.rewards.load_state_dict(rewards_of(state))
        if not ranks.is_first and not parts.rewards.is_stateful:
            parts.rewards.missing = dict.fromkeys(parts.rewards.missing, 0)  # the first rank has those of all
    return state, learner


@contextmanager
def local_door(
    config: TrainConfig,
    parts: Parts,
    run: RunFolder,
    model: str,
    state: CheckpointState,
    judge: UnitJudge,
    progress: Progress,
) -> Iterator[Door]:
    """A sampler on a thread of this process, over an engine here or a crew on Ray; closed at the end."""
    with ExitStack() as opened:
        portal = opened.enter_context(start_blocking_portal(name="waymark-rollouts"))
        ledger = Ledger(run.path / "ledger.jsonl")
        opened.callback(ledger.close)
        ledger.resume(state.step)
        runtime: Runtime
        if isinstance(config.runtime, RaySettings):
            from train.ray_runtime import OnRay, crew_name

            runtime = portal.call(
                lambda: OnRay.open(config, parts.index, model, name=crew_name(), tell=progress.stage, ledger=ledger)
            )
        else:
            runtime = InProcess(config, parts, model)
        opened.callback(portal.call, runtime.close)
        admission = admission_of(state, config.rollout.questions_per_step)
        sampler = Sampler(
            config, parts, runtime, judge=judge, ledger=ledger, version=state.step, state=admission, tell=progress.stage
        )
        opened.callback(portal.call, sampler.close)
        yield LocalDoor(sampler, portal)


def learn(
    config: TrainConfig,
    parts: Parts,
    run: RunFolder,
    learner: Learner,
    state: CheckpointState,
    judge: UnitJudge,
    door: Door,
    progress: Progress,
    ranks: Ranks | None = None,
) -> TrainResult:
    """Every step from `state` to the end, on one rank; all ranks call it. Only the first one writes into `run`.

    Raises:
        RolloutFailure: a step has nothing to learn from.
        CollapseStop: the watch has ended the run; its last step is in a checkpoint, but for an update that the watch
            has refused, which nothing keeps.
    """
    ranks = ranks or Ranks()
    questions = parts.questions_by_id
    with ExitStack() as opened:
        records = Records.open(config, run, state, progress) if ranks.is_first else None
        if records:
            opened.callback(records.close)
        publish(door, learner, state.step, ranks)
        if records and state.step == 0 and config.evaluate_every:
            records.dev = door.evaluate(0).summary
            records.log_step(0, records.watched(0, {"trajectories": 0, **_prefixed("dev/", records.dev)}))
        for step in range(state.step, config.steps):
            if is_spent(config, state.trajectories):
                break
            clock = Stopwatch()
            units = door.next_units(step, ranks.rank, ranks.world_size)
            clock.lap("rollout")
            judged = judge_own(units, door, judge, step, parts, ranks)
            clock.lap("score")
            clock.split("score", "credit", judge.take_credit_seconds())
            everything = ranks.gather(list(zip(units, judged, strict=True)))
            refuse_nothing_to_learn(everything, ranks)
            rows = [row for one in chosen(judged, config, ranks) for row in one.rows]
            clock.lap("gather")
            trajectories = {t.id: t for unit in units for t in unit.trajectories}
            with sampling_paused(config, door, learner, ranks):
                learned = learner.update(
                    rows, trajectories, config.rollout.temperature, version=step, probe=config.watch.probes
                )
            learned.pop("seconds")
            refused = config.watch.action == "stop" and ranks.everywhere(bool(records and records.refuses(learned)))[0]
            clock.lap("update")
            weights, logged_weights = parts.rewards.weights, parts.rewards.logged_weights
            factors = parts.rewards.schedule_factors
            parts.rewards.advance()
            asked = judges_everywhere(judge, ranks)
            missing = missing_everywhere(parts, ranks)
            # Now no rank can have asked for units of the next step, which a resume must sample again.
            readings = door.readings() if ranks.is_first else {}
            sampled = in_figures(ranks.everywhere(readings.get("sampled_trajectories", 0.0))[0])
            is_last = step + 1 == config.steps or is_spent(config, sampled)
            saves = is_last or bool(config.checkpoint_every and (step + 1) % config.checkpoint_every == 0)
            may_save = saves or config.watch.action == "stop"
            admission = door.checkpoint() if may_save and ranks.is_first else {}
            if not refused:
                publish(door, learner, step + 1, ranks)
            clock.lap("sync")
            if records:
                units, judged = [unit for unit, _ in everything], [one for _, one in everything]
                scores, raw = [one.scores for one in judged], [one.raw for one in judged]
                readings.pop("sampled_trajectories")
                values: dict[str, Any] = {"trajectories": sampled}
                values.update(
                    rollout_metrics(units, scores, questions, version=step, raw=raw, weights=logged_weights), **learned
                )
                values.update(composition_metrics([one.gates for one in judged], factors))
                values["groups/zero_variance"] = sum(not one.teaches for one in judged)
                values.update(readings)
                for name, count in asked.items():
                    values[name] = values.get(name, 0.0) + count
                values.update((f"rewards/{name}/missing", count) for name, count in missing.items() if count)
                all_rows = [row for one in judged for row in one.rows]
                extra = partial(turn_scores, units, scores, all_rows, weights, raw=raw, logged_weights=logged_weights)
                sampled_now = [t for unit in units for t in unit.trajectories]
                if records.store:
                    records.store.append(step + 1, sampled_now, extra())
                if config.evaluate_every and not refused and (is_last or (step + 1) % config.evaluate_every == 0):
                    records.dev = door.evaluate(step + 1).summary
                    values.update(_prefixed("dev/", records.dev))
                    clock.lap("evaluate")
                values.update(clock.seconds())
                records.log_step(step + 1, records.watched(step + 1, values, sampled_now, extra))
            stop = ranks.everywhere(records.stop if records else None)[0] if config.watch.action == "stop" else None
            if (saves or stop) and not refused:
                rewards = {**parts.rewards.state_dict(), "missing": missing}
                watch = records.watch.state_dict() if records and records.watch else {}
                state = CheckpointState(
                    step=step + 1, trajectories=sampled, rewards=rewards, admission=admission, watch=watch
                )
                # What a stop saves must not push out the checkpoint from before.
                save(run, learner, state, ranks, keep=config.keep_checkpoints + bool(stop))
            if stop:
                raise CollapseStop(stop)
        write_model(run, learner, ranks)
        dev = records.dev if records else None
        return TrainResult(model=run.model, steps=state.step, trajectories=state.trajectories, dev=dev)


@contextmanager
def sampling_paused(config: TrainConfig, door: Door, learner: Learner, ranks: Ranks) -> Iterator[None]:
    """The learner has the memory of engines that share its GPU, where they do; they sample again after `publish`."""
    if not config.engine_sleeps:
        yield
        return
    if ranks.is_first:
        door.pause()
    ranks.barrier()
    yield
    learner.release_memory()
    ranks.barrier()
    if ranks.is_first:
        door.resume()


def publish(door: Door, learner: Learner, version: int, ranks: Ranks) -> None:
    """Give the engines this version's weights; ranks that hold only shards of them all take part."""
    if ranks.is_first:
        door.publish(learner.named_weights(), version)
    else:
        learner.attend_reading(state=False)
    ranks.barrier()


def save(run: RunFolder, learner: Learner, state: CheckpointState, ranks: Ranks, *, keep: int) -> None:
    """Write the checkpoint after a step."""
    if ranks.is_first:
        save_checkpoint(run.path, state, learner, keep=keep)
    else:
        learner.attend_reading(state=True)
    ranks.barrier()


def write_model(run: RunFolder, learner: Learner, ranks: Ranks) -> None:
    """Write the trained policy."""
    if ranks.is_first:
        run.write_model(learner.save_model_folder)
    else:
        learner.attend_reading(state=False)
    ranks.barrier()


def judge_own(
    units: Sequence[Unit], door: Door, judge: UnitJudge, step: int, parts: Parts, ranks: Ranks
) -> list[Judged]:
    """Scores and rows of a rank's units. A reward that keeps a state sees every unit of the step on every rank, in the
    same order, so that its state is that of one process.
    """
    if ranks.world_size == 1 or not parts.rewards.is_stateful:
        return judge.judge_step(units, step)
    everything = judge.judge_step(door.next_units(step, 0, 1), step)
    return everything[ranks.rank :: ranks.world_size]


def missing_everywhere(parts: Parts, ranks: Ranks) -> dict[str, int]:
    """Trajectories of which a reward said nothing, by reward, over all ranks' units so far."""
    own = parts.rewards.missing
    if parts.rewards.is_stateful:
        return dict(own)
    of_ranks = ranks.everywhere(own)
    return {name: sum(missing[name] for missing in of_ranks) for name in own}


def judges_everywhere(judge: UnitJudge, ranks: Ranks) -> dict[str, float]:
    """What all ranks asked of judges in this step, as figures; empty where no reward has a judge."""
    reading = judge.take_reading()
    if reading is None:
        return {}
    of_ranks = [one.metrics() for one in ranks.everywhere(reading)]
    return {name: sum(figures[name] for figures in of_ranks) for name in of_ranks[0]}


def chosen(judged: Sequence[Judged], config: TrainConfig, ranks: Ranks) -> list[Judged]:
    """Units that enter the step: with `drop`, those that teach something, if there are any on any rank."""
    if config.rollout.zero_variance != "drop":
        return list(judged)
    teaching = [one for one in judged if one.teaches]
    return teaching if any(ranks.everywhere(bool(teaching))) else list(judged)


def refuse_nothing_to_learn(everything: Sequence[tuple[Unit, Judged]], ranks: Ranks) -> None:
    """See that a step has a row, on the rank that knows all of them.

    Raises:
        RolloutFailure: there is none, because of outages, of failed verdicts, or because no reward applies.
    """
    if not ranks.is_first or any(judged.rows for _, judged in everything):
        return
    reasons = Counter(t.finish_reason for unit, _ in everything for t in unit.trajectories)
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    if all(reason in NOT_THE_POLICYS_FAULT for reason in reasons):
        advice = "check that the retriever answers, then go on with --resume"
    elif num_failed := sum(judged.num_failed for _, judged in everything):
        advice = f"of {num_failed} of them a judge's verdict failed; see that it answers, then go on with --resume"
    else:
        advice = "no reward of non-zero weight applies to any of the others; check what `rewards` need and score"
    raise RolloutFailure(f"no trajectory of this step can be learned from ({told}): {advice}")


def is_spent(config: TrainConfig, sampled: float) -> bool:
    """True if the run has sampled as many trajectories as it may."""
    return config.max_trajectories is not None and sampled >= config.max_trajectories


def in_figures(episodes: float) -> float:
    """Whole episodes as a figure: a whole number where it is one, else to the thousandth."""
    return int(episodes) if episodes == int(episodes) else round(episodes, 3)


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in values.items()}
