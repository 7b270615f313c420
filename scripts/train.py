"""Train a policy: `waymark train configs/laptop.yaml --out runs/first [rollout.temperature=0.9 ...]`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML config, for example one from configs/.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Dotted overrides, such as learner.learning_rate=1e-4.", metavar="FIELD=VALUE"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out from its last checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the plan, and stop.")] = False,
) -> None:
    """Train with GRPO on process rewards.

    Example: waymark train configs/laptop.yaml steps=20 --out runs/first
    """
    from train.assembly import assemble
    from train.config import load_config
    from train.config_file import ConfigError
    from train.console import ConsoleProgress
    from train.loop import train as run_training
    from train.plan import plan_of

    checked = load_config(config, overrides or [])
    if dry_run:
        with assemble(checked) as parts:
            typer.echo(plan_of(checked, parts))
        return
    if out is None:
        raise ConfigError("--out is missing: name the run folder to write, for example --out runs/first")
    with ConsoleProgress() as progress:
        result = run_training(checked, out, resume=resume, progress=progress)
    typer.echo(f"trained {result.steps} steps on {result.trajectories} trajectories; policy: {result.model}")


if __name__ == "__main__":
    from scripts.cli import run

    run(train)
