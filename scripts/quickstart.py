"""The whole road in one command: `waymark quickstart` (scripts/quickstart.sh installs first, then calls this)."""

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Dotted overrides of the study, such as train.steps=20.", metavar="FIELD=VALUE"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything; a second call goes on where it stopped.")] = Path(
        "runs/quickstart"
    ),
    study: Annotated[Path | None, typer.Option(help="Another study file than the built-in one.")] = None,
    testbed_only: Annotated[
        bool, typer.Option("--testbed-only", help="Make world, index and untrained policy in OUT/testbed, and stop.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Also write the figures here.")
    ] = None,
) -> None:
    """Build a world and an index, train two arms, evaluate them with controls, and write a report.

    Example: waymark quickstart --out runs/quickstart
    """
    import json

    from rich.console import Console
    from transformers.utils import logging

    from train.console import ConsoleProgress
    from train.progress import RunStopped
    from train.quickstart import default_study_path
    from train.quickstart import quickstart as run_quickstart
    from train.study import load_study
    from train.testbed import prepare_testbed

    logging.disable_progress_bar()  # a bar for each load of a small model says nothing
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(f"[bold]quickstart[/bold] {text}", soft_wrap=True)

    if testbed_only:
        settings = load_study(study or default_study_path(), tuple(overrides or ())).testbed
        say(f"the testbed is in {prepare_testbed(settings, out / 'testbed', say).folder}")
        return
    try:
        figures = run_quickstart(
            out,
            study_path=study,
            overrides=tuple(overrides or ()),
            progress_of=lambda name: ConsoleProgress(name, console),
            say=say,
        )
    except RunStopped as error:
        typer.echo(f"waymark: {error}", err=True)
        raise typer.Exit(1) from error
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, summary in {**figures["arms"], **figures["controls"]}.items():
        low, high = summary["em_low"], summary["em_high"]
        console.print(f"{name:>18}  EM {summary['em']:.3f} [{low:.3f}, {high:.3f}]")
    console.print(f"{figures['seconds'] / 60:.1f} minutes; report: {figures['report']}", soft_wrap=True)


if __name__ == "__main__":
    from scripts.cli import run

    run(quickstart)
