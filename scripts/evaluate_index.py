"""Recall of gold supports: `waymark evaluate-index indexes/mine --questions questions.jsonl.gz`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate_index(
    index: Annotated[
        list[str],
        typer.Argument(
            help="Index folder, server (http://...), or .yaml/.json file of a hybrid; several are compared."
        ),
    ],
    questions: Annotated[Path, typer.Option(help="Questions with supporting_ids (jsonl, plain or packed).")],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Only such questions, for example selection=complete."),
    ] = None,
    k: Annotated[str, typer.Option(help="Depths of the recall, separated by commas.")] = "5,10",
    stepwise: Annotated[
        bool, typer.Option(help="Search each gold sub-question, earlier gold answers filled in.")
    ] = False,
    coverage: Annotated[
        bool, typer.Option(help="Also: for what share of the questions the corpus holds supports and answers.")
    ] = False,
    format: Annotated[str | None, typer.Option(help="Question format, or module:object of your own.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures to this file.")
    ] = None,
) -> None:
    """Measure how well an index finds the gold supports of questions, with 95 % intervals; several are compared.

    Example: waymark evaluate-index indexes/musique --questions questions.jsonl.gz --where selection=complete --stepwise

    Example: waymark evaluate-index indexes/bm25 indexes/dense hybrid.yaml --questions questions.jsonl.gz --coverage
    """
    from rich.console import Console

    from envs.datasets import read_questions
    from evaluation.index_report import measure_retrievers
    from evaluation.retrieval_quality import select_questions
    from retrieval.ready import ready_retrievers
    from scripts.assignments import parse_assignments
    from scripts.stages import StageBar

    try:
        depths = [int(depth) for depth in k.split(",")]
    except ValueError:
        raise ValueError(f"--k got {k!r}; write numbers separated by commas, for example 5,10") from None
    selected = select_questions(read_questions(questions, format), parse_assignments(where or [], option="--where"))
    with ready_retrievers(index) as retrievers, StageBar() as bar:
        report = measure_retrievers(
            retrievers,
            selected,
            ks=depths,
            stepwise=stepwise,
            coverage=coverage,
            progress=lambda done, total: bar("searching", done, total),
        )
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    report.print(Console())
    if json_file is not None:
        figures = {**report.figures, "where": where or []}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from scripts.cli import run

    run(evaluate_index)
