"""How a learner's process talks to the sampler's actor: the door of every rank, and its way to the person who waits."""

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayTaskError

from agent.trajectory import Unit
from envs.packed_weights import SharedWeights, pack
from evaluation.metrics import Evaluation
from train.progress import Progress
from train.sampler import NamedWeights


class RayDoor:
    """A `train.sampler.Door` to the sampler in another process. What the sampler raises is raised here as it is."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._shared: SharedWeights | None = None

    def next_units(self, step: int, rank: int, world_size: int) -> list[Unit]:
        """See `Sampler.next_units`."""
        units: list[Unit] = self._wait(self._actor.next_units.remote(step, rank, world_size))
        return units

    def publish(self, named: NamedWeights, version: int) -> None:
        """See `Sampler.publish`. The weights go to Ray's object store here, and no further than to the engines."""
        before = self._shared
        self._shared = SharedWeights(reference=[ray.put(pack(named))])
        self._wait(self._actor.publish.remote(self._shared, version))
        del before  # until now a replaced engine could have been told of them

    def pause(self) -> None:
        """See `Sampler.pause`."""
        self._wait(self._actor.pause.remote())

    def resume(self) -> None:
        """See `Sampler.resume`."""
        self._wait(self._actor.resume.remote())

    def evaluate(self, step: int) -> Evaluation:
        """See `Sampler.evaluate`."""
        evaluation: Evaluation = self._wait(self._actor.evaluate.remote(step))
        return evaluation

    def checkpoint(self) -> dict[str, Any]:
        """See `Sampler.checkpoint`."""
        state: dict[str, Any] = self._wait(self._actor.checkpoint.remote())
        return state

    def readings(self) -> dict[str, float]:
        """See `Sampler.readings`."""
        figures: dict[str, float] = self._wait(self._actor.readings.remote())
        return figures

    def tell(self, line: str) -> None:
        """One line for whoever follows the run."""
        self._wait(self._actor.tell.remote(("stage", line)))

    def tell_step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        """A step has been logged."""
        self._wait(self._actor.tell.remote(("step", step, steps, values)))

    def failed(self, rank: int, error: BaseException) -> None:
        """A rank ends with this error."""
        self._wait(self._actor.failed.remote(rank, error))

    @staticmethod
    def _wait(answer: Any) -> Any:
        try:
            return ray.get(answer)
        except RayTaskError as error:
            raise error.cause from None


class DistantProgress(Progress):
    """Tells another process, which shows it."""

    def __init__(self, door: RayDoor) -> None:
        self._door = door

    def stage(self, text: str) -> None:
        """See `Progress.stage`."""
        self._door.tell(text)

    def step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        """See `Progress.step`."""
        self._door.tell_step(step, steps, values)


Told = tuple[str, *tuple[Any, ...]]
"""("stage", line) or ("step", step, steps, values)."""


def show(progress: Progress, told: Told) -> None:
    """Pass on what a `DistantProgress` told."""
    kind, *what = told
    shown: Callable[..., None] = progress.stage if kind == "stage" else progress.step
    shown(*what)
