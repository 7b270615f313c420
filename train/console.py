"""What a person sees of a run: a line a step, and under it a bar with the time left."""

from types import TracebackType
from typing import Any, Self

import datasets
import transformers
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from train.plan import Plan
from train.progress import Progress as Listener


class ConsoleProgress(Listener):
    """Prints stages and steps; the bar shows only on a terminal. Of a plan the warnings alone, unless `shows_plan`."""

    def __init__(self, name: str = "train", console: Console | None = None, *, shows_plan: bool = False) -> None:
        self._shows_plan = shows_plan
        self._console = console or Console(highlight=False)
        self._name = name
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> Self:
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def plan(self, plan: Plan) -> None:
        """Print the plan."""
        if self._shows_plan:
            self._console.print(plan.text, soft_wrap=True, markup=False)
            return
        for warning in plan.warnings:
            self.stage(f"warning: {warning}")

    def stage(self, text: str) -> None:
        """Print a stage's name."""
        self._console.print(f"[bold]{escape(self._name)}[/bold] {escape(text)}", soft_wrap=True)

    def step(self, step: int, steps: int, values: dict[str, Any]) -> None:
        """Print one line and move the bar."""
        self._bar.update(self._task, total=steps, completed=step)
        self._console.print(step_line(self._name, step, steps, values), soft_wrap=True, markup=False)


def step_line(name: str, step: int, steps: int, values: dict[str, Any]) -> str:
    """One step in one line; parts that a step does not have are left out."""
    parts = [f"{name} {step:>4}/{steps}"]
    if "em" in values:
        rewards = " ".join(
            f"{key.split('/')[1]} {value:+.2f}"
            for key, value in values.items()
            if key.startswith("rewards/") and key.endswith("/mean") and "exact_match" not in key
        )
        parts.append(f"em {values['em']:.3f}" + (f" {rewards}" if rewards else ""))
        parts.append(f"searches {values['searches']:.1f} answered {values['finish_ratio/answered']:.0%}")
        parts.append(f"loss {values.get('loss', 0.0):+.3f} grad {values.get('grad_norm', 0.0):.2f}")
    if "dev/em" in values:
        parts.append(f"dev em {values['dev/em']:.3f} [{values['dev/em_low']:.2f}, {values['dev/em_high']:.2f}]")
    if "seconds/step" in values:
        rollout, update = values["seconds/rollout"], values["seconds/update"]
        parts.append(f"{values['seconds/step']:.1f} s (rollout {rollout:.1f}, update {update:.1f})")
    return " | ".join(parts)
