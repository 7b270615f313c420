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
    dry_run: Annotated[
        bool, typer.Option(help="Check everything, print the plan and what is missing, and stop.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Run on this Ray cluster: auto, or HOST:6379. Sets runtime to ray; its other settings stay."),
    ] = None,
    autoscaling: Annotated[
        bool, typer.Option("--autoscaling", help="The cluster grows when asked: wait for room, do not refuse.")
    ] = False,
) -> None:
    """Train with GRPO on process rewards.

    Example: waymark train configs/laptop.yaml steps=20 --out runs/first
    """
    from train.config import load_config
    from train.config_file import ConfigError
    from train.console import ConsoleProgress
    from train.plan_cluster import cluster_overrides, connected
    from train.plan_rehearsal import rehearse
    from train.progress import RunStopped
    from train.run import train as run_training

    checked = load_config(config, [*(overrides or []), *cluster_overrides(ray_address)])
    if dry_run:
        rehearse(checked, typer.echo, autoscaling=autoscaling)
        return
    if out is None:
        raise ConfigError("--out is missing: name the run folder to write, for example --out runs/first")
    try:
        with connected(checked, autoscaling=autoscaling), ConsoleProgress(shows_plan=True) as progress:
            result = run_training(checked, out, resume=resume, progress=progress)
    except TimeoutError as error:  # the cluster gave no room, or its actors did not start
        raise ConfigError(str(error) or "an actor of the run did not answer in time") from error
    except RunStopped as error:
        typer.echo(f"waymark: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"trained {result.steps} steps on {result.trajectories} trajectories; policy: {result.model}")


if __name__ == "__main__":
    from scripts.cli import run

    run(train)
