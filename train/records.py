"""What the first rank writes while a run goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.trajectory import Trajectory
from evaluation.trajectory_store import TrajectoryWriter
from train.checkpoint import CheckpointState
from train.config import TrainConfig
from train.progress import Progress
from train.run_folder import RunFolder
from train.tracking import MetricsLog
from train.watch_record import WatchRecord, drop_later


@dataclass(kw_only=True)
class Records:
    """Metrics, trajectories, progress and the collapse watch of one run."""

    log: MetricsLog
    store: TrajectoryWriter | None
    watch: WatchRecord | None
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
        watch = None
        if config.watch.action == "off":
            drop_later(run.path, state.step)
        else:
            watch = WatchRecord(config.watch, run.path, state=state.watch, step=state.step, tell=progress.stage)
        return cls(log=log, store=store, watch=watch, progress=progress, steps=config.steps)

    def log_step(self, step: int, values: dict[str, Any]) -> None:
        """Write the figures of a step, and show them."""
        self.log.log(step, values)
        self.progress.step(step, self.steps, values)

    def watched(
        self,
        step: int,
        values: dict[str, Any],
        trajectories: Sequence[Trajectory] = (),
        extra: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    ) -> dict[str, Any]:
        """The figures of a step after the watch has read them, with its own; see `WatchRecord.observe`."""
        if self.watch:
            self.watch.observe(step, values, trajectories, extra)
        return values

    def refuses(self, learned: Mapping[str, Any]) -> bool:
        """True if the watch ends the run before the engines get the update that these figures tell of."""
        return self.watch is not None and self.watch.refuses(learned)

    @property
    def stop(self) -> str | None:
        """Why the watch ends the run with this step, or None."""
        return self.watch.stop if self.watch else None

    def close(self) -> None:
        """Close the files."""
        self.log.close()
        if self.store:
            self.store.close()
