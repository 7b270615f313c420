"""A training run from its config to its result: parts, plan, folder, starting model, and who learns where."""

import os
from contextlib import ExitStack
from pathlib import Path

from train.assembly import assemble
from train.config import TrainConfig
from train.judge import UnitJudge
from train.judge_outage import JudgeGuard
from train.loop import learn, local_door, starting_learner
from train.plan import make_plan
from train.plan_inputs import inputs_of
from train.policy_start import starting_model
from train.progress import Progress, TrainResult
from train.reward_check import probe_judges
from train.run_folder import RunFolder
from train.runtime_config import RaySettings


def train(config: TrainConfig, out: Path, *, resume: bool = False, progress: Progress | None = None) -> TrainResult:
    """Run, or go on with, one training run in the folder `out`.

    Raises:
        ValueError: (or a subclass) config, data or folder cannot be used; nothing has been spent.
        RolloutFailure: every trajectory of a step ended in an outage, or no reward applies to any.
    """
    progress = progress or Progress()
    refuse_several_processes()
    with assemble(config) as parts, ExitStack() as opened:
        plan = make_plan(config, inputs_of(config, parts))
        plan.check()
        probe_judges(parts.rewards.rewards)
        run = RunFolder.open(out, config, resume=resume, searched=parts.index.identity)
        opened.callback(run.close)
        progress.plan(plan)
        # Also when a run goes on: the reference of the KL term, and what adapters are added to, is where it started.
        model = starting_model(config, parts, run, progress.stage)
        if isinstance(config.runtime, RaySettings):
            from train.ray_runtime import ray_session

            opened.enter_context(ray_session(config.runtime))
            if config.runtime.learners > 1:
                from train.ray_learners import learn_on_ray

                return learn_on_ray(config, parts, run, model, progress)
        state, learner = starting_learner(config, parts, run, model, run.latest_checkpoint())
        guard = JudgeGuard.of(
            parts.rewards.rewards,
            config.composition,
            patience_s=config.rollout.outage_patience_s,
            tell=progress.stage,
        )
        judge = UnitJudge(parts.rewards, parts.estimator, parts.questions_by_id, guard=guard)
        door = opened.enter_context(local_door(config, parts, run, model, state, judge, progress))
        return learn(config, parts, run, learner, state, judge, door, progress)


def refuse_several_processes() -> None:
    """Raises ValueError under a launcher of several processes: Waymark starts its own."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ValueError(
            f"started as one of {processes} processes: start `waymark train` once, without a launcher, and set "
            f"runtime: {{kind: ray, learners: {processes}}}"
        )
