"""Compare methods at equal sampled trajectories: `waymark ablate outcome hops_normalised --seeds 3 --out DIR`."""

from pathlib import Path
from typing import Annotated

import typer


def ablate(
    methods: Annotated[
        list[str],
        typer.Argument(
            help="Methods of configs/methods (or candidates), YAML files of your own, and dotted overrides of the "
            "setting such as testbed.world.seed=7.",
            metavar="METHOD... [FIELD=VALUE...]",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for testbed, cold start, runs, records and report.")],
    setting: Annotated[str, typer.Option(help="A setting of configs/ablation, or a YAML file.")] = "2hops",
    seeds: Annotated[str, typer.Option(help="N for 0 to N-1, FIRST:END, or a list such as 0,3,5.")] = "5",
    budget: Annotated[
        int | None, typer.Option(help="Sampled trajectories of a run. Default: the setting's.", metavar="TRAJECTORIES")
    ] = None,
    workers: Annotated[int, typer.Option(help="Runs at once on this machine; they share its cores.")] = 1,
    ray_address: Annotated[
        str | None, typer.Option(help="Make runs as tasks of this Ray cluster: auto, local, or HOST:6379.")
    ] = None,
    records: Annotated[
        Path | None, typer.Option(help="Folder of the records of finished runs. Default: OUT/records.")
    ] = None,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep the folders of finished runs.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Report the records that are there.")] = False,
    baseline: Annotated[
        str | None,
        typer.Option(help="The method that the others are compared with. Default: outcome.", metavar="METHOD"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Also write the figures here.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write the tables into this page, between its marks.")
    ] = None,
) -> None:
    """Train methods under one setting, several seeds each, and report them beside outcome-only GRPO, or another method.

    A second call goes on where the first one stopped; what has a record is not run again.

    Example: waymark ablate outcome hops_normalised --setting 2hops --seeds 3 --budget 3840 --out runs/ablate
    """
    from transformers.utils import logging

    from train.ablation_report import compare
    from train.ablation_request import AblationRequest
    from train.progress import RunStopped

    logging.disable_progress_bar()
    request = AblationRequest.parse(
        methods,
        setting=setting,
        seeds=seeds,
        budget=budget,
        out=out,
        records=records,
        workers=workers,
        ray_address=ray_address,
        keep_runs=keep_runs,
        report_only=report_only,
        baseline=baseline,
    )
    try:
        text = compare(request, json_file=json_file, markdown=markdown, say=lambda line: typer.echo(line, err=True))
    except RunStopped as error:
        typer.echo(f"waymark: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(text)


if __name__ == "__main__":
    from scripts.cli import run

    run(ablate)
