"""What the first rank writes while a run goes."""

from dataclasses import dataclass, field
from typing import Any

from evaluation.trajectory_store import TrajectoryWriter
from train.checkpoint import CheckpointState
from train.config import TrainConfig
from train.progress import Progress
from train.run_folder import RunFolder
from train.tracking import MetricsLog


@dataclass(kw_only=True)
class Records:
    """Metrics, trajectories and progress of one run."""

    log: MetricsLog
    store: TrajectoryWriter | None
    progress: Progress
    steps: int
    dev: dict[str, Any] | None = field(default=None)

    @classmethod
    def open(cls, config: TrainConfig, run: RunFolder, state: CheckpointState, progress: Progress) -> "Records":
        """Open the run's files, cut off behind the step that the run is at."""
        log = MetricsLog(run.path, tracker=config.tracker, config=config.model_dump(mode="json"))
        log.keep_until(state.step if state.step else -1)
        store = None
        if config.save_trajectories:
            bound = None if config.trajectories_gb is None else int(config.trajectories_gb * 1e9)
            store = TrajectoryWriter(run.trajectories, max_bytes=bound, tell=progress.stage)
            store.keep_until(state.step)
        return cls(log=log, store=store, progress=progress, steps=config.steps)

    def log_step(self, step: int, values: dict[str, Any]) -> None:
        """Write the figures of a step, and show them."""
        self.log.log(step, values)
        self.progress.step(step, self.steps, values)

    def close(self) -> None:
        """Close the files."""
        self.log.close()
        if self.store:
            self.store.close()
