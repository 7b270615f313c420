"""One learner process of several: what Ray Train runs in it, and what its end means.

Every rank runs `train.loop.learn` with a door to the sampler's actor (`train.ray_door`). A rank that fails tells that
actor its error before it ends, because what Ray Train tells afterwards is mixed with what the other ranks say of it.
"""

import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from train.assembly import assemble
from train.config import TrainConfig
from train.judge import UnitJudge
from train.judge_outage import JudgeGuard
from train.loop import learn, starting_learner
from train.progress import TrainResult
from train.ranks import Ranks
from train.ray_door import DistantProgress, RayDoor
from train.run_folder import RunFolder
from train.runtime_config import RaySettings

_PEER_IS_GONE = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe", "tcpstore")
"""What is said where a rank cannot reach another one: its end is the reason, not what this one says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended: with a result, with an error for the person, or with a process that is lost, and what was
    `said` of that last, which may be the reason (an interface that NCCL cannot use looks like a peer that is gone).
    """

    result: TrainResult | None = None
    error: BaseException | None = None
    lost: str | None = None
    said: str | None = None


def learner_environment(settings: RaySettings) -> dict[str, str]:
    """Environment variables of a learner's process."""
    threads = str(max(1, int(settings.learner_cpus)))
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), threads)
    return limits if settings.learner_gpus else {**limits, "ACCELERATE_USE_CPU": "true"}


def rank_function(
    config: TrainConfig, run_path: Path, model: str, checkpoint: Path | None, actor: Any
) -> Callable[[], TrainResult]:
    """What Ray Train runs in each learner process: all of them go on from `checkpoint`, or begin."""

    def learn_on_rank() -> TrainResult:
        from ray import train

        context = train.get_context()
        ranks = Ranks(rank=context.get_world_rank(), world_size=context.get_world_size())
        door = RayDoor(actor)
        try:
            ray.get(actor.joined.remote(ranks.rank, ray.get_runtime_context().current_actor))
            return _learn(config, run_path, model, checkpoint, door, ranks)
        except Exception as error:
            error.add_note(f"on learner {ranks.rank}:\n{''.join(traceback.format_tb(error.__traceback__)).rstrip()}")
            door.failed(ranks.rank, portable(error))
            raise

    return learn_on_rank


def _learn(
    config: TrainConfig, run_path: Path, model: str, checkpoint: Path | None, door: RayDoor, ranks: Ranks
) -> TrainResult:
    settings = config.runtime
    assert isinstance(settings, RaySettings)
    if not (run_path / "config.yaml").is_file():
        raise FileNotFoundError(
            f"a learner on {ray.util.get_node_ip_address()} finds no run folder at {run_path}: learners on several "
            "machines read and write checkpoints there, so give an --out on storage that all of them share"
        )
    if not settings.learner_gpus:
        config = config.model_copy(update={"learner": config.learner.model_copy(update={"device": "cpu"})})
    with assemble(config) as parts:
        run = RunFolder.attach(run_path)
        state, learner = starting_learner(config, parts, run, model, checkpoint, ranks)
        progress = DistantProgress(door)
        guard = JudgeGuard.of(
            parts.rewards.rewards,
            config.composition,
            patience_s=config.rollout.outage_patience_s,
            tell=progress.stage,
        )
        judge = UnitJudge(parts.rewards, parts.estimator, parts.questions_by_id, guard=guard)
        return learn(config, parts, run, learner, state, judge, door, progress, ranks)


def outcome_of(error: Exception, failures: Sequence[tuple[int, BaseException]]) -> Outcome:
    """What Ray Train's error means, given what the ranks themselves said before they ended.

    A rank that lost its peer says so; that is no error of its own. What else a rank or the sampler said, a person must
    see. Whatever Ray Train says itself is a loss: of a learner that was starting, of a machine, of its controller.
    """
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    for rank, said in failures:
        if rank < 0 or not is_peers_end(said):
            return Outcome(error=said)
    if not isinstance(error, WorkerGroupError):
        return Outcome(lost="the group of learners", said=f"Ray Train: {_last_line(error)}")
    gone = [rank for rank, why in error.worker_failures.items() if not isinstance(why, UserExceptionWithTraceback)]
    lost = ", ".join(str(rank) for rank in sorted(gone)) or "that another one waited for"
    words = [f"learner {rank}: {_last_line(said)}" for rank, said in failures if isinstance(said, Exception)]
    return Outcome(lost=f"learner {lost}", said=words[-1] if words else None)


def is_peers_end(error: BaseException) -> bool:
    """True if a rank says that it cannot reach another one."""
    if isinstance(error, torch.distributed.DistError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(words in said for words in _PEER_IS_GONE)


def portable(error: BaseException) -> BaseException:
    """The error as it arrives in another process: itself, or where it cannot travel, one with its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
