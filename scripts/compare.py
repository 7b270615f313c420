"""Compare evaluations on the same questions: `waymark compare evaluations/first evaluations/second`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of `waymark evaluate` (or their evaluation.json), or folders with one such folder for each "
            "question set. The first is the baseline. One alone is reported.",
            metavar="RUN...",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, report.json and report.csv.")] = None,
    measures: Annotated[str, typer.Option(help="Figures to test, by commas; the first ranks.")] = "em,f1",
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Rank although this field differs, which is then stated. Repeatable."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Versions, hardware, commit and seeds must agree too.")
    ] = False,
    common_questions: Annotated[
        bool,
        typer.Option(
            "--common-questions", help="Compare the questions that all runs have, and say which are left out."
        ),
    ] = False,
    curves: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Training runs whose curves the page shows too. Repeatable."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of significance, after Holm's correction.")] = 0.05,
    power: Annotated[float, typer.Option(help="Power for the numbers of questions.")] = 0.8,
    difference: Annotated[
        list[float] | None,
        typer.Option(metavar="D", help="Tell how many questions this difference needs (0.02 is 2 points). Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of resampling.")] = 0,
    pairs: Annotated[int, typer.Option(help="Regressions that the page shows with both trajectories.", min=0)] = 20,
    viewer: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of a `waymark view` of the runs: regressions link to it."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Test which of several evaluations is better, say what else differs, and refuse to rank what is not alike.

    Example: waymark compare evaluations/outcome evaluations/turn --out comparisons/turn

    Example: waymark compare evaluations/k3 evaluations/k5 --allow top_k --measures em,f1,support_recall
    """
    from rich.console import Console

    from evaluation.comparison import POINTS, compare_runs, refusal
    from evaluation.comparison_console import print_comparison
    from evaluation.comparison_record import comparison_record
    from evaluation.comparison_report import write_comparison
    from evaluation.evaluation_suite import read_suites
    from evaluation.training_curve import training_arms
    from evaluation.trajectory_record import plain

    arms = training_arms(curves or [])
    comparison = compare_runs(
        read_suites(runs),
        measures=[name.strip() for name in measures.split(",") if name.strip()],
        allow=allow or [],
        strict=strict,
        common_only=common_questions,
        alpha=alpha,
        power=power,
        points=difference or POINTS,
        seed=seed,
    )
    page = None
    if out is not None:
        page = write_comparison(out, comparison, arms=arms, num_pairs=pairs, viewer=viewer)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(plain(comparison_record(comparison)), indent=2) + "\n", encoding="utf-8")
    print_comparison(comparison, Console(), page)
    if (message := refusal(comparison)) is not None:
        raise ValueError(message)


if __name__ == "__main__":
    from scripts.cli import run

    run(compare)
